"""Arrays cut into parts, and optimizers that are stepped part by part, by steppers of their own.

The elements of an array are counted in the order of its memory, and cut into pieces of 32,768, as a
norm is summed. A part is some neighboring pieces.
"""

import functools
import math
import operator
import zlib
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instep import _instep
from instep._instep import BegunStep
from instep.groups import Parameter
from instep.optimizer import Optimizer
from instep.rows import Rows

__all__ = [
    "PIECE",
    "Asked",
    "Elements",
    "InParts",
    "Norms",
    "Part",
    "axes_in_memory",
    "in_parts",
    "look",
    "padded",
    "root",
    "typed",
]

PIECE = 32_768

_ALIGNMENT = 64

# The options of a step, in the order in which the compiled stepper takes it.
_ASKED = (
    "lr",
    "grad_scale",
    "max_norm",
    "max_array_norm",
    "max_value",
    "nonfinite",
    "max_skips",
)


class Part(NamedTuple):
    """Some elements of an array, and where they are in the bytes of their chunk."""

    array: int
    start: int
    stop: int
    at: int


def axes_in_memory(array: NDArray[Any]) -> list[int]:
    """Return the axes of an array from the outermost in memory to the innermost."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


class Elements:
    """The elements of an array in the order of a parameter's memory.

    Parameters
    ----------
    array : ndarray
        A parameter, or an array of its shape.
    like : ndarray
        The parameter.
    """

    def __init__(self, array: NDArray[Any], like: NDArray[Any]) -> None:
        self._view = np.asarray(array).transpose(axes_in_memory(like))
        flags = self._view.flags
        self._flat = self._view.reshape(-1) if flags.c_contiguous and flags.aligned else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array."""
        return self._view.dtype

    @property
    def is_dense(self) -> bool:
        """Whether they are one run of aligned memory."""
        return self._flat is not None

    def get(self, start: int, stop: int) -> NDArray[Any]:
        """Return some of them: a view if they are dense, else a copy."""
        return self._view.flat[start:stop] if self._flat is None else self._flat[start:stop]

    def put(self, start: int, stop: int, values: NDArray[Any]) -> None:
        """Write some of them."""
        if self._flat is None:
            self._view.flat[start:stop] = values
        else:
            self._flat[start:stop] = values

    def checksum(self, start: int, stop: int, crc: int = 0) -> int:
        """Return a checksum of some of them, continued from an earlier one."""
        for first in range(start, stop, PIECE):
            values = self.get(first, min(stop, first + PIECE))
            crc = zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data, crc)
        return crc


