"""`instep.autograd` against autograd's own optimizers, to the bit."""

import inspect
import re
from typing import Any

import autograd
import autograd.numpy as anp
import instep.autograd
import numpy as np
import pytest
from autograd.misc import optimizers as host
from bits import Array, assert_same_bits

CASES: list[tuple[str, dict[str, float]]] = [
    ("sgd", {}),
    ("sgd", {"step_size": 0.03, "mass": 0.71}),
    ("sgd", {"step_size": np.float64(0.03), "mass": 0}),
    ("rmsprop", {}),
    ("rmsprop", {"step_size": 0.03, "gamma": 0.71, "eps": 1e-3}),
    ("adam", {}),
    ("adam", {"step_size": 0.03, "b1": 0.71, "b2": 0.83, "eps": 1e-3}),
]
every_case = pytest.mark.parametrize(("name", "numbers"), CASES)


def start() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    edges = np.array([-0.0, 0.0, 1e-310])
    return {"W": rng.standard_normal((37, 5)), "b": [rng.standard_normal(9), (edges, 2.5)]}


def grad(x: dict[str, Any], i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    noise = rng.standard_normal((37, 5)) * 10.0 ** rng.integers(-9, 2, (37, 5))
    b, (edges, scalar) = x["b"]
    return {"W": x["W"] + noise, "b": [b**3, (0 * edges, 2 * scalar)]}


def leaves(tree: Any) -> list[Array]:
    if isinstance(tree, dict):
        tree = [tree[key] for key in sorted(tree)]
    if isinstance(tree, (list, tuple)):
        return [leaf for one in tree for leaf in leaves(one)]
    return [np.asarray(tree)]


def assert_same_trees(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    pairs = list(zip(leaves(ours), leaves(theirs), strict=True))
    for index, pair in enumerate(pairs):
        assert_same_bits(*pair, f"leaf {index}")


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the steps counted that go through instep."""
    done = []
    step = instep.autograd._Rule.step

    def counted(rule: Any, x: Array, g: Array, i: int) -> None:
        done.append(i)
        step(rule, x, g, i)

    monkeypatch.setattr(instep.autograd._Rule, "step", counted)
    return done


@pytest.mark.parametrize("name", instep.autograd.__all__)
def test_signatures_are_the_host_s(name: str) -> None:
    ours, theirs = (
        list(inspect.signature(function).parameters.values())
        for function in (getattr(instep.autograd, name), unwrapped(name))
    )
    # The host's inner function has its flat x in the place of x0.
    assert [p.name for p in ours if p.name != "x0"] == [p.name for p in theirs if p.name != "x"]
    assert [p.default for p in ours] == [p.default for p in theirs]


def unwrapped(name: str) -> Any:
    """Return the function that autograd wraps, from the wrapper's closure."""
    (found,) = (
        cell.cell_contents
        for cell in getattr(host, name).__closure__
        if callable(cell.cell_contents) and cell.cell_contents.__name__ == name
    )
    return found


@every_case
def test_bits_of_the_path_and_of_its_end(
    name: str, numbers: dict[str, float], native: list[int]
) -> None:
    x0, kept = start(), start()
    seen: list[list[Any]] = [[], []]
    ends = [
        getattr(module, name)(
            grad, x0, lambda x, i, g, to=to: to.append((x, g, i)), num_iters=300, **numbers
        )
        for module, to in zip((instep.autograd, host), seen, strict=True)
    ]
    assert_same_trees(*ends)
    assert_same_trees(x0, kept)
    assert native == list(range(300))
    # Callbacks have kept what they were given.
    for (x, g, i), (their_x, their_g, their_i) in zip(*seen, strict=True):
        assert i == their_i
        assert_same_trees(x, their_x)
        assert_same_trees(g, their_g)


@every_case
def test_one_array_and_the_signs_of_zero(name: str, numbers: dict[str, float]) -> None:
    """Of one array, what `grad` and `callback` get is a view of the memory that is stepped."""
    x0 = np.array([-0.0, 0.0, 1e-310, 1.5, -0.0])
    seen: list[list[Array]] = [[], []]
    ends = [
        getattr(module, name)(
            lambda x, i: np.array([0.0, -0.0, 0.0, x[3], -0.0]),
            x0,
            lambda x, i, g, to=to: to.append(x),
            num_iters=5,
            **numbers,
        )
        for module, to in zip((instep.autograd, host), seen, strict=True)
    ]
    assert_same_bits(ends[0], ends[1])
    for i, (ours, theirs) in enumerate(zip(*seen, strict=True)):
        assert_same_bits(ours, theirs, f"x of iteration {i}")


@every_case
def test_defaults_and_arrays(name: str, numbers: dict[str, float], native: list[int]) -> None:
    """By position and without a callback, of one array, with a gradient by autograd."""
    loss = autograd.grad(lambda x, i: anp.sum((x - 1) ** 4) + x[0, 0] * i)
    x0 = np.random.default_rng(1).standard_normal((7, 3))
    ours, theirs = (
        getattr(module, name)(loss, x0, None, 20, *numbers.values())
        for module in (instep.autograd, host)
    )
    assert_same_bits(ours, theirs)
    assert len(native) == 20
    ours, theirs = (getattr(module, name)(loss, x0) for module in (instep.autograd, host))
    assert_same_bits(ours, theirs)
    assert ours.flags.writeable
    assert not np.may_share_memory(ours, x0)


@pytest.mark.parametrize("name", instep.autograd.__all__)
def test_a_gradient_that_is_the_parameter(name: str) -> None:
    x0 = np.array([1.0, -2.0])
    ours, theirs = (getattr(module, name)(lambda x, i: x, x0) for module in (instep.autograd, host))
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize("name", instep.autograd.__all__)
def test_what_is_autograd_s_to_do(name: str, native: list[int]) -> None:
    """float32, which its formulas make float64; complex numbers; and a derivative through it."""
    for x0 in (np.ones(3, np.float32), np.ones(3, complex)):
        ours, theirs = (
            getattr(module, name)(lambda x, i: x * 2, x0) for module in (instep.autograd, host)
        )
        assert ours.dtype == theirs.dtype != x0.dtype or x0.dtype == complex
        assert ours.tobytes() == theirs.tobytes()
    rates = [
        autograd.grad(
            lambda rate, module=module: anp.sum(
                getattr(module, name)(lambda x, i: x * 2, np.ones(3), None, 5, rate)
            )
        )(0.01)
        for module in (instep.autograd, host)
    ]
    assert rates[0] == rates[1] != 0
    starts = [
        autograd.grad(
            lambda x0, module=module: anp.sum(
                getattr(module, name)(lambda x, i: x * 2, x0, None, 5)
            )
        )(np.ones(3))
        for module in (instep.autograd, host)
    ]
    assert_same_bits(*starts)
    assert native == []


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (np.zeros(3, np.float32), TypeError, "what grad(x, i) returns"),
        (np.zeros(2), ValueError, "what grad(x, i) returns"),
    ],
)
def test_a_gradient_that_does_not_go_with_the_parameter(
    gradient: Array, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        instep.autograd.sgd(lambda x, i: gradient, np.zeros(3))
