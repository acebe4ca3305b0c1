"""How parameters and states are stored: the options, their checks, and the arrays for them.

`instep.codecs` has the arithmetic.
"""

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from instep import codecs
from instep.checks import check_dtype, check_integer, check_keys, check_mode

if TYPE_CHECKING:
    from instep import _instep

__all__ = [
    "BESIDE",
    "FIRST_EXPONENTS",
    "NO_STORAGE",
    "Bits",
    "Master",
    "StateDtype",
    "Storage",
    "Stored",
    "as_bits",
    "check_saved",
    "exponents_of",
]

Master: TypeAlias = Literal["split", "float32"]
StateDtype: TypeAlias = Literal["float32", "bfloat16", "8bit"]
Bits: TypeAlias = Literal["bfloat16"]

_BUILT = """\
wanted one of
    float32 or float64 parameters, as they are
    float32 parameters, state_dtype="bfloat16"
    bfloat16 parameters, state_dtype="float32" or "bfloat16": rounded stochastically
    bfloat16 parameters, master="split", state_dtype="float32" or "bfloat16"
    float16 parameters, master="float32", state_dtype="float32" or "bfloat16"
    any of those of 32 or 16 bits, state_dtype="8bit", for the rules that have it"""

_WITH_CODES = ("adam", "nadam", "radam", "adamax", "rmsprop", "gradient", "momentum", "lion")
"""How the names begin of the recipes whose states may be stored in 8 bits."""

_NEVER_NEGATIVE = ("v", "v_max", "u")
"""Their states that have no sign."""

_NAMES = {"split": "p_low", "float32": "p_master"}

FIRST_EXPONENTS = 8
"""The role of the exponents of the first state in 8 bits, which come after all whole arrays."""

BESIDE = frozenset(_NAMES.values())
"""What is among the states of a parameter, and is none of its rule."""


