"""Steps of arrays in fewer bytes, in NumPy: `instep.codecs` around `instep.reference`."""

from typing import Any

import ml_dtypes
import numpy as np
from bits import Array, assert_same_bits
from instep import Adam, NAdam, Optimizer, Rows, codecs, get_num_threads, reference, set_num_threads
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


def assert_like_model(model: Model) -> None:
    """Compare a parameter and its states with the model, to the bit."""
    decoded = model.optimizer.decoded(model.name)
    assert_same_bits(decoded.pop("p"), model.p, "p")
    for state, wanted in model.states.items():
        assert_same_bits(decoded[state], wanted, state)
    stored = model.parameter.stored
    if stored and stored.parameter == "float16":
        with np.errstate(over="ignore", invalid="ignore"):
            assert_same_bits(np.ascontiguousarray(model.parameter.array), model.p.astype("f2"))


def state_bytes(opt: Optimizer) -> dict[str, bytes]:
    """Return the bytes of the states of the parameter "W"."""
    return {name: array.tobytes() for name, array in opt.state["W"].items()}


def assert_threads_change_no_bit(
    start: Array, dtype: Any, options: Any, counts: tuple[int, ...], *, order: Any = "C"
) -> None:
    """Do steps with some numbers of threads, of which 1 is compared with the model."""
    found = []
    before = get_num_threads()
    try:
        for threads in counts:
            set_num_threads(threads)
            W = np.array(store(start, dtype), order=order)
            opt = NAdam({"W": W}, lr=0.01, **options)
            model = Model(opt) if threads == 1 else None
            for t in range(2):
                g = np.array(store(start[::-1] * (t + 1), dtype), order=order)
                if model:
                    model.step(g)
                opt.step({"W": g})
            if model:
                assert_like_model(model)
            found.append((W.tobytes(), state_bytes(opt)))
    finally:
        set_num_threads(before)
    assert all(each == found[0] for each in found)


def assert_only_rows_are_stepped(
    dtype: "np.dtype[Any]", options: Any, shape: tuple[int, ...], *, order: Any = "C"
) -> None:
    """Do steps of some rows, and compare with the model; the others stay as they are."""
    rng = np.random.default_rng(8)
    W = np.array(store(rng.standard_normal(shape).astype(np.float32), dtype), order=order)
    opt = Adam({"W": W}, lr=0.1, **options)
    model = Model(opt)
    for rows in ([7, 2, 5], [0, 8, 0, 2], [1]):
        numbers = rng.standard_normal((len(rows), *shape[1:])).astype(np.float32)
        values = store(numbers, dtype)
        dense = np.zeros(shape, np.float32)
        for row, value in zip(rows, values, strict=True):
            dense[row] += load(value)
        before, states = model.p, dict(model.states)
        model.step(dense)
        others = [row for row in range(len(W)) if row not in rows]
        model.p[others] = before[others]
        for state, new in model.states.items():
            new[others] = states[state][others]
        opt.step({"W": Rows(np.array(rows), values)})
        assert_like_model(model)
