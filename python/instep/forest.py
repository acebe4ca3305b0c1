"""Forests: the parameters as they were given, in one tree or in a list of groups."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from instep.checks import kind_of
from instep.groups import Parameter

if TYPE_CHECKING:
    from instep.tree import Tree

__all__ = ["Forest"]


class Forest:
    """The trees of an optimizer: only one, or one for each group of a list.

    Parameters
    ----------
    params : tree of ndarray, or list of groups
        What the optimizer was given. Trees are added later.

    Attributes
    ----------
    is_list : bool
        Whether that is a list of groups.
    trees : list of (Tree, object, int)
        Each tree with its list, dict or array, and with the number of its groups.
    """

    def __init__(self, params: Any) -> None:
        self.is_list = (
            isinstance(params, (list, tuple))
            and len(params) > 0
            and all(isinstance(group, dict) and "params" in group for group in params)
        )
        self.trees: list[tuple[Tree, Any, int]] = []

    def leaves(self, tree: Any, argument: str) -> tuple[Any, ...]:
        """Return the leaves of gradients, or of something else in the structure of the parameters.

        Raises
        ------
        TypeError, ValueError, KeyError
            Another structure.
        """
        if not self.is_list:
            return self.trees[0][0].leaves(tree, argument)
        if not isinstance(tree, (list, tuple)):
            raise TypeError(
                f"{argument} is {kind_of(tree)}; wanted a list, with a tree for each group"
            )
        if len(tree) != len(self.trees):
            has, wanted = len(tree), len(self.trees)
            raise ValueError(f"{argument} has length {has}; wanted {wanted}, one for each group")
        pairs = zip(self.trees, tree, strict=True)
        return tuple(leaf for (own, *_), part in pairs for leaf in own.leaves(part, argument))

    def build(self, leaves: Iterable[Any]) -> Any:
        """Return the structure of the parameters with other leaves."""
        remaining = iter(leaves)
        trees = [tree.build(remaining) for tree, *_ in self.trees]
        return trees if self.is_list else trees[0]

    def refuse_detached(self, parameters: Iterable[Parameter]) -> None:
        """Check that the lists and dicts still hold the arrays of these parameters."""
        remedy = "assign in place, as in params['W'][...] = new, or make a new optimizer"
        own = iter(parameters)
        for tree, params, _ in self.trees:
            try:
                leaves = tree.leaves(params, "params")
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"params was changed after the optimizer was made ({error.args[0]}); {remedy}"
                ) from None
            for leaf, parameter in zip(leaves, own, strict=False):
                if leaf is not parameter.array:
                    raise ValueError(
                        f"{parameter.describe(0)} is no longer the array that the optimizer steps; "
                        f"{remedy}"
                    )
