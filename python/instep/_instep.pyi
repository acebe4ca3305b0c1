from collections.abc import Callable
from typing import Any, TypedDict, final

from numpy.typing import NDArray

class _Config(TypedDict):
    version: str
    isa: str
    isa_available: list[str]
    threads: int
    profile: str

__all__ = ["Recipe", "config", "recipes"]

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
        params: tuple[NDArray[Any], ...],
        grads: tuple[NDArray[Any], ...],
        states: tuple[tuple[NDArray[Any], ...], ...],
        describe: Callable[[int, int], str],
        /,
    ) -> None: ...

def recipes() -> list[str]: ...
def config() -> _Config: ...
