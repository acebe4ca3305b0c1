"""Hooks: callables that an optimizer calls before and after its steps."""

from collections.abc import Callable
from typing import Any

__all__ = ["Hooks", "register"]

# Each under a key of its own, as one may be there twice.
_Registered = dict[object, Callable[[Any, Any], Any]]


class Hooks:
    """The hooks of an optimizer, in the order in which they were registered."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: _Registered = {}
        self.after: _Registered = {}

    def call_before(self, optimizer: Any, grads: Any) -> Any:
        """Call those before a step; return the gradients that it takes."""
        # A hook may remove itself.
        for hook in list(self.before.values()):
            given = hook(optimizer, grads)
            grads = grads if given is None else given
        return grads

    def call_after(self, optimizer: Any, result: Any) -> None:
        """Call those after a step."""
        for hook in list(self.after.values()):
            hook(optimizer, result)


def register(hooks: _Registered, hook: Any) -> Callable[[], None]:
    """Register a hook; return what removes it."""
    if not callable(hook):
        raise TypeError(f"hook is {hook!r}; wanted a callable")
    key = object()
    hooks[key] = hook

    def remove() -> None:
        hooks.pop(key, None)

    return remove
