"""Random pairs of views of one buffer: refused if they share memory, and else stepped right."""

from itertools import product
from typing import Any

import instep
import numpy as np
import pytest
from instep import Rows, reference
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array = NDArray[Any]


def random_view(rng: np.random.Generator, buffer: Array, shape: tuple[int, ...]) -> Array:
    """Return a view of that shape into a buffer, its strides and its place drawn."""
    size = buffer.itemsize
    while True:
        strides = [int(rng.choice([-7, -5, -3, -2, -1, 1, 1, 2, 3, 4, 6, 8, 12])) for _ in shape]
        reach = [stride * (n - 1) for stride, n in zip(strides, shape, strict=True)]
        first = -sum(r for r in reach if r < 0)
        last = sum(r for r in reach if r > 0)
        if first + last < buffer.size:
            start = first + int(rng.integers(buffer.size - first - last))
            return as_strided(buffer[start:], shape, [size * stride for stride in strides])


def test_a_call_is_refused_if_and_only_if_its_arrays_share_memory() -> None:
    rng = np.random.default_rng(0)
    found = {"refused": 0, "folded": 0, "apart": 0, "interleaved": 0}
    for _ in range(3_000):
        buffer = rng.standard_normal(60)
        shape = tuple(rng.integers(1, 5, size=rng.integers(1, 4)))
        p, g = (random_view(rng, buffer, shape) for _ in range(2))
        places = {int(place) for place in as_places(p, buffer).ravel()}
        before = buffer.copy()
        if len(places) < p.size or np.shares_memory(p, g):
            with pytest.raises(ValueError, match=r"shares? memory with"):
                instep.SGD(p, lr=0.1).step(g)
            assert buffer.tobytes() == before.tobytes()
            found["folded" if len(places) < p.size else "refused"] += 1
        else:
            (wanted,) = reference.gradient_descent(p.copy(), g.copy(), lr=0.1)
            instep.SGD(p, lr=0.1).step(g)
            assert p.tobytes() == wanted.tobytes()
            others = np.setdiff1d(np.arange(buffer.size), list(places))
            assert buffer[others].tobytes() == before[others].tobytes()
            found["interleaved" if np.may_share_memory(p, g) else "apart"] += 1
    assert min(found.values()) > 150, found


def as_places(view: Array, buffer: Array) -> Array:
    """Return the place in the buffer of every element of a view."""
    places = np.arange(buffer.size)
    start = (view.ctypes.data - buffer.ctypes.data) // buffer.itemsize
    return as_strided(places[start:], view.shape, view.strides)


def columns(*, shift: int = 0) -> tuple[Array, list[Array], list[Array]]:
    """Return a buffer, 20 of its columns as parameters, and 20 as gradients."""
    matrix = np.random.default_rng(1).standard_normal((30, 41))
    return matrix, list(matrix.T[:40:2]), list(matrix.T[1 + shift : 40 + shift : 2])


@pytest.mark.parametrize("zero_grads", [False, True])
def test_columns_of_one_matrix_are_parameters_and_gradients(zero_grads: bool) -> None:
    matrix, params, grads = columns()
    wanted = matrix.copy()
    optimizer = instep.SGD(params, lr=0.1, zero_grads=zero_grads)
    for _ in range(3):
        # New gradients among the parameters, and then such as are elsewhere.
        for elsewhere in (False, True):
            given = [g.copy() for g in grads] if elsewhere else grads
            (wanted[:, :40:2],) = reference.gradient_descent(
                wanted[:, :40:2].copy(), np.array(given).T.copy(), lr=0.1
            )
            optimizer.step(given)
            if zero_grads:
                assert not np.array(given).any()
                if not elsewhere:
                    wanted[:, 1:40:2] = 0
            assert matrix.tobytes() == wanted.tobytes()


def test_one_shared_column_among_many_is_found() -> None:
    matrix, params, grads = columns()
    optimizer = instep.SGD(params, lr=0.1)
    optimizer.step(grads)
    before = matrix.copy()
    for grad in (params[11], params[11][::-1], matrix[3, :30], matrix.T[22]):
        with pytest.raises(
            ValueError, match=r"grads\[7\].*shares? memory|shares memory with grads\[7\]"
        ):
            optimizer.step([*grads[:7], grad, *grads[8:]])
        assert matrix.tobytes() == before.tobytes()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [1_003, 9_001])
