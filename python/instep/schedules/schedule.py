"""The base of all schedules."""

from instep.checks import check_integer


class CheckedSchedule:
    """What all schedules share: the checks of the arguments and of the step number."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Check the arguments, and make them Python's own numbers."""
        self._check()

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            The number of the step, counted from 0.

        Returns
        -------
        float
            The learning rate, finite and not negative.

        Raises
        ------
        TypeError
            A step that is not an integer.
        ValueError
            A step less than 0.
        """
        if type(step) is not int or step < 0:
            check_integer("step", step, least=0)
            step = int(step)
        return self._rate(step)

    def _check(self) -> None:
        raise NotImplementedError

    def _rate(self, step: int) -> float:
        raise NotImplementedError
