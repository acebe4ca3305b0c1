"""torch's optimizers, with their steps done by instep.

.. code-block:: python

   from instep.torch import AdamW  # before: from torch.optim import AdamW

Each class is torch's own with another ``step``: the same arguments, errors, groups, hooks,
closures, learning-rate schedulers, ``state_dict`` and checkpoints, in either direction. `Lion`,
which torch does not have, has the same base class.

For code that you can't change, `patch` does the same to torch's own classes, `unpatch` takes it
back, and ``with patched():`` does it for a part of a program. `step_counts` says how many steps
instep did, and how many torch.

instep steps dense tensors of float32 and float64 in this machine's memory, with any strides, and
all those of an optimizer in one call. torch's code does the rest, in the same step: complex and
16-bit tensors, other devices, subclasses of tensors, sparse gradients (except with `SparseAdam`),
groups that are ``differentiable`` or ``capturable``, and everything in a compiled step. ``foreach``
and ``fused`` say how torch computes, and change nothing if instep does the step. The formulas are
torch's. The numbers are close to torch's, but not the same: see the documentation's page on torch.

It needs the extra: ``pip install 'instep[torch]'``.
"""

from contextlib import AbstractContextManager

import torch

from instep.counts import StepCounts
from instep.patching import Patch
from instep.torch.dense import HOST, NATIVE
from instep.torch.hosts import HOSTS, quick_step
from instep.torch.lion import SlowLion

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "SparseAdam",
    "StepCounts",
    "patch",
    "patched",
    "step_counts",
    "unpatch",
]


def step_counts() -> StepCounts:
    """Return how many steps instep and torch's code have done so far in this process.

    Returns
    -------
    counts : StepCounts
        ``native`` and ``host``. Only optimizers that are patched or of the classes here are
        counted, and only steps in which a tensor has a gradient.

    Examples
    --------
    >>> import torch
    >>> from instep.torch import SGD, step_counts
    >>> before = step_counts()
    >>> p = torch.ones(3, requires_grad=True)
    >>> p.sum().backward()
    >>> SGD([p], lr=0.1).step()
    >>> step_counts().native - before.native, step_counts().host - before.host
    (1, 0)
    """
    return StepCounts(NATIVE.so_far(), HOST.so_far())


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class SGD(torch.optim.SGD):
    """`torch.optim.SGD`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class RMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class NAdam(torch.optim.NAdam):
    """`torch.optim.NAdam`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class RAdam(torch.optim.RAdam):
    """`torch.optim.RAdam`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class Adamax(torch.optim.Adamax):
    """`torch.optim.Adamax`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class Adagrad(torch.optim.Adagrad):
    """`torch.optim.Adagrad`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class Adadelta(torch.optim.Adadelta):
    """`torch.optim.Adadelta`, stepped by instep: see there for arguments and errors."""

    step = quick_step


class Lion(SlowLion):
    """Lion on torch's base class, stepped by instep.

    Parameters
    ----------
    params : iterable of torch.Tensor, or of groups
        As torch's optimizers take them; **written in place**.
    lr : float, default 1e-4
        Learning rate.
    betas : (float, float), default (0.9, 0.99)
        The share of the momentum in the direction, and the decay of the momentum, each in [0, 1).
    weight_decay : float, default 0.0
        Decoupled weight decay: ``p = p*(1 - lr*weight_decay)`` before the rule.
    maximize : bool, default False
        Whether to maximize instead of minimize.

    Raises
    ------
    ValueError
        An option out of its range.

    Notes
    -----
    ``p = p - lr*sign(beta1*m + (1-beta1)*g)``, ``m = beta2*m + (1-beta2)*g``, with ``sign(0) = 0``.
    For complex numbers, this is done to the real and the imaginary part separately. The state is
    ``exp_avg``, as in the authors' code.

    Source: Chen et al., *Symbolic discovery of optimization algorithms*, 2023, Algorithm 2.
    """

    step = quick_step


class SparseAdam(torch.optim.SparseAdam):
    """`torch.optim.SparseAdam`, stepped by instep: see there for arguments and errors.

    Only the rows that a gradient has are read and written.
    """

    step = quick_step


def patch() -> None:
    """Have instep do the steps of torch's own optimizers, and of classes derived from them.

    This holds for all optimizers, existing and new, until `unpatch`, in this process. A class that
    has its own ``step`` keeps it. A second call has no effect. Checkpoints and pickles of torch's
    optimizers contain nothing of instep.

    Examples
    --------
    >>> import torch
    >>> import instep.torch
    >>> instep.torch.patch()
    >>> before = instep.torch.step_counts().native
    >>> p = torch.ones(3, requires_grad=True)
    >>> p.sum().backward()
    >>> torch.optim.Adam([p]).step()
    >>> instep.torch.step_counts().native - before
    1
    >>> instep.torch.unpatch()
    """
    _PATCH.set(for_good=True)


def unpatch() -> None:
    """Undo `patch`. Optimizers continue with torch's own steps.

    A ``with patched():`` block that is running stays patched until its end.
    """
    _PATCH.set(for_good=False)


def patched() -> AbstractContextManager[None]:
    """Have instep do the steps of torch's own optimizers within a ``with`` block.

    All threads see it. Blocks may be nested, and overlap in threads.

    Examples
    --------
    >>> import torch
    >>> from instep.torch import patched
    >>> p = torch.ones(3, requires_grad=True)
    >>> p.sum().backward()
    >>> with patched():
    ...     torch.optim.SGD([p], lr=0.5).step()
    >>> p
    tensor([0.5000, 0.5000, 0.5000], requires_grad=True)
    """
    return _PATCH.block()


def _put_patch(on: bool) -> None:
    for kind, host in HOSTS.items():
        if kind is not SlowLion:
            # With hooks around it, as torch has it after the first optimizer was made.
            hooked = torch.optim.Optimizer.profile_hook_step(host.code)
            hooked.hooked = True
            kind.step = quick_step if on else hooked


_PATCH = Patch(_put_patch)