def test_columns_are_stepped_together(rows: int, threads: int) -> None:
    # Columns of several blocks, stepped block by block, and among them others that are not.
    rng = np.random.default_rng(rows)
    matrix = rng.standard_normal((rows, 37)).astype(np.float32)
    wanted = matrix.copy()
    shorter, apart = 3, 20
    params = [*matrix.T[:36]]
    params[shorter] = params[shorter][: rows // 2]
    params[apart] = matrix[:, 36]
    whole = [wanted[: p.size, 36 if i == apart else i] for i, p in enumerate(params)]
    states = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
    numbers = {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}
    before = instep.get_num_threads()
    instep.set_num_threads(threads)
    try:
        optimizer = instep.Adam(
            params, lr=0.01, betas=(0.8, 0.95), eps=1e-6, eps_mode="hat", zero_grads=True
        )
        for t in range(1, 4):
            slab = rng.standard_normal((rows, 36)).astype(np.float32)
            grads = [g[: p.size] for g, p in zip(slab.T, params, strict=True)]
            powers = {"beta1_power": 0.8**t, "beta2_power": 0.95**t}
            for p, g, m, v in zip(whole, grads, *states, strict=True):
                p[:], m[:], v[:] = reference.adam_hat(p, g, m, v, **numbers, **powers)
            optimizer.step(grads)
            assert matrix.tobytes() == wanted.tobytes()
            assert not any(g.any() for g in grads)
    finally:
        instep.set_num_threads(before)
    for i, (m, v) in enumerate(zip(*states, strict=True)):
        assert optimizer.state[str(i)]["m"].tobytes() == m.tobytes()
        assert optimizer.state[str(i)]["v"].tobytes() == v.tobytes()


# Shapes around the sizes of blocks and tiles, and such as are cut in odd places.
SHAPES = [
    (70, 1),
    (2_500, 2),
    (3, 5_000),
    (33, 129),
    (130, 70),
    (17, 5, 33),
    (2, 3, 4, 5),
    (40, 40, 24),
]


def permuted(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Draw an array whose axes are in any order in memory, some of them spaced or reversed."""
    order = rng.permutation(len(shape))
    spaced = [int(rng.choice([1, 1, 2])) for _ in shape]
    base = rng.standard_normal([shape[k] * spaced[k] for k in order]).astype(dtype)
    cut = base[tuple(slice(None, None, spaced[k] * int(rng.choice([1, -1]))) for k in order)]
    return cut.transpose(np.argsort(order))


@pytest.mark.parametrize(("shape", "dtype"), list(product(SHAPES, ["f4", "f8"])), ids=str)
def test_any_layouts_go_together(shape: tuple[int, ...], dtype: str) -> None:
    """With every role in a layout of its own, on several threads where it is large enough."""
    rng = np.random.default_rng(2)
    for trial in range(6):
        p, g = (permuted(rng, shape, dtype) for _ in range(2))
        optimizer = instep.Adam(p, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, average=0.7)
        optimizer.zero_grads = trial % 2 == 1
        copy = np.ascontiguousarray(p)
        axes = sorted(range(p.ndim), key=lambda axis, p=p: -abs(p.strides[axis]))  # type: ignore[misc]
        plain = instep.Adam(copy, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, average=0.7)
        for _ in range(2):
            norm = reference.gradient_norm(g.transpose(axes))
            clip = reference.clip_factor(norm, max_norm=0.5)
            plain.step(np.ascontiguousarray(g), grad_scale=clip)
            assert optimizer.step(g, max_norm=0.5).grad_norm == norm
            if optimizer.zero_grads:
                assert not g.any()
                g[...] = rng.standard_normal(shape)
        assert np.ascontiguousarray(p).tobytes() == copy.tobytes()
        with optimizer.averaged(), plain.averaged():
            assert np.ascontiguousarray(p).tobytes() == copy.tobytes()


@pytest.mark.parametrize("width", [(), (3,), (16,), (5, 40)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_any_layout(width: tuple[int, ...], order: Any) -> None:
    rng = np.random.default_rng(3)
    table = np.asarray(rng.standard_normal((9_000, *width)), order=order)
    copy = np.ascontiguousarray(table)
    indices = rng.permutation(9_000)[:5_000]
    optimizer, plain = instep.Adam(table), instep.Adam(small := copy[indices])
    for _ in range(2):
        values = permuted(rng, (5_000, *width), "f8")
        optimizer.step(Rows(indices, values))
        plain.step(np.ascontiguousarray(values))
    copy[indices] = small
    assert np.ascontiguousarray(table).tobytes() == copy.tobytes()
