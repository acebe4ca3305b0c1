"""What is timed besides other libraries: instep's Adam, the limit, and the formula in NumPy."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from time import perf_counter
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

import instep
from instep import _instep, reference
from instep.bench.turns import Clock, clock

__all__ = [
    *("OURS", "Arrays", "Contestant", "Instep", "InstepInside", "Limit", "NumPy", "OneByOne"),
    *("joined", "listed"),
]

Array = NDArray[Any]
Arrays: TypeAlias = Array | list[Array]
EpsMode: TypeAlias = Literal["inside", "outside", "hat", "scaled"]

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def listed(arrays: Arrays) -> list[Array]:
    """Return a list of arrays as it is, and one array as a list."""
    return arrays if isinstance(arrays, list) else [arrays]


def joined(arrays: Sequence[Array]) -> Array:
    """Return the elements of a list of arrays, and those of one without a copy."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


class Contestant(ABC):
    """Adam on one array, from moments of zero, with the defaults of most libraries.

    Parameters
    ----------
    p, g : ndarray
        The parameter and its gradient, both the contestant's own from now on. Lists of such, if
        the contestant takes lists.
    threads : int
        How many threads a step may run on.

    Raises
    ------
    ImportError
        The library is not installed.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("instep",)
    """The packages on whose versions its time depends."""
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    needs_all_threads: ClassVar[bool] = False
    """Whether the number of its threads can't be chosen while the process runs."""
    takes_lists: ClassVar[bool] = False
    """Whether one step of it may be over many arrays."""
    prepares: ClassVar[bool] = False
    """Whether something is done before every step that is not timed."""
    eps_mode: ClassVar[EpsMode | None] = None
    """The form of Adam that it computes, as `instep.Adam` names them; None for what is no Adam."""

    @abstractmethod
    def __init__(self, p: Array, g: Array, threads: int) -> None: ...

    @abstractmethod
    def step(self) -> object:
        """Do one step, and return when it is done."""

    @abstractmethod
    def arrays(self) -> tuple[Array, Array, Array]:
        """Return the parameter and its two moments as they are now."""

    def prepare(self) -> object:
        """Do what is done before a step, untimed."""
        return None

    def clock(self) -> Clock:
        """Return what times its steps."""
        return self._seconds if self.prepares else clock(self.step)

    def _seconds(self, number: int) -> float:
        seconds = 0.0
        for _ in range(number):
            self.prepare()
            start = perf_counter()
            self.step()
            seconds += perf_counter() - start
        return seconds


class Instep(Contestant):
    """`instep.Adam` as it is made by default."""

    name = "instep"
    takes_lists = True
    eps_mode: ClassVar[EpsMode] = "scaled"

    def __init__(self, p: Arrays, g: Arrays, threads: int) -> None:
        self.p, self.g = p, g
        self.opt = instep.Adam(p, LR, (BETA1, BETA2), EPS, eps_mode=self.eps_mode)
        instep.set_num_threads(threads)

    def step(self) -> None:
        self.opt.step(self.g)

    def arrays(self) -> tuple[Array, Array, Array]:
        states = list(self.opt.state.values())
        m, v = (joined([arrays[name] for arrays in states]) for name in ("m", "v"))
        return joined(listed(self.p)), m, v


class InstepInside(Instep):
    """`instep.Adam` with the arithmetic of the course code."""

    name = "instep, eps inside"
    eps_mode = "inside"


class Limit(Contestant):
    """The bytes of Adam moved by instep's own sweep, with an addition in the place of the rule."""

    name = "limit"

    def __init__(self, p: Array, g: Array, threads: int) -> None:
        self.p, self.m, self.v = p, np.zeros_like(p), np.zeros_like(p)
        self.call: Any = ((), (p,), (g,), ((self.m,), (self.v,)), self._describe)
        self.recipe = _instep.Recipe("limit_2")
        instep.set_num_threads(threads)

    def step(self) -> None:
        self.recipe.step(*self.call)

    def arrays(self) -> tuple[Array, Array, Array]:
        return self.p, self.m, self.v

    @staticmethod
    def _describe(_group: int, role: int, index: int) -> str:
        return f"array {index} of role {role}"


class NumPy(Contestant):
    """The course code's formula of one array, a NumPy expression each: on one thread always."""

    name = "NumPy"
    packages = ("numpy",)
    eps_mode = "inside"

    def __init__(self, p: Array, g: Array, threads: int) -> None:
        self.p, self.g, self.m, self.v = p, g, np.zeros_like(p), np.zeros_like(p)
        self.t = 0

    def step(self) -> None:
        self.t += 1
        self.p, self.m, self.v = reference.adam_inside(
            self.p,
            self.g,
            self.m,
            self.v,
            lr=LR,
            beta1=BETA1,
            beta2=BETA2,
            eps=EPS,
            beta1_power=BETA1**self.t,
            beta2_power=BETA2**self.t,
        )

    def arrays(self) -> tuple[Array, Array, Array]:
        return self.p, self.m, self.v


class OneByOne(Contestant):
    """A contestant for each of many arrays, one after the other.

    Parameters
    ----------
    each : list of Contestant
        All of one kind.
    """

    def __init__(self, each: Sequence[Contestant]) -> None:
        self.each = each
        self.name, self.prepares = each[0].name, each[0].prepares  # type: ignore[misc]

    def step(self) -> None:
        for one in self.each:
            one.step()

    def prepare(self) -> None:
        for one in self.each:
            one.prepare()

    def arrays(self) -> tuple[Array, Array, Array]:
        p, m, v = map(joined, zip(*(one.arrays() for one in self.each), strict=True))
        return p, m, v


OURS: tuple[type[Contestant], ...] = (Instep, InstepInside, Limit, NumPy)
