"""Optimizer steps in place on NumPy buffers: fused, without allocating, to the bit.

Examples
--------
The update loop of a course notebook, replaced by an import:

>>> import numpy as np
>>> from instep import initialize_adam, update_parameters_with_adam
>>> parameters = {"W1": np.ones((2, 3)), "b1": np.zeros((2, 1))}
>>> grads = {"dW1": np.full((2, 3), 0.5), "db1": np.full((2, 1), -0.5)}
>>> v, s = initialize_adam(parameters)
>>> parameters, v, s = update_parameters_with_adam(parameters, grads, v, s, t=1)
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from instep import _instep, course, functional, optimizers, reference, threads
from instep.configuration import config, show_config
from instep.course import *  # noqa: F403
from instep.optimizer import BegunStep, Optimizer, StepResult
from instep.optimizers import *  # noqa: F403
from instep.own_rules import norm, rule
from instep.rows import Rows
from instep.threads import *  # noqa: F403

if TYPE_CHECKING:
    from instep import checkpoint, interop, schedules

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_instep.before_fork,
        after_in_parent=_instep.after_fork_in_parent,
        after_in_child=_instep.after_fork_in_child,
    )

__version__ = _instep.config()["version"]

__all__ = [
    "BegunStep",
    "Optimizer",
    "Rows",
    "StepResult",
    "__version__",
    "checkpoint",
    "config",
    "course",
    "functional",
    "interop",
    "norm",
    "optimizers",
    "reference",
    "rule",
    "schedules",
    "show_config",
    "threads",
    *course.__all__,
    *optimizers.__all__,
    *threads.__all__,
]


def __getattr__(name: str) -> Any:
    """Import what not everyone needs when it is first asked for."""
    if name in ("checkpoint", "interop", "schedules"):
        return importlib.import_module(f"instep.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
