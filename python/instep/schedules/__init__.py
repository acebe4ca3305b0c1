"""Learning rates that change from step to step.

A schedule is called with the number of a step and returns its learning rate. An optimizer or a
group takes it as its ``lr``; the ``lr`` of a single step is a number. Schedules have no state,
except `ReduceOnPlateau`, to which you report a metric. Each is a small frozen dataclass: it is
compared by value, hashed, copied and pickled like a tuple of its arguments, and its repr is the
expression that makes it again.

.. important::
   **Steps are counted from 0.** ``schedule(0)`` is the rate of the first step, ``schedule(t - 1)``
   that of an optimizer's step ``t``. optax counts in the same way. In torch, ``schedule(n)`` is the
   rate of a scheduler after ``n`` calls of its ``step()``. A schedule of `steps` steps begins with
   ``schedule(0)``, ends with ``schedule(steps)``, and **keeps the last value** after that. `Cyclic`
   has no end.

Every schedule checks its arguments when it is made. It returns a Python float, finite and not
negative.

Examples
--------
A cosine from 0.1 to 0 over 1,000 steps, after 100 steps of warm-up:

>>> from instep import schedules
>>> schedule = schedules.Warmup(schedules.Cosine(0.1, 0.0, steps=1000), steps=100)
>>> [schedule(step) for step in (0, 50, 100, 1100, 9999)]
[0.0, 0.05, 0.1, 0.0, 0.0]
"""

from collections.abc import Callable
from typing import TypeAlias

from instep.schedules.combined import Scaled, Sequential, Warmup
from instep.schedules.curves import Constant, Cosine, Linear, Polynomial
from instep.schedules.cycles import Cyclic, OneCycle
from instep.schedules.decays import Exponential, InverseTime, StepDecay
from instep.schedules.plateau import ReduceOnPlateau

__all__ = [
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "InverseTime",
    "Linear",
    "OneCycle",
    "Polynomial",
    "ReduceOnPlateau",
    "Scaled",
    "Schedule",
    "Sequential",
    "StepDecay",
    "Warmup",
]

#: What an optimizer calls for its learning rate: any function of the step number, counted from 0.
Schedule: TypeAlias = Callable[[int], float]