class Storage:
    """The storage options of an optimizer: see the parameters of `Optimizer`."""

    def __init__(
        self,
        master: Master | None,
        state_dtype: StateDtype,
        seed: int,
        bits: Bits | None,
    ) -> None:
        check_mode("master", master, (None, "split", "float32"))
        check_mode("state_dtype", state_dtype, ("float32", "bfloat16", "8bit"))
        check_mode("bits", bits, (None, "bfloat16"))
        check_seed("seed", seed)
        self.master = master
        self.state_dtype = state_dtype
        self.bits = bits

    def options(self) -> dict[str, Any]:
        """Return the options, without the seed."""
        return {"master": self.master, "state_dtype": self.state_dtype, "bits": self.bits}

    def of(self, label: str, name: str, array: NDArray[Any]) -> "Stored | None":
        """Return how a parameter is stored; None for one whose arrays are all of its own dtype.

        Raises
        ------
        TypeError
            An array of a dtype that no step has, or not with these options.
        """
        kind = self._kind(array.dtype)
        if kind is None or (kind, self.master, self.state_dtype) == ("float16", None, "float32"):
            check_dtype(label, array)
        if kind in (None, "float32") and self.state_dtype == "float32":
            return None
        master = None if kind == "float32" else self.master
        if (kind, master) in _PAIRS:
            return Stored(name, array.dtype.name, master, self._states())
        raise TypeError(
            f"{label} has dtype {array.dtype.name} with master={self.master!r}, "
            f"state_dtype={self.state_dtype!r} and bits={self.bits!r}; {_BUILT}"
        )

    def _kind(self, dtype: np.dtype[Any]) -> str | None:
        """Return the kind of numbers in an array, if any storage has it."""
        if dtype == np.float32 or dtype == np.float16:
            return dtype.name if dtype.isnative else None
        if dtype == np.uint16 and dtype.isnative:
            return self.bits
        if dtype.name == "bfloat16" and dtype.type.__module__ == "ml_dtypes":
            return "bfloat16"
        return None

    def _states(self) -> str:
        """Return the name of the dtype of the states of a parameter."""
        if self.state_dtype == "8bit":
            return "uint8"
        return "uint16" if self.state_dtype == "bfloat16" and self.bits else self.state_dtype

    def is_used(self, array: Any) -> bool:
        """Return whether an array has 16 bits, or its states have other bits than float32."""
        is_plain = self.master is None and self.state_dtype == "float32"
        return isinstance(array, np.ndarray) and (array.dtype.itemsize == 2 or not is_plain)

    def beside(self, states: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of what there is beside a parameter that has the master, and states."""
        master = () if self.master is None else (_NAMES[self.master],)
        codes = states if self.state_dtype == "8bit" else ()
        return *master, *map(exponents_of, codes)

    def check_use(self, all_stored: "list[Stored | None]") -> None:
        """Check that there is an array for each option."""
        if self.master is not None and not any(each and each.master for each in all_stored):
            raise ValueError(
                f"master is {self.master!r}, and no parameter has 16 bits; wanted None, or "
                "parameters of bfloat16 or float16"
            )


def check_saved(saved: Any, own: Storage) -> int:
    """Return the seed of a saved storage, if it is that of an optimizer."""
    check_keys("storage", saved, (*own.options(), "seed"))
    for option, value in own.options().items():
        if saved[option] != value:
            raise ValueError(
                f"storage[{option!r}] is {saved[option]!r}; wanted {value!r}: make the optimizer "
                "with the same options"
            )
    check_seed("storage['seed']", saved["seed"])
    return int(saved["seed"])


def check_seed(name: str, seed: Any) -> None:
    """Check that a number can be the seed of the random numbers."""
    check_integer(name, seed, least=0)
    if seed >= 2**64:
        raise ValueError(f"{name} is {seed}; wanted less than 2**64")


_PAIRS = {
    ("float32", None),
    ("bfloat16", None),
    ("bfloat16", "split"),
    ("float16", "float32"),
}
"""What the numbers of a parameter are, and what there is beside it."""


def as_bits(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of bfloat16 as one of uint16, and any other as it is."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


class Stored:
    """How one parameter is stored.

    Parameters
    ----------
    name : str
        That of the parameter, from which its random numbers follow.
    parameter, states : str
        The names of the dtypes.
    master : str or None
        What there is beside the parameter.
    """

    first = 0
    """The number of the first element, where the array is a part of a larger one."""

    order: tuple[tuple[int, int], ...] = ()
    """The axes of the larger one, the outermost in memory first: their lengths, and how far apart
    the places of their elements are. Empty if they are in C order, where numbers are places."""

    never_negative: tuple[bool, ...] = ()
    """Of each state in 8 bits whether it has no sign."""

    def __init__(self, name: str, parameter: str, master: str | None, states: str) -> None:
        self.name = name
        self.parameter = parameter
        self.master = master
        self.states = states
        self._know()

    def _know(self) -> None:
        """Tell compiled steps about bfloat16, if there are such arrays."""
        if "bfloat16" in (self.parameter, self.states):
            from instep import ml_dtypes  # noqa: F401

    @property
    def has_codes(self) -> bool:
        """Whether the states have 8 bits."""
        return self.states == "uint8"

    def take_states(self, recipe: str, states: tuple[str, ...]) -> None:
        """Know the states of a recipe.

        Raises
        ------
        TypeError
            A recipe whose states can't have 8 bits, where these have.
        """
        if not self.has_codes:
            return
        is_own = " " in recipe
        if is_own or recipe.split("_")[0] not in _WITH_CODES or "centered" in recipe:
            raise TypeError(
                f"state_dtype is '8bit', which {recipe.split(' ')[0]} does not have; wanted "
                "'float32' or 'bfloat16', or one of Adam, AdamW, NAdam, RAdam, Adamax, RMSprop "
                "without centered, SGD and Lion"
            )
        self.never_negative = tuple(state in _NEVER_NEGATIVE for state in states)

    def part(self, first: int, array: NDArray[Any], axes: list[int]) -> "Stored":
        """Return how some elements of an array are stored, from a number on in memory's order.

        `axes` are those of the array, from the outermost in memory to the innermost.
        """
        own = Stored(self.name, self.parameter, self.master, self.states)
        own.first = first
        axes = [axis for axis in axes if array.shape[axis] > 1]
        if axes != sorted(axes):
            steps = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
            own.order = tuple((array.shape[axis], steps[axis]) for axis in axes)
        return own

    def places(self, shape: tuple[int, ...]) -> NDArray[np.integer[Any]]:
        """Return the places of the elements of an array, or of a part."""
        numbers = self.first + np.arange(math.prod(shape)).reshape(shape)
        if not self.order:
            return numbers
        places = np.zeros_like(numbers)
        for length, step in reversed(self.order):
            places += numbers % length * step
            numbers //= length
        return places

    def said(self, count: int) -> "_instep._Storage":
        """Return what a compiled stepper takes, for a parameter with so many states."""
        self._know()
        places = codecs.stream(self.name, 0), self.first, self.order
        signs = self.never_negative or (False,) * count
        return self.parameter, self.states, self.master, signs, places

    def said_of(self, recipe: str, states: tuple[str, ...]) -> "_instep._Storage":
        """Return the same for one whose states were not made here."""
        self.take_states(recipe, states)
        return self.said(len(states))

    def numbers(self, array: NDArray[Any], low: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the float32 numbers of an array, and of what there is beside it, in C order."""
        if low is not None and low.dtype == np.int16:
            return codecs.from_split(array, low)
        if low is not None:
            return np.array(low, order="C")
        if array.dtype.itemsize == 4 or array.dtype == np.float16:
            return np.array(array, np.float32, order="C")
        return codecs.from_bfloat16(array)

    @staticmethod
    def load(array: NDArray[Any], numbers: NDArray[np.float32]) -> None:
        """Write the numbers of an array, whatever its dtype, into one of float32."""
        if array.dtype.itemsize == 4 or array.dtype == np.float16:
            numbers[...] = array
        else:
            np.left_shift(as_bits(array), 16, out=numbers.view(np.uint32), dtype=np.uint32)

    @property
    def beside_names(self) -> tuple[str, ...]:
        """The names of what there is beside a parameter and its states."""
        return () if self.master is None else (_NAMES[self.master],)

    def dtypes(self, count: int) -> list[np.dtype[Any]]:
        """Return the dtypes of so many states, and of what there is beside them."""
        state: np.dtype[Any]
        if self.states == "bfloat16":
            from instep import ml_dtypes

            state = ml_dtypes.BFLOAT16
        else:
            state = np.dtype(self.states)
        beside = np.dtype(np.int16 if self.master == "split" else np.float32)
        return [state] * count + [beside] * len(self.beside_names)

    def state(self, array: NDArray[Any], numbers: Any, number: int, seed: int) -> NDArray[Any]:
        """Return a new state like a parameter, with these numbers in it, rounded as of step 0."""
        state = np.zeros_like(array, self.dtypes(1)[0], subok=False)
        numbers = np.broadcast_to(np.asarray(numbers, np.float32), array.shape)
        if state.dtype.itemsize == 4:
            state[...] = numbers
        elif numbers.view(np.uint32).any():  # -0 stays -0
            random = codecs.state_noise(seed, 0, self.name, number, self.places(array.shape))
            state.view(np.uint16)[...] = codecs.to_bfloat16(numbers, random)
        return state

    def codes(
        self, array: NDArray[Any], numbers: Any, number: int, seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a new state in 8 bits, in C order, and its exponents."""
        numbers = np.broadcast_to(np.asarray(numbers, np.float32), array.shape)
        random = codecs.noise(
            seed, 0, codecs.stream(self.name, 2 + number), self.places(array.shape)
        )
        return codecs.to_codes(numbers, random, signed=not self.never_negative[number])

    def decoded(self, states: dict[str, NDArray[Any]], of_rule: tuple[str, ...]) -> dict[str, Any]:
        """Return the float32 numbers of the states of a rule, in C order."""
        if not self.has_codes:
            return {state: self.numbers(states[state]) for state in of_rule}
        return {
            state: codecs.from_codes(
                states[state], states[exponents_of(state)], signed=not never_negative
            )
            for state, never_negative in zip(of_rule, self.never_negative, strict=True)
        }

    def beside(self, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return what there is beside a new parameter and its states, by name."""
        found = {}
        for name, dtype in zip(self.beside_names, self.dtypes(0), strict=True):
            found[name] = np.zeros_like(array, dtype, subok=False)
            if self.master == "float32":
                found[name][...] = array
        return found


def exponents_of(state: str) -> str:
    """Return the name of the exponents of a state in 8 bits."""
    return f"{state}_scale"


NO_STORAGE = Storage(None, "float32", 0, None)
"""What there is without options."""
