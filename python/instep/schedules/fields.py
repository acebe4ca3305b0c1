"""The fields of a schedule: each is checked, and stored as Python's own type."""

from instep.checks import check_flag, check_integer, check_number


def set_field(schedule: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass that is being made."""
    object.__setattr__(schedule, name, value)


def check_rate(name: str, number: object) -> float:
    """Check that a number is finite and not negative; return it as a float."""
    return check_number(name, number) + 0.0  # -0.0 becomes 0.0


def check_rates(schedule: object, *names: str) -> None:
    """Check the fields of these names, and make them floats."""
    for name in names:
        set_field(schedule, name, check_rate(name, getattr(schedule, name)))


def check_count(schedule: object, name: str, least: int) -> None:
    """Check the field of this name, and make it an int."""
    check_integer(name, getattr(schedule, name), least=least)
    set_field(schedule, name, int(getattr(schedule, name)))


def check_flags(schedule: object, *names: str) -> None:
    """Check the fields of these names, and make them bools."""
    for name in names:
        set_field(schedule, name, check_flag(name, getattr(schedule, name)))


def require(met: bool, name: str, value: object, wanted: str) -> None:
    """Refuse a value that does not meet what is wanted."""
    if not met:
        raise ValueError(f"{name} is {value!r}; wanted {wanted}")
