from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict, final

from numpy.typing import NDArray

_Tuple: TypeAlias = tuple[NDArray[Any], ...]
_Group: TypeAlias = tuple[
    Recipe,
    tuple[float, ...],
    tuple[float, float, float],
    _Tuple,
    tuple[NDArray[Any] | None, ...],
    tuple[_Tuple, ...],
    tuple[float, _Tuple] | None,
]

class _Config(TypedDict):
    version: str
    isa: str
    isa_available: list[str]
    threads: int
    profile: str

__all__ = ["Recipe", "config", "get_num_threads", "recipes", "set_num_threads", "step"]

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

def recipes() -> list[str]: ...
def config() -> _Config: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def step(
    groups: tuple[_Group, ...],
    describe: Callable[[int, int, int], str],
    grad_scale: float,
    max_norm: float | None,
    nonfinite: str,
    zero_grads: bool,
    /,
) -> tuple[float | None, bool]: ...
