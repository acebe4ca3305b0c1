"""What type checkers know of the arguments that all optimizers and steps take."""

import sys
from collections.abc import Mapping
from typing import Literal, TypeAlias, TypedDict

from instep.groups import MakeState, Mask
from instep.rule import Options
from instep.storage import Bits, Master, StateDtype

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    # Only type checkers look at it, and they take the other branch.
    Unpack = list

__all__ = ["Common", "Nonfinite", "Unpack"]

Nonfinite: TypeAlias = Literal["propagate", "skip", "raise"]


class Common(TypedDict, total=False):
    """What every optimizer takes beside the options of its rule: see `Optimizer`."""

    zero_grads: bool
    average: float | None
    groups: Mapping[str, Options] | None
    weight_decay_mask: Mask | None
    freeze: Mask | None
    state: MakeState | None
    master: Master | None
    state_dtype: StateDtype
    seed: int
    bits: Bits | None
