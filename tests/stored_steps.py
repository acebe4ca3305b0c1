"""Steps of arrays in fewer bytes, in NumPy: `instep.codecs` around `instep.reference`."""

from typing import Any

import ml_dtypes
import numpy as np
from bits import Array
from instep import Optimizer, codecs, reference
from optimizer_model import round_state

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT16, FLOAT32, UINT16 = np.dtype("float16"), np.dtype("float32"), np.dtype("uint16")

# The dtype of the parameter, with the options that it takes.
Combination = tuple["np.dtype[Any]", dict[str, Any]]

COMBINATIONS: dict[str, Combination] = {
    "states": (FLOAT32, {"state_dtype": "bfloat16"}),
    "parameters": (BFLOAT16, {}),
    "everything": (BFLOAT16, {"state_dtype": "bfloat16"}),
    "split": (BFLOAT16, {"master": "split"}),
    "split and states": (BFLOAT16, {"master": "split", "state_dtype": "bfloat16"}),
    "bits": (UINT16, {"bits": "bfloat16", "state_dtype": "bfloat16"}),
    "split bits": (UINT16, {"bits": "bfloat16", "master": "split"}),
    "master": (FLOAT16, {"master": "float32"}),
    "master and states": (FLOAT16, {"master": "float32", "state_dtype": "bfloat16"}),
}


# Those with states in 8 bits, which not every rule has.
CODED: dict[str, Combination] = {
    "codes": (FLOAT32, {"state_dtype": "8bit"}),
    "bfloat16 and codes": (BFLOAT16, {"state_dtype": "8bit"}),
    "split and codes": (BFLOAT16, {"master": "split", "state_dtype": "8bit"}),
    "bits and codes": (UINT16, {"bits": "bfloat16", "state_dtype": "8bit"}),
    "master and codes": (FLOAT16, {"master": "float32", "state_dtype": "8bit"}),
}


def store(numbers: Array, dtype: "np.dtype[Any]") -> Array:
    """Return numbers as a parameter or a gradient; what bfloat16 lacks is cut off."""
    if dtype not in (UINT16, BFLOAT16):
        with np.errstate(over="ignore"):
            return numbers.astype(dtype)
    bits = (np.array(numbers, np.float32, order="C").view(np.uint32) >> 16).astype(np.uint16)
    return bits.view(dtype)


def load(array: Array) -> Array:
    """Return the numbers of a parameter, gradient or state, as float32."""
    if array.dtype in (UINT16, BFLOAT16):
        return codecs.from_bfloat16(array)
    return np.array(array, np.float32, order="C")


class Model:
    """One parameter of an optimizer with its states, as numbers."""

    def __init__(self, optimizer: Optimizer, name: str = "W", first: int = 0) -> None:
        self.optimizer = optimizer
        self.parameter = optimizer._by_name[name]
        self.name = name
        self.first = first
        decoded = optimizer.decoded(name)
        self.p = decoded.pop("p")
        self.states = decoded
        self.before_storing = self.p

    def step(self, g: Array, scale: float = 1.0, max_value: float | None = None) -> None:
        """Do what the next step of the optimizer does; to be called before it."""
        t = self.optimizer.t + 1
        work, rate, *_ = self.optimizer._prepare(self.parameter.group, None, t)
        recipe, numbers, (sign, decay, decouples, _) = work
        hypers = dict(zip(recipe.hypers, numbers, strict=True))
        shrink = 1.0 - rate * decay if decouples else 1.0
        scale = sign * scale
        g32 = load(g)
        with np.errstate(all="ignore"):
            if max_value is None:
                p, g32 = reference.prepare(
                    self.p, g32, scale=scale, weight_decay=0 if decouples else decay, shrink=shrink
                )
            else:
                p, g32 = reference.prepare(
                    self.p, g32, scale=scale, weight_decay=0.0, shrink=shrink
                )
                g32 = np.clip(g32, np.float32(-max_value), np.float32(max_value))
                if decay and not decouples:
                    g32 = g32 + np.float32(decay) * p
            p, *states = getattr(reference, recipe.name)(p, g32, *self.states.values(), **hypers)
        self.before_storing = p
        self.p = self._stored(p, t)
        stored = self.parameter.stored
        dtype = "float32" if stored is None else stored.states.replace("uint8", "8bit")
        for number, (state, new) in enumerate(zip(self.states, states, strict=True)):
            self.states[state] = round_state(
                new,
                state,
                number,
                dtype=dtype,
                seed=self.optimizer._stepper.seed,
                t=t,
                name=self.name,
                places=self._places(),
            )

    def _places(self) -> Array:
        return self.first + np.arange(self.p.size).reshape(self.p.shape)

    def _stored(self, p: Array, t: int) -> Array:
        array, stored = self.parameter.array, self.parameter.stored
        if stored is None or stored.master or array.dtype.itemsize == 4:
            return p
        stream = codecs.stream(self.name, 0)
        random = codecs.noise(self.optimizer._stepper.seed, t, stream, self._places())
        return codecs.from_bfloat16(codecs.to_bfloat16(p, random))
