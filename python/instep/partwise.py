"""What `instep.disk.Streamed` and `instep.sharded.Sharded` show of the optimizer within them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from instep._instep import StepResult
from instep.parts import InParts

__all__ = ["Partwise"]

_Own = TypeVar("_Own", bound=InParts)


class Partwise(Generic[_Own]):
    """An optimizer that steps another one part by part, and shows that one's options and counts."""

    _own: _Own

    @property
    def param_groups(self) -> tuple[dict[str, Any], ...]:
        """The groups, each a dict of ``"params"`` and options, which may be assigned to."""
        return self._own.param_groups

    @property
    def t(self) -> int:
        """The number of steps done, one count for all parameters."""
        return self._own.t

    @property
    def skips(self) -> int:
        """The number of steps that were skipped since the last step that was not skipped."""
        return self._own.skips

    @property
    def freeze(self) -> Any:
        """Which parameters steps don't change. It may be assigned, and is not saved."""
        return self._own.freeze

    @freeze.setter
    def freeze(self, freeze: Any) -> None:
        with self._reading():
            self._own.freeze = freeze

    @property
    def zero_grads(self) -> bool:
        """Whether a step sets the gradients to zero after use. It may be set."""
        return self._own.zero_grads

    @zero_grads.setter
    def zero_grads(self, zero_grads: bool) -> None:
        self._own.zero_grads = zero_grads

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keep steps out."""
        yield

    def register_step_pre_hook(self, hook: Callable[[Any, Any], Any]) -> Callable[[], None]:
        """Have a callable called before every step; see `instep.Optimizer`."""
        return self._own.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Callable[[Any, StepResult], Any]) -> Callable[[], None]:
        """Have a callable called after every step; see `instep.Optimizer`."""
        return self._own.register_step_post_hook(hook)

    def _before(self, grads: Any) -> Any:
        """Call the hooks; return the gradients that a step takes."""
        return self._own._hooks.call_before(self, grads)

    def _end(self, result: StepResult, given: Sequence[Any]) -> StepResult:
        """Clear gradients, if they are to be, and call the hooks."""
        if self._own.zero_grads:
            for gradient in given:
                if gradient is not None:
                    gradient[...] = 0
        self._own._hooks.call_after(self, result)
        return result