def typed(part: Part, data: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the elements of a part in the bytes of its chunk."""
    nbytes = (part.stop - part.start) * dtype.itemsize
    return np.asarray(data)[part.at : part.at + nbytes].view(dtype)


def padded(nbytes: int) -> int:
    """Return a number of bytes, rounded up to whole cache lines."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def root(squares: Sequence[float]) -> float:
    """Return the norm from the sums of squares, added in the order of a step."""
    return math.sqrt(functools.reduce(operator.add, squares, 0.0))


class Norms(NamedTuple):
    """The norms that a step asks for: of all gradients, of each, and of each parameter."""

    of_all: float | None
    of_grads: list[float] | None
    of_params: list[float] | None

    def give(self, begun: BegunStep, asked: dict[str, Any], parts: Sequence[Part]) -> None:
        """Give those of arrays to a step of some parts."""
        if self.of_grads is None:
            return
        of_grads = [self.of_grads[part.array] for part in parts]
        if asked["max_array_norm"] is not None:
            begun.clip_each(of_grads)
        if self.of_params is not None:
            begun.set_norms([self.of_params[part.array] for part in parts], of_grads)


def look(
    begun: BegunStep,
    asked: dict[str, Any],
    squares: Callable[[bool], list[list[float]]],
    first_nonfinite: Callable[[], int | None],
) -> int | Norms:
    """Take the norms of a step, and clip it by that of all gradients.

    Parameters
    ----------
    begun : BegunStep
        The step.
    asked : dict
        What it was asked for.
    squares : callable
        Called with whether it is about the parameters, else the gradients; returns the sums of
        squares of the pieces of each array.
    first_nonfinite : callable
        Returns the number of the first gradient with NaN or Inf.

    Returns
    -------
    int or Norms
        The number of a gradient that stops the step, or the norms.
    """
    norm = clipped = None
    if asked["max_norm"] is not None:
        norm = root([square for of_array in squares(False) for square in of_array])
        clipped = begun.clip(norm)
    if asked["nonfinite"] != "propagate" and not (clipped is not None and math.isfinite(clipped)):
        bad = first_nonfinite()
        if bad is not None:
            return bad
    of_grads = of_params = None
    if asked["max_array_norm"] is not None or begun.needs_norms:
        of_grads = [root(of_array) for of_array in squares(False)]
    if begun.needs_norms:
        of_params = [root(of_array) for of_array in squares(True)]
    return Norms(norm, of_grads, of_params)


class InParts(Optimizer):
    """An optimizer whose own stepper checks whole gradients and counts; others step the parts."""

    elements: list[Elements]

    @property
    def members(self) -> list[Parameter]:
        """The parameters, in order."""
        return self._parameters

    def refuse_codes(self, parameter: Parameter) -> None:
        """Refuse states in 8 bits, whose blocks parts would cut."""
        if parameter.stored is not None and parameter.stored.has_codes:
            raise TypeError(
                "state_dtype is '8bit', which is not built for states in parts, as Streamed and "
                "Sharded have; wanted 'float32' or 'bfloat16'"
            )

    def _stepped(self, parameter: Parameter) -> list[NDArray[Any]]:
        # The states are of parts, and shown with those.
        return [parameter.array]

    def with_group(self, group: Any) -> Any:
        """Return an optimizer with one more group; this one stays as it is.

        Both have the same options, arrays and hooks: use only one of them.
        """
        own: dict[str, Any] = {
            key: copy(value) if isinstance(value, (dict, list)) else value
            for key, value in self.__getstate__().items()
        }
        own["_forest"] = copy(self._forest)
        own["_forest"].trees = list(self._forest.trees)
        grown: Any = type(self).__new__(type(self))
        grown.__setstate__(own)
        grown._hooks, grown._make_state = self._hooks, self._make_state
        grown._mask, grown._freeze = self._mask, self._freeze
        grown.add_param_group(group)
        return grown

    def refuse_rows(self, grads: Any, why: str) -> None:
        """Refuse `Rows`, gradients of some rows only."""
        leaves = self._leaves(grads)
        if any(isinstance(leaf, Rows) for leaf in leaves):
            for member, leaf in zip(self._parameters, leaves, strict=True):
                if isinstance(leaf, Rows):
                    raise TypeError(
                        f"{member.describe(1)} is Rows, and {why}; wanted a numpy.ndarray"
                    )

    def storage_of(self, part: Part) -> "_instep._Storage | None":
        """Return how the arrays of a part are stored, as a compiled stepper takes it."""
        member = self._parameters[part.array]
        if member.stored is None:
            return None
        own = member.stored.part(part.start, member.array, axes_in_memory(member.array))
        return own.said(len(self._groups[member.group].states))

    def find_elements(self) -> None:
        """Look anew where the elements of all parameters are."""
        self.elements = [Elements(p.array, p.array) for p in self._parameters]

    def stepper_of(
        self, parts: Sequence[Part], arrays: list[list[NDArray[Any]]]
    ) -> _instep.Stepper:
        """Return a stepper of some parts: of each the elements of the parameter, then the rest."""
        stepper = _instep.Stepper(False, self.t)
        stepper.seed = self._stepper.seed
        for group in self._groups:
            stepper.add_group(group.options)
        members, none = self._parameters, [None] * len(parts)
        works = [(members[part.array].group, members[part.array].decays) for part in parts]
        storages = [self.storage_of(part) for part in parts]
        stepper.add_parameters(none, [own for own, *_ in arrays], arrays, works, storages)
        return stepper


class Asked:
    """What the stepper of some parts asks about them."""

    def __init__(self, whole: InParts, parts: Sequence[Part]) -> None:
        self._whole, self._of = whole, parts
        self._prepare = whole._prepare
        self._refuse_detached = whole._refuse_detached

    def _describe(self, number: int, role: int) -> str:
        return self._whole.members[self._of[number].array].describe(role)

    def begin(
        self,
        stepper: _instep.Stepper,
        grads: list[NDArray[Any] | None],
        asked: dict[str, Any],
        addends: Sequence[Sequence[NDArray[Any]]] | None = None,
    ) -> BegunStep:
        """Begin the step of the parts, with what is added to each gradient in order."""
        return stepper.begin(self, grads, *[*(asked[name] for name in _ASKED), addends])


def in_parts(base: type[Any], rule: type[Any]) -> Any:
    """Return the class of a rule's optimizers that are stepped in parts, by the rule's name."""
    if not (isinstance(rule, type) and issubclass(rule, Optimizer)):
        raise TypeError(f"rule is {rule!r}; wanted an optimizer's class, such as instep.AdamW")
    return type(rule.__name__, (base, rule), {})
