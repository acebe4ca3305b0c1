from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, final

from numpy.typing import NDArray

_Tuple: TypeAlias = tuple[NDArray[Any], ...]
# Sign, weight decay and shrinking around a rule.
_Around: TypeAlias = tuple[float, float, float]
# Recipe, its numbers; sign, weight decay, whether it is decoupled, and averaging around it.
_Work: TypeAlias = tuple[Recipe, tuple[float, ...], tuple[float, float, bool, float | None]]
_Updates: TypeAlias = Sequence[tuple[dict[str, Any], dict[str, Any]]]
# Of the axes of an array, from the outermost in memory on: length, and how far places are apart.
_Order: TypeAlias = Sequence[tuple[int, int]]
# The dtypes of parameter and states, the master; of each state in 8 bits whether it has no sign;
# stream, first, and order.
_Storage: TypeAlias = tuple[str, str, str | None, Sequence[bool], tuple[int, int, _Order]]
# The work; the learning rate; whether it stays; and what to update after the step.
_Said: TypeAlias = tuple[_Work, float, bool, _Updates]

class _Config(TypedDict):
    version: str
    isa: str
    isa_available: list[str]
    threads: int
    profile: str

__all__ = [
    "BegunStep",
    "DictUpdate",
    "Recipe",
    "StepResult",
    "Stepper",
    "TensorStepper",
    "after_fork_in_child",
    "after_fork_in_parent",
    "before_fork",
    "config",
    "get_num_threads",
    "know_bfloat16",
    "recipes",
    "set_num_threads",
]

class _Dicts(Protocol):
    def keys(self, count: int, /) -> tuple[str, ...]: ...
    def describe(self, group: int, role: int, index: int, /) -> str: ...
    def step(
        self, recipe: Recipe, hypers: tuple[float, ...], dicts: tuple[Any, ...], /
    ) -> None: ...

@final
class DictUpdate:
    # Each number's name, and what it is below.
    def __new__(
        cls, recipe: Recipe, numbers: Sequence[tuple[str, float]], dicts: _Dicts
    ) -> DictUpdate: ...
    # Of the step number, if there are powers of it, and the numbers.
    def hypers(self, *given: float) -> tuple[float, ...]: ...
    # Of the dicts of parameters, gradients and each state; and what `hypers` takes.
    def step(self, *given: Any) -> None: ...

@final
class Recipe:
    def __new__(cls, name: str, isa: str | None = None) -> Recipe: ...
    @staticmethod
    def of_formula(
        name: str,
        hypers: Sequence[str],
        states: Sequence[str],
        constants: Sequence[float],
        numbers: Sequence[tuple[str, Sequence[int], str]],
        values: Sequence[tuple[str, Sequence[int]]],
        outputs: Sequence[int],
        norms: Sequence[tuple[int, int]],
        recipe: tuple[str, Sequence[int], Sequence[int]] | None = None,
        isa: str | None = None,
    ) -> Recipe: ...
    @property
    def listing(self) -> str: ...
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
        around: _Around | None = None,
        update: tuple[dict[str, Any], dict[str, Any]] | None = None,
        # Of each parameter; the number of the step, and the seed.
        storages: tuple[Sequence[_Storage], int, int] | None = None,
        /,
    ) -> None: ...

@final
class StepResult:
    @property
    def grad_norm(self) -> float | None: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def lr(self) -> float | tuple[float, ...]: ...
    @property
    def t(self) -> int: ...

@final
class BegunStep:
    @property
    def pieces(self) -> list[int]: ...
    @property
    def lr(self) -> list[float]: ...
    @property
    def needs_norms(self) -> bool: ...
    def sums_of_squares(self, first: int, last: int, /, of_params: bool = False) -> list[float]: ...
    def first_nonfinite(self, first: int, last: int, /) -> int | None: ...
    def clip(self, norm: float, /) -> float: ...
    def clip_each(self, norms: Sequence[float], /) -> None: ...
    def set_norms(self, params: Sequence[float], grads: Sequence[float], /) -> None: ...
    def step(self, first: int, last: int, /) -> None: ...
    def commit(self) -> StepResult: ...
    def skip(self, parameter: int, /) -> StepResult: ...

@final
class Stepper:
    def __new__(cls, is_list: bool, t: int) -> Stepper: ...
    t: int
    skips: int
    seed: int
    zero_grads: bool
    @property
    def changes(self) -> int: ...
    @property
    def averages_are_in(self) -> bool: ...
    def add_group(self, options: dict[str, Any]) -> None: ...
    def add_parameters(
        self,
        skeleton: Any,
        params: Any,
        arrays: Sequence[Sequence[NDArray[Any]]],
        works: Sequence[tuple[int, bool]],
        storages: Sequence[_Storage | None],
    ) -> None: ...
    def set_frozen(self, frozen: Sequence[bool]) -> None: ...
    def step(
        self,
        optimizer: Any,
        grads: Any,
        lr: float | None,
        grad_scale: float,
        max_norm: float | None,
        max_array_norm: float | None,
        max_value: float | None,
        nonfinite: str,
        max_skips: int | None,
        /,
    ) -> StepResult: ...
    def begin(
        self,
        optimizer: Any,
        grads: Any,
        lr: float | None,
        grad_scale: float,
        max_norm: float | None,
        max_array_norm: float | None,
        max_value: float | None,
        nonfinite: str,
        max_skips: int | None,
        # Of each parameter: arrays like its gradient, which are added to it in order.
        addends: Sequence[Sequence[NDArray[Any]]] | None = None,
        /,
    ) -> BegunStep: ...
    def check(self, optimizer: Any, grads: Any, /) -> list[Any]: ...
    def swap_averages(self, optimizer: Any, use: int | None, enter: bool, /) -> None: ...
    def copy(
        self,
        targets: _Tuple,
        sources: _Tuple,
        dicts: Sequence[dict[str, Any]],
        describe: Callable[[int, int], str],
        /,
    ) -> tuple[int, int, list[dict[str, Any]]]: ...
    def restore(
        self,
        targets: _Tuple,
        sources: _Tuple,
        numbers: tuple[int, int, int],
        updates: _Updates,
        describe: Callable[[int, int], str],
        /,
    ) -> None: ...

@final
class TensorStepper:
    def __new__(
        cls, tensor: type, parameter: type, increment_version: Callable[[list[Any]], None], /
    ) -> TensorStepper: ...
    def step(
        self,
        groups: Sequence[tuple[list[Any], tuple[str, ...], tuple[str, ...]]],
        state: dict[Any, Any],
        # Of the place of a group, numbers, and whether they are of float64: the work, the learning
        # rate, and the numbers then.
        prepare: Callable[[int, tuple[float, ...], bool], tuple[_Work, float, Sequence[float]]],
        /,
    ) -> tuple[list[Any], list[Any], int]: ...

def before_fork() -> None: ...
def after_fork_in_parent() -> None: ...
def after_fork_in_child() -> None: ...
def know_bfloat16(number: int, /) -> None: ...
def recipes() -> list[str]: ...
def config() -> _Config: ...
def get_num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
