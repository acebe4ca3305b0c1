"""Steps over arrays of every layout, in calls of every shape, against the same line of NumPy."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeAlias

import instep
import numpy as np
import pytest
from instep.bench.arrays import check_ordinary
from instep.bench.turns import clock, take_turns
from numpy.typing import NDArray

from benches.conftest import Show
from benches.played_back import from_measured_times, play_back

Array: TypeAlias = NDArray[Any]
Step: TypeAlias = Callable[[], object]

LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


@dataclass
class Contest:
    """Two steps that do the same, each with arrays of its own: those that have to agree."""

    instep: Step
    numpy: Step
    pairs: list[tuple[Array, Array]]


# Makes an array of that layout, its elements drawn.
Make: TypeAlias = Callable[[np.random.Generator], Array]


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> Array:
    # A gradient that is not near zero lets no moment decay to subnormal numbers.
    array: Array = rng.random(shape).astype(dtype)
    array += 0.5
    return array


def like(array: Array, make: Make) -> Array:
    """Return a copy of an array that is laid out as those that `make` makes are."""
    copy = make(np.random.default_rng(0))
    if copy.flags.writeable:
        copy[...] = array
    return copy


def misaligned(array: Array) -> Array:
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view: Array = raw.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def sgd(p: Make, g: Make) -> Contest:
    """One parameter, one gradient: `p -= lr*g`."""
    rng = np.random.default_rng(0)
    mine, gradient = p(rng), g(rng)
    theirs, lr = like(mine, p), mine.dtype.type(LR)
    optimizer = instep.SGD(mine, lr=LR)

    def numpy() -> None:
        nonlocal theirs
        theirs -= lr * gradient

    return Contest(lambda: optimizer.step(gradient), numpy, [(mine, theirs)])


def adam(p: Make, g: Make) -> Contest:
    """One parameter, one gradient, two moments, in as few NumPy calls as the formula allows."""
    rng = np.random.default_rng(0)
    mine, gradient = p(rng), g(rng)
    theirs = like(mine, p)
    optimizer = instep.Adam(mine, lr=LR, betas=(BETA1, BETA2), eps=EPS)
    m, v = np.zeros_like(theirs), np.zeros_like(theirs)
    steps = count(1)

    def numpy() -> None:
        nonlocal m, v, theirs
        t = next(steps)
        root = (1 - BETA2**t) ** 0.5
        m *= BETA1
        m += (1 - BETA1) * gradient
        v *= BETA2
        v += (1 - BETA2) * (gradient * gradient)
        theirs -= (LR * root / (1 - BETA1**t)) * m / (np.sqrt(v) + EPS * root)

    return Contest(lambda: optimizer.step(gradient), numpy, [(mine, theirs)])


def sgd_with_norm(p: Make, g: Make) -> Contest:
    """Clipped by the norm of a gradient whose norm is smaller."""
    rng = np.random.default_rng(0)
    mine, gradient = p(rng), g(rng)
    theirs, lr = like(mine, p), mine.dtype.type(LR)
    optimizer = instep.SGD(mine, lr=LR)

    def numpy() -> None:
        nonlocal theirs
        factor = min(1.0, 1e9 / (float(np.linalg.norm(gradient)) + 1e-6))
        theirs -= (lr * theirs.dtype.type(factor)) * gradient

    return Contest(lambda: optimizer.step(gradient, max_norm=1e9), numpy, [(mine, theirs)])


def columns(rows: int, number: int) -> Contest:
    """Every column of a matrix a parameter, its gradient the column of another."""
    rng = np.random.default_rng(0)
    mine, gradient = drawn(rng, (rows, number)), drawn(rng, (rows, number))
    theirs, lr = mine.copy(), np.float32(LR)
    params, others = list(mine.T), list(theirs.T)
    grads = list(gradient.T)
    optimizer = instep.SGD(params, lr=LR)

    def numpy() -> None:
        for p, g in zip(others, grads, strict=True):
            p -= lr * g

    return Contest(lambda: optimizer.step(grads), numpy, [(mine, theirs)])


def columns_of_both(rows: int, number: int) -> Contest:
    """Half of the columns of a matrix as parameters, the others or their copies as gradients."""
    mine, lr = drawn(np.random.default_rng(0), (rows, 2 * number)), np.float32(LR)
    theirs = mine.copy()
    optimizer = instep.SGD(list(mine.T[:number]), lr=LR)
    by_instep, by_numpy = count(), count()

    def grads(matrix: Array, step: int) -> list[Array]:
        others = matrix.T[number:]
        return list(others.copy() if step % 2 else others)

    def numpy() -> None:
        for p, g in zip(theirs.T[:number], grads(theirs, next(by_numpy)), strict=True):
            p -= lr * g

    return Contest(lambda: optimizer.step(grads(mine, next(by_instep))), numpy, [(mine, theirs)])


def rows(number: int, of: int, width: tuple[int, ...], order: str) -> Contest:
    """Some rows of a table: `p[indices] -= lr*values`; of rows that come twice, the sums."""
    rng = np.random.default_rng(0)
    mine, lr = drawn(rng, (of, *width)), np.float32(LR)
    theirs = mine.copy()
    indices = rng.permutation(of)[:number]
    if order == "rising":
        indices.sort()
    elif order == "twice":
        indices[number // 2 :] = indices[: number - number // 2]
    values = drawn(rng, (number, *width))
    gradient = instep.Rows(indices, values)
    optimizer = instep.SGD(mine, lr=LR)

    def numpy() -> None:
        if order == "twice":
            each, places = np.unique(indices, return_inverse=True)
            sums = np.zeros((len(each), *width), np.float32)
            np.add.at(sums, places, values)
            theirs[each] -= lr * sums
        else:
            theirs[indices] -= lr * values

    return Contest(lambda: optimizer.step(gradient), numpy, [(mine, theirs)])


def tree(leaves: int) -> Contest:
    """Nested dicts of small arrays, two in each."""
    rng = np.random.default_rng(0)

    def nested(arrays: Iterator[Array]) -> dict[str, dict[str, Array]]:
        return {f"l{i}": {"W": next(arrays), "b": next(arrays)} for i in range(leaves // 2)}

    mine = drawn(rng, (leaves, 8))
    theirs, gradient, lr = mine.copy(), drawn(rng, (leaves, 8)), np.float32(LR)
    params, others, grads = (nested(iter(arrays)) for arrays in (mine, theirs, gradient))
    optimizer = instep.SGD(params, lr=LR)

    def numpy() -> None:
        for layer, own in others.items():
            for name, p in own.items():
                p -= lr * grads[layer][name]

    return Contest(lambda: optimizer.step(grads), numpy, [(mine, theirs)])


def layouts(scale: int) -> dict[str, tuple[Make, Make]]:
    """Return pairs of layouts, of parameter and gradient, by name; `scale` divides their sizes."""
    n, side = 1_000_000 // scale, 1_000 // scale**0.5
    tall, square = (300_000 // scale, 2), (int(side), int(side))
    large = (int(4 * side), int(4 * side))
    deep = (int(side) // 10, 64, int(side) // 10)

    def c(shape: tuple[int, ...], dtype: str = "f4") -> Make:
        return lambda rng: drawn(rng, shape, dtype)

    def fortran(shape: tuple[int, ...], dtype: str = "f4") -> Make:
        return lambda rng: np.asfortranarray(drawn(rng, shape, dtype))

    def turned(rng: np.random.Generator) -> Array:
        return drawn(rng, deep[2:] + deep[:2]).transpose(1, 2, 0)

    def turned_back(rng: np.random.Generator) -> Array:
        return drawn(rng, deep[::-1]).transpose(2, 1, 0)

    def two_of_three(rng: np.random.Generator) -> Array:
        return drawn(rng, (tall[0], 3))[:, :2]

    vector = f"vector of {n:,}"
    return {
        f"C {tall}, gradient Fortran": (c(tall), fortran(tall)),
        f"C {tall}, gradient Fortran, f64": (c(tall, "f8"), fortran(tall, "f8")),
        f"Fortran {tall}, gradient C": (fortran(tall), c(tall)),
        f"X[:, :2] of three columns, {tall[0]:,} rows": (two_of_three, c(tall)),
        f"X[:, :2] of three columns, {tall[0]:,} rows, gradient too": (two_of_three, two_of_three),
        f"{vector}, gradient broadcast": (
            c((n,)),
            lambda rng: np.broadcast_to(np.float32(0.7), n),
        ),
        f"C {square}, gradient a broadcast row": (
            c(square),
            lambda rng: np.broadcast_to(drawn(rng, square[1:]), square),
        ),
        f"C {square}, gradient a broadcast column": (
            c(square),
            lambda rng: np.broadcast_to(drawn(rng, (square[0], 1)), square),
        ),
        f"{vector}, gradient reversed": (c((n,)), lambda rng: drawn(rng, (n,))[::-1]),
        f"{vector}, both reversed": (lambda rng: drawn(rng, (n,))[::-1],) * 2,
        f"C {square}, gradient Fortran": (c(square), fortran(square)),
        f"C {square}, gradient Fortran, f64": (c(square, "f8"), fortran(square, "f8")),
        f"C {large}, gradient Fortran": (c(large), fortran(large)),
        f"both transposed, {square}": (fortran(square), fortran(square)),
        f"C {deep}, gradient's axes turned": (c(deep), turned),
        f"C {deep}, gradient's axes reversed": (c(deep), turned_back),
        f"axes of both turned, each its way, {deep}": (turned, turned_back),
        f"{vector}, misaligned": (lambda rng: misaligned(drawn(rng, (n,))),) * 2,
        f"{vector}, every second element": (lambda rng: drawn(rng, (2 * n,))[::2],) * 2,
        f"{vector}, every second element, f64": (lambda rng: drawn(rng, (2 * n,), "f8")[::2],) * 2,
        "C (2, 2), gradient Fortran": (c((2, 2)), fortran((2, 2))),
    }


def contests(scale: int) -> dict[tuple[str, str], Callable[[], Contest]]:
    """Return what makes each contest, by what is stepped and how; `scale` divides the sizes."""
    found: dict[tuple[str, str], Callable[[], Contest]] = {}
    for name, makes in layouts(scale).items():
        found[name, "SGD"] = partial(sgd, *makes)
        found[name, "Adam"] = partial(adam, *makes)
        if name.startswith("C (") or "reversed" in name:
            found[name, "SGD, max_norm"] = partial(sgd_with_norm, *makes)
    side, many, wide = 1_000 // scale, 200_000 // scale, 50_000 // scale
    for order in ("any order", "rising", "twice"):
        found[f"Rows: {many:,} of a 1-D parameter, {order}", "SGD"] = partial(
            rows, many, 5 * many, (), order
        )
        found[f"Rows: {wide:,} of 64, {order}", "SGD"] = partial(rows, wide, 2 * wide, (64,), order)
    found[f"columns of one matrix, {side:,} of {side:,}", "SGD"] = partial(columns, side, side)
    found[f"columns, gradients other columns or new, {side // 2:,} of {side:,}", "SGD"] = partial(
        columns_of_both, side, side // 2
    )
    found[f"nested dicts, {side:,} leaves of 8", "SGD"] = partial(tree, side)
    return found


@pytest.mark.parametrize("number", range(len(contests(1))))
@from_measured_times
def test_layout(benchmark: Any, show: Show, number: int, request: pytest.FixtureRequest) -> None:
    smoke = bool(request.config.getoption("smoke"))
    (what, rule), make = list(contests(100 if smoke else 1).items())[number]
    threads = instep.get_num_threads()
    instep.set_num_threads(1)
    try:
        contest = make()
        seconds = take_turns(
            {"instep": clock(contest.instep), "NumPy": clock(contest.numpy)},
            turn_seconds=0.0001 if smoke else 0.01,
            total_seconds=2.0,
            least_rounds=2 if smoke else 15,
            most_rounds=2 if smoke else 51,
        )
    finally:
        instep.set_num_threads(threads)
    for pair in contest.pairs:
        check_ordinary(what, *pair)
    medians = {contestant: statistics.median(times) for contestant, times in seconds.items()}
    benchmark.group = f"{what}, {rule}"
    benchmark.extra_info["medians"] = medians
    play_back(benchmark, seconds["instep"])
    cells = {
        "what": what,
        "rule": rule,
        "instep": f"{1e6 * medians['instep']:,.1f}",
        "NumPy": f"{1e6 * medians['NumPy']:,.1f}",
        "ratio": f"{medians['NumPy'] / medians['instep']:.1f}",
    }
    show("microseconds per step, one thread", cells)


@from_measured_times
def test_making_an_optimizer_of_many_groups(
    benchmark: Any, show: Show, request: pytest.FixtureRequest
) -> None:
    number = 100 if request.config.getoption("smoke") else 10_000
    groups = [{"params": np.zeros(2), "lr": 0.1} for _ in range(number)]
    seconds = [clock(lambda: instep.SGD(groups))(1) for _ in range(3)]
    play_back(benchmark, seconds)
    milliseconds = f"{1e3 * statistics.median(seconds):,.0f}"
    show("making an optimizer", {"groups": f"{number:,}", "milliseconds": milliseconds})


def test_both_do_the_same() -> None:
    for make in contests(100).values():
        contest = make()
        for _ in range(3):
            contest.instep()
            contest.numpy()
        for has, wanted in contest.pairs:
            np.testing.assert_allclose(has, wanted, rtol=1e-5)
