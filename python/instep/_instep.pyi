from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypedDict, final

from numpy.typing import NDArray

from instep.rows import Rows

_Tuple: TypeAlias = tuple[NDArray[Any], ...]
# Parameters, each state, averages if there are any.
_Own: TypeAlias = tuple[_Tuple, tuple[_Tuple, ...], _Tuple | None]
# Recipe, its numbers, and sign, weight decay, shrinking and averaging around it.
_Work: TypeAlias = tuple[Recipe, tuple[float, ...], tuple[float, float, float, float | None]]

class _Config(TypedDict):
    version: str
    isa: str
    isa_available: list[str]
    threads: int
    profile: str

__all__ = ["Recipe", "Stepper", "config", "get_num_threads", "recipes", "set_num_threads"]

@final
class Recipe:
    def __new__(cls, name: str, isa: str | None = None) -> Recipe: ...
    @property
    def name(self) -> str: ...
    @property
    def hypers(self) -> tuple[str, ...]: ...
    @property
    def states(self) -> tuple[str, ...]: ...
    @property
    def isa(self) -> str: ...
    def step(
        self,
        hypers: tuple[float, ...],
        params: _Tuple,
        grads: _Tuple,
        states: tuple[_Tuple, ...],
        describe: Callable[[int, int, int], str],
        /,
    ) -> None: ...

@final
class Stepper:
    def __new__(cls, groups: Sequence[_Own], t: int) -> Stepper: ...
    t: int
    def step(
        self,
        t: int,
        groups: Sequence[tuple[_Work, tuple[NDArray[Any] | Rows | None, ...]]],
        describe: Callable[[int, int, int], str],
        grad_scale: float,
        max_norm: float | None,
        nonfinite: str,
        zero_grads: bool,
        /,
    ) -> tuple[float | None, bool]: ...

def recipes() -> list[str]: ...
def config() -> _Config: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
