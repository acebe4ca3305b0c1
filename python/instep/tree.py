"""Trees: an array, or lists, tuples and dicts of trees."""

from collections.abc import Iterator, Mapping
from typing import Any

from instep.checks import kind_of

__all__ = ["Tree", "called"]


class Tree:
    """The structure of a tree of arrays. It names the leaves, and takes them out of similar trees.

    Parameters
    ----------
    tree : ndarray, or list, tuple or dict of trees
        The tree to take the structure of. Anything that is not a list, tuple or dict is a leaf.
    path : tuple
        The keys that lead to this tree, if it is a part of another.

    Attributes
    ----------
    names : list of str
        The path of each leaf, its keys joined by dots: ``"layers.0.W"``.
    """

    def __init__(
        self, tree: Any, path: tuple[object, ...] = (), *, above: tuple[int, ...] = ()
    ) -> None:
        if id(tree) in above:
            raise ValueError(f"{called('params', path)} is a list or dict that contains itself")
        self.path = path
        self._kind: type[Any] | None = None
        children: dict[Any, Any] = {}
        if isinstance(tree, Mapping):
            self._kind, children = dict, dict(tree)
        elif isinstance(tree, (list, tuple)):
            self._kind, children = list, dict(enumerate(tree))
        above = (*above, id(tree))
        self._children = {
            key: Tree(child, (*path, key), above=above) for key, child in children.items()
        }
        self.paths: list[tuple[object, ...]] = [leaf.path for leaf in self._walk()]
        self.names = [".".join(map(str, path)) for path in self.paths]

    def _walk(self) -> Iterator["Tree"]:
        if self._kind is None:
            yield self
        for child in self._children.values():
            yield from child._walk()

    def leaves(self, tree: Any, argument: str) -> tuple[Any, ...]:
        """Return the leaves of a tree of the same structure.

        Parameters
        ----------
        tree : tree
            A dict may have its keys in another order, and a tuple may stand for a list.
        argument : str
            What errors call it.

        Raises
        ------
        TypeError, ValueError, KeyError
            A tree of another structure.
        """
        return tuple(self._collect(tree, argument))

    def _collect(self, tree: Any, argument: str) -> Iterator[Any]:
        if self._kind is None:
            yield tree
            return
        name = called(argument, self.path)
        if self._kind is dict:
            if not isinstance(tree, Mapping):
                raise TypeError(f"{name} is {kind_of(tree)}; wanted a dict, as in params")
            for key, child in self._children.items():
                if key not in tree:
                    course = f"d{key}"
                    remedy = (
                        f"; the classes take the parameters' keys: {key!r}, not {course!r}"
                        if course in tree
                        else ""
                    )
                    raise KeyError(f"{called(argument, child.path)} is missing{remedy}")
            for key in tree:
                if key not in self._children:
                    raise ValueError(f"{name} has the key {key!r}, which params does not have")
        else:
            if not isinstance(tree, (list, tuple)):
                raise TypeError(f"{name} is {kind_of(tree)}; wanted a list or tuple, as in params")
            if len(tree) != len(self._children):
                wanted = len(self._children)
                raise ValueError(f"{name} has length {len(tree)}; wanted {wanted}, as in params")
        for key, child in self._children.items():
            yield from child._collect(tree[key], argument)

    def build(self, leaves: Iterator[Any]) -> Any:
        """Return a tree of this structure, of dicts and lists, with other leaves."""
        if self._kind is None:
            return next(leaves)
        built = {key: child.build(leaves) for key, child in self._children.items()}
        return built if self._kind is dict else list(built.values())


def called(argument: str, path: tuple[object, ...]) -> str:
    """Return what errors call a part of an argument: ``grads["layers.0.W"]``, ``params[3]``."""
    if not path:
        return argument
    if len(path) == 1 and isinstance(path[0], int):
        return f"{argument}[{path[0]}]"
    return f'{argument}["{".".join(map(str, path))}"]'
