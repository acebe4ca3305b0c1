"""The course's dict loop: its Adam over the arrays of a small net, as the net is trained."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instep import course
from instep.bench.contestants import Contestant, joined
from instep.demo import updates_numpy
from instep.demo.network import backward, forward, initialize_parameters_he

__all__ = ["DTYPE", "LOOPS", "UNITS", "DictLoop", "OfInstep", "OfNumPy"]

Array = NDArray[Any]

UNITS = (2, 5, 2, 2)
DTYPE = "float64"
EXAMPLES = 64


class DictLoop(Contestant):
    """``update_parameters_with_adam`` after the rest of a step of training, which is not timed."""

    prepares = True
    eps_mode = "inside"
    code: ModuleType

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.X = random.standard_normal((UNITS[0], EXAMPLES))
        self.Y = np.eye(UNITS[-1])[random.integers(UNITS[-1], size=EXAMPLES)].T
        self.parameters = initialize_parameters_he(UNITS, DTYPE, seed=0)
        self.v, self.s = self.code.initialize_adam(self.parameters)
        self.t = 0

    def prepare(self) -> None:
        """Do the rest of a step of training."""
        _, self.grads = backward(self.parameters, forward(self.parameters, self.X), self.Y)

    def step(self) -> None:
        """Update the parameters."""
        self.t += 1
        self.code.update_parameters_with_adam(
            self.parameters, self.grads, self.v, self.s, self.t, learning_rate=0.001
        )

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return all parameters and their two moments as they are now."""
        dicts = (self.parameters, self.v, self.s)
        p, v, s = (joined([a.ravel() for a in arrays.values()]) for arrays in dicts)
        return p, v, s


class OfInstep(DictLoop):
    """With the function of `instep.course`."""

    name = "instep"
    code = course


class OfNumPy(DictLoop):
    """With the function as notebooks have it."""

    name = "NumPy"
    packages = ("numpy",)
    code = updates_numpy


LOOPS: tuple[type[DictLoop], ...] = (OfInstep, OfNumPy)
