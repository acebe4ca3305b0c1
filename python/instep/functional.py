"""Stateless steps: the rules of `instep.optimizers`, for those who keep their own state.

Every rule has a function here, named after its class in lower case: ``adam`` for `Adam`, ``adamw``
for `AdamW`. It takes the parameter, the gradient and the state arrays of the rule's recipe, each an
array or a list of arrays. If a gradient in a list is ``None``, its parameter and state don't
change. Then come keywords: ``t``, the number of the step counted from 1, and the options of the
class. **Parameter and state are written in place**; nothing is returned. `states` says which state
arrays a rule has, in order. Make them with zeros, except these: the states of Adagrad and Yogi
start with their option ``initial_accumulator_value``, ``step`` of Rprop with its ``lr``, and ``z``
of the schedule-free rules as a copy of the parameter.

Arrays may have 16 bits, and states 8, with the options ``master``, ``state_dtype``, ``seed`` and
``bits`` of the class, see `instep.Optimizer`. All arrays of a call are stored alike. After the
states come ``p_low`` of ``master="split"`` (int16, zeros for parameters without low bits) or
``p_master`` of ``master="float32"`` (the numbers of the parameter), then the exponents of states in
8 bits (uint8, one for each 256 elements in C order; zeros, as the states, which are in C order
too). The random numbers that round follow from ``seed``, ``t`` and ``name``: a str, or a list of
str for a list of arrays. By default the names are those that an optimizer gives them, and the bits
are those of its steps.

Examples
--------
>>> import numpy as np
>>> from instep import functional
>>> p, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
>>> functional.states("adam")
('m', 'v')
>>> m, v = np.zeros(2), np.zeros(2)
>>> functional.adam(p, g, m, v, t=1, lr=0.1)
>>> p.round(6)
array([0.9, 2.1])
"""

from collections.abc import Callable

from instep.stateless import RULES, states, step_function

__all__ = ["states"]


def __getattr__(name: str) -> Callable[..., None]:
    if name not in RULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return step_function(name)


def __dir__() -> list[str]:
    return [*globals(), *RULES]
