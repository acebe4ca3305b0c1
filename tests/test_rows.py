"""Gradients of some rows: those rows are stepped as dense ones are, the others not at all."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import instep
import numpy as np
import pytest
from instep import Optimizer, Rows, _instep, reference
from numpy.typing import NDArray

Array = NDArray[Any]

MAKE: dict[str, Callable[..., Optimizer]] = {
    "SGD": lambda p, **k: instep.SGD(p, lr=0.1, momentum=0.7, weight_decay=0.01, **k),
    "Adam": lambda p, **k: instep.Adam(p, lr=0.1, betas=(0.8, 0.95), weight_decay=0.01, **k),
    "AdamW": lambda p, **k: instep.AdamW(p, lr=0.1, weight_decay=0.3, **k),
    "Adagrad": lambda p, **k: instep.Adagrad(p, lr=0.1, initial_accumulator_value=0.1, **k),
    "Lion": lambda p, **k: instep.Lion(p, lr=0.1, weight_decay=0.1, **k),
}

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda a: np.ascontiguousarray(a),
    "Fortran": lambda a: np.asfortranarray(a),
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
}


def bits(optimizer: Optimizer, *arrays: Array) -> list[bytes]:
    states = [a for state in optimizer.state.values() for a in state.values()]
    return [a.tobytes() for a in (*arrays, *states)]


def picked(array: Array, rows: Array) -> Array:
    return np.ascontiguousarray(array[rows])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 65), (9, 4, 5), (9, 0)], ids=str)
@pytest.mark.parametrize("name", MAKE)
def test_rows_are_stepped_as_a_parameter_of_those_rows_alone(
    name: str, shape: tuple[int, ...], layout: str, dtype: type
) -> None:
    rng = np.random.default_rng(1)
    table = LAYOUTS[layout](rng.standard_normal(shape).astype(dtype))
    before = table.copy()
    rows = np.array([7, 2, 5, 0])
    small = picked(table, np.sort(rows))
    whole, part = (MAKE[name](p, average=0.9) for p in (table, small))
    for _ in range(4):
        gradient: Array = rng.standard_normal((4, *shape[1:])).astype(dtype)
        whole.step(Rows(rows, gradient), grad_scale=0.7)
        part.step(picked(gradient, np.argsort(rows)), grad_scale=0.7)
        (state,), (wanted,) = whole.state.values(), part.state.values()
        pairs = [(table, small), (whole.averages, part.averages)]
        pairs += [(state[key], wanted[key]) for key in state]
        for actual, expected in pairs:
            assert picked(actual, np.sort(rows)).tobytes() == expected.tobytes()
    others = np.setdiff1d(np.arange(9), rows)
    fresh = MAKE[name](before.copy())
    (state,), (untouched,) = whole.state.values(), fresh.state.values()
    for actual, expected in [(table, before), *((state[k], untouched[k]) for k in state)]:
        assert picked(actual, others).tobytes() == picked(expected, others).tobytes()


def test_equal_rows_are_summed_in_their_order() -> None:
    table, g = np.zeros((3, 1)), np.array([[1e16], [5.0], [1.0], [-1e16], [1.0]])
    instep.SGD(table, lr=1.0).step(Rows(np.array([1, 0, 1, 1, 1], np.uint8), g))
    wanted = -(((1e16 + 1.0) - 1e16) + 1.0)
    assert table.ravel().tolist() == [-5.0, wanted, 0.0]
    assert g.ravel().tolist() == [1e16, 5.0, 1.0, -1e16, 1.0]


def test_the_sums_of_equal_rows_live_as_long_as_the_step() -> None:
    """They are too large for the heap: were they freed, reading them would crash."""
    table = np.zeros((3, 1_000_000))
    rows = Rows(np.array([1, 1, 1]), np.ones((3, 1_000_000)))
    instep.SGD(table, lr=1.0).step(rows, max_norm=np.inf)
    assert (table == [[0.0], [-3.0], [0.0]]).all()


def test_one_row_keeps_the_sign_of_zero() -> None:
    recipe = _instep.Recipe("momentum_ema")
    assert recipe.states == ("m",)
    p, m = np.array([[-0.0]]), np.array([[-0.0]])
    instep.functional.sgd(
        p,
        Rows(np.array([0]), np.array([[-0.0]])),
        m,
        t=1,
        lr=0.5,
        momentum=0.5,
        momentum_mode="ema",
    )
    wanted_p, wanted_m = reference.momentum_ema(
        np.array([[-0.0]]), np.array([[-0.0]]), np.array([[-0.0]]), lr=0.5, beta=0.5
    )
    assert (p.tobytes(), m.tobytes()) == (wanted_p.tobytes(), wanted_m.tobytes())


def test_no_rows_change_nothing_but_the_step_count() -> None:
    table = np.ones((3, 2))
    optimizer = instep.Adam(table)
    before = bits(optimizer, table)
    optimizer.step(Rows(np.array([], np.int64), np.empty((0, 2))))
    assert bits(optimizer, table) == before
    assert optimizer.t == 1


def test_norm_clipping_and_nonfinite_values() -> None:
    table, dense = np.ones((4, 2)), np.ones(3)
    optimizer = instep.SGD({"table": table, "dense": dense}, lr=1.0)
    rows = Rows(np.array([2, 0]), np.array([[3.0, 0.0], [0.0, 0.0]]))
    result = optimizer.step({"table": rows, "dense": np.array([0.0, 4.0, 0.0])}, max_norm=2.5)
    assert result.grad_norm == 5.0
    assert table[2, 0] == pytest.approx(1 - 3.0 / 2)
    assert dense[1] == pytest.approx(1 - 4.0 / 2)
    rows.values[1, 1] = np.nan
    before = bits(optimizer, table, dense)
    grads = {"table": rows, "dense": None}
    assert optimizer.step(grads, nonfinite="skip").skipped
    with pytest.raises(FloatingPointError, match=r'^grads\["table"\] has an element'):
        optimizer.step(grads, nonfinite="raise")
    assert bits(optimizer, table, dense) == before


@pytest.mark.parametrize("indices", [[2, 0], [2, 2]])
def test_gradients_are_cleared(indices: list[int]) -> None:
    optimizer = instep.SGD(np.ones((3, 2)), zero_grads=True)
    rows = Rows(np.array(indices), np.ones((2, 2)))
    optimizer.step(rows)
    assert not rows.values.any()


SHAPES = r"grads has values of shape \(2, 3\); wanted rows of a parameter of shape \(3, 2\)"


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (
            lambda p: Rows(np.array([3, 0]), np.ones((2, 2))),
            IndexError,
            "grads has the row 3; params has 3",
        ),
        (lambda p: Rows(np.array([0, -1]), np.ones((2, 2))), IndexError, "grads has the row -1"),
        (
            lambda p: Rows(np.array([0, 2**63], np.uint64), np.ones((2, 2))),
            IndexError,
            "Rows has the row 9223372036854775808, which no array has",
        ),
        (lambda p: Rows(np.array([0, 1]), np.ones((2, 3))), ValueError, SHAPES),
        (lambda p: Rows(np.array([0, 1]), np.ones(2)), ValueError, "has values of shape"),
        (
            lambda p: Rows(np.array([0, 1]), np.ones((2, 2), "f4")),
            TypeError,
            "dtype float32; wanted float64",
        ),
        (
            lambda p: Rows(np.array([0, 1]), np.ones((2, 2), ">f8")),
            TypeError,
            "has values of dtype >f8",
        ),
        (lambda p: Rows(np.array([0, 1]), p[:2]), ValueError, "grads shares memory with params"),
        (lambda p: Rows(np.array([1, 0]), p[1:]), ValueError, "grads shares memory with params"),
    ],
)
def test_bad_rows_change_nothing(
    rows: Callable[[Array], Rows], kind: type[Exception], message: str
) -> None:
    table = np.ones((3, 2))
    optimizer = instep.Adam(table)
    before = bits(optimizer, table)
    with pytest.raises(kind, match=message):
        optimizer.step(rows(table))
    assert bits(optimizer, table) == before
    assert optimizer.t == 0


@pytest.mark.parametrize("indices", [[0, 0], [0, 1]])
@pytest.mark.parametrize("shared", ["parameter", "state", "another parameter"])
def test_values_that_are_cleared_share_no_memory(indices: list[int], shared: str) -> None:
    table, other = np.ones((4, 2)), np.ones((4, 2))
    optimizer = instep.Adam([table, other], zero_grads=True)
    m = optimizer.state["0"]["m"]
    m.fill(1.0)
    values = {"parameter": table, "state": m, "another parameter": other}[shared][2:]
    before = bits(optimizer, table), other.tobytes()
    with pytest.raises(ValueError, match="shares memory with"):
        optimizer.step([Rows(np.array(indices), values), np.ones((4, 2))])
    assert (bits(optimizer, table), other.tobytes()) == before


def test_rows_for_a_number_are_refused() -> None:
    with pytest.raises((ValueError, IndexError)):
        instep.SGD(np.array(1.0)).step(Rows(np.array([0]), np.ones(1)))


@pytest.mark.parametrize("indices", [[2, 0], [2, 2]])
def test_values_that_cannot_be_cleared_are_refused(indices: list[int]) -> None:
    table, values = np.ones((3, 2)), np.ones((2, 2))
    values.flags.writeable = False
    with pytest.raises(ValueError, match="read-only values"):
        instep.SGD(table, zero_grads=True).step(Rows(np.array(indices), values))
    assert (table == 1).all()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (([0, 1], np.ones((2, 2))), TypeError, "indices is a list"),
        (
            (np.array([0.0, 1.0]), np.ones((2, 2))),
            TypeError,
            "indices has dtype float64; wanted",
        ),
        ((np.array([True, False]), np.ones((2, 2))), TypeError, "indices has dtype bool"),
        ((np.array([0, 1], "m8[s]"), np.ones((2, 2))), TypeError, "indices has dtype timedelta64"),
        ((np.array([[0, 1]]), np.ones((1, 2))), ValueError, r"indices has shape \(1, 2\)"),
        ((np.array([0, 1]), [[1.0], [2.0]]), TypeError, "values is a list"),
        ((np.array([0, 1]), np.ma.ones((2, 2))), TypeError, "values is a MaskedArray"),
        ((np.array([0, 1]), np.ones((3, 2))), ValueError, "wanted 2 rows"),
        ((np.array([0, 1]), np.array(1.0)), ValueError, "wanted 2 rows"),
    ],
)
def test_bad_parts(arguments: tuple[Any, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Rows(*arguments)


def test_the_course_functions_take_no_rows() -> None:
    parameters = {"W1": np.ones((2, 2)), "b1": np.ones(2)}
    grads: Any = {"dW1": Rows(np.array([0]), np.ones((1, 2))), "db1": np.ones(2)}
    with pytest.raises(TypeError, match=r'grads\["dW1"\] is a Rows; wanted a numpy.ndarray'):
        instep.update_parameters_with_gd(parameters, grads, 0.1)
    assert (parameters["b1"] == 1).all()


def test_it_shows_what_it_is() -> None:
    assert repr(Rows(np.array([1, 0]), np.ones((2, 3)))) == "Rows(2 rows, values (2, 3) float64)"


@pytest.mark.parametrize("order", ["rising", "any", "twice"])
def test_without_memory_a_step_raises_and_changes_nothing(order: str) -> None:
    """In a process of its own, with from no memory to spare to enough for all that a step takes."""
    code = f"""
import resource
import numpy as np
import instep

instep.set_num_threads(1)
table = np.zeros(5_500_000, np.float32)
indices = np.arange(4_400_000)
if {order!r} == "any":
    indices = indices[::-1].copy()
if {order!r} == "twice":
    indices[2_200_000:] = indices[:2_200_000]
optimizer = instep.SGD(table, lr=1.0)
optimizer.step(instep.Rows(indices[:10], np.ones(10, np.float32)))
gradient = instep.Rows(indices, np.ones(4_400_000, np.float32))
wanted = table.copy()
np.subtract.at(wanted, indices, np.float32(1))
before, rest, hard = table.copy(), 1_000_000, resource.getrlimit(resource.RLIMIT_AS)[1]
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
refused, t = 0, 1
for spare in [*range(1, 60, 2), 600]:
    resource.setrlimit(resource.RLIMIT_AS, (used + (spare << 20), hard))
    try:
        optimizer.step(gradient)
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert table.tobytes() == before.tobytes() and optimizer.t == t
        refused += 1
    else:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        t += 1
        assert table.tobytes() == wanted.tobytes() and optimizer.t == t
        table[...] = before
print(refused, t)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    refused, steps = map(int, done.stdout.split())
    assert refused >= 1
    assert steps >= 2
