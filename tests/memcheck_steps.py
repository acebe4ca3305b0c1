"""What `make valgrind` and `make asan` run: steps up to the end of the memory of their arrays."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instep
import numpy as np
from bits import Array
from instep import Rows
from old_cpu_steps import compare_optimizers
from optimizer_model import Gradient, Pair
from random_history import run_case

# Arrays with the numbers of another, and no byte of memory before the first or after the last.
TIGHT: list[Callable[[Array], Array]] = [
    lambda a: a.copy(),
    lambda a: np.asfortranarray(a),
    lambda a: _within(a, (..., slice(None, None, 2))),
    lambda a: _within(a, (..., slice(None, None, -3))),
    lambda a: _within(a, (slice(None, None, -1),)),
    lambda a: (
        np.frombuffer(bytearray(b"x" + a.tobytes()), np.uint8)[1:].view(a.dtype).reshape(a.shape)
    ),
]


def _within(a: Array, index: Any) -> Array:
    """Return a view that such an index gives of an array of its own."""
    shape = list(a.shape)
    for axis, part in ((-1, index[-1]), (0, index[0])):
        if isinstance(part, slice) and shape[axis]:
            shape[axis] = (a.shape[axis] - 1) * abs(part.step) + 1
    view: Array = np.zeros(shape, a.dtype)[index]
    view[...] = a
    return view


def compare_layouts() -> None:
    """Step parameters of every layout by gradients of every layout, and by rows."""
    rng = np.random.default_rng(0)
    for shape in [(7, 5), (33, 70), (1, 9), (129,), (3, 4, 17)]:
        for dtype in (np.float32, np.float64):
            params = [
                layout(rng.standard_normal(shape).astype(dtype)) for layout in TIGHT for _ in TIGHT
            ]
            pair = Pair(instep.AdamW, [(params, {"weight_decay": 0.1})], average=0.9)
            for clears in (False, True):
                pair.opt.zero_grads = clears
                grads: list[Gradient] = [
                    layout(rng.standard_normal(shape).astype(dtype))
                    for _ in TIGHT
                    for layout in TIGHT
                ]
                pair.step([grads], max_norm=0.5, nonfinite="skip")
            rows: list[Gradient] = []
            for p in params:
                indices = rng.integers(0, len(p), 5)
                indices[0] = len(p) - 1
                values = rng.standard_normal((5, *shape[1:])).astype(dtype)
                rows.append(Rows(indices, values))
            pair.step([rows], max_array_norm=0.5)
            with pair.opt.averaged():
                pass
            pair.opt.load_state_dict(pair.opt.state_dict())
            pair.compare()


def step_sums() -> None:
    """Step arrays of every layout by sums of gradients, which other tests compare."""
    rng = np.random.default_rng(2)
    for shape in [(1,), (511,), (513,), (33, 70), (3, 4, 17)]:
        for dtype in (np.float32, np.float64):
            numbers = rng.standard_normal((3 * len(TIGHT), *shape)).astype(dtype)
            params = [layout(a) for layout, a in zip(TIGHT, numbers, strict=False)]
            first, *rest = [
                [layout(a) for layout, a in zip(TIGHT, numbers[k:].copy(), strict=False)]
                for k in range(3)
            ]
            opt = instep.AdamW(params, weight_decay=0.1, average=0.9)
            addends = [list(own) for own in zip(*rest, strict=True)]
            asked: list[Any] = [None, 0.37, None, None, None, "skip", None]
            begun = opt._stepper.begin(opt, first, *[*asked, addends])
            count = sum(begun.pieces)
            assert begun.first_nonfinite(0, count) is None
            begun.sums_of_squares(0, count)
            begun.step(0, count)
            begun.commit()


def step_storages() -> None:
    """Step parameters of every layout with states of fewer bytes, which other tests compare."""
    rng = np.random.default_rng(1)
    for shape in [(1,), (255,), (257,), (33, 70), (3, 4, 17)]:
        stored: list[dict[str, Any]] = [
            {},
            {"bits": "bfloat16"},
            {"bits": "bfloat16", "master": "split"},
        ]
        for options in stored:
            for state_dtype in ("bfloat16", "8bit"):
                numbers = rng.random((2 * len(TIGHT), *shape), np.float32)
                arrays = (numbers.view(np.uint32) >> 16).astype(np.uint16) if options else numbers
                params = [layout(a) for layout, a in zip(TIGHT, arrays, strict=False)]
                grads = [layout(a) for layout, a in zip(TIGHT, arrays[::-1], strict=False)]
                opt = instep.AdamW(params, state_dtype=state_dtype, **options)
                opt.step(grads)
                opt.step(grads, max_norm=0.5, grad_scale=-0.37)
                opt.load_state_dict(opt.state_dict())


def main(cases: int) -> None:
    compare_optimizers()
    compare_layouts()
    step_sums()
    step_storages()
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            run_case(0, case, Path(folder))
    print(f"Every rule, every layout and {cases} histories, at {instep.config()['isa']}.")


if __name__ == "__main__":
    main(int(sys.argv[1]))
