"""`instep.thinc` against Thinc's own Adam: weights, moments, averages and gradients."""

import inspect
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import instep.thinc
import numpy as np
import pytest
from bits import Array, assert_same_bits
from thinc import optimizers as host
from thinc.api import Config, decaying, registry

SHAPES = {(3, "W"): (37, 21), (3, "b"): (21,), (4, "E"): (5, 2, 3)}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no averages": {"use_averages": False},
    "no clipping": {"grad_clip": 0.0},
    "clipping": {"grad_clip": 0.3},
    "numbers": {"beta1": 0.31, "beta2": 0.71, "eps": 3e-3},
    "weight decay": {"L2": 0.05},
    "a penalty": {"L2": 0.05, "L2_is_weight_decay": False},
    "schedules": {"L2": [0.1, 0.0, 0.2], "grad_clip": [1.0, 0.0, 0.1]},
}


def run(kind: Any, options: dict[str, Any], steps: int = 40) -> tuple[dict[Any, Array], Any]:
    """Return the weights and the optimizer after some steps."""
    rng = np.random.default_rng(0)
    weights = {key: rng.standard_normal(shape).astype("f") for key, shape in SHAPES.items()}
    rate = decaying(0.02, 0.01) if kind_is_given_a_schedule(options) else 0.013
    optimizer = kind(rate, **options)
    for step in range(steps):
        for key, array in weights.items():
            gradient = rng.standard_normal(array.shape).astype("f") * np.float32(0.02 * step)
            returned = optimizer(key, array, gradient, lr_scale=1.0 if step % 2 else 0.7)
            assert returned[0] is array or returned[0].base is array
            assert not gradient.any()
        optimizer.step_schedules()
    return weights, optimizer


def kind_is_given_a_schedule(options: dict[str, Any]) -> bool:
    return any(isinstance(value, list) for value in options.values())


@pytest.fixture
def host_steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have the steps of Adam counted that Thinc's code does."""
    done = []
    step = host.Optimizer._adam

    def counted(self: Any, ops: Any, weights: Array, *rest: Any) -> Any:
        done.append(type(self))
        return step(self, ops, weights, *rest)

    monkeypatch.setattr(host.Optimizer, "_adam", counted)
    return done


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_as_the_host(options: dict[str, Any], host_steps: list[Any]) -> None:
    theirs, of_host = run(host.Adam, options)
    assert len(host_steps) == 40 * len(SHAPES)
    ours, optimizer = run(instep.thinc.Adam, options)
    assert len(host_steps) == 40 * len(SHAPES), "a step was not done by instep"
    for key in SHAPES:
        # A few units in the last place of what is added up in 40 steps.
        np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=2e-6)
        for ours_of, theirs_of in (
            (optimizer.mom1, of_host.mom1),
            (optimizer.mom2, of_host.mom2),
            (optimizer.averages, of_host.averages),
        ):
            if theirs_of is None:
                assert ours_of is None
                continue
            assert ours_of[key].shape == theirs_of[key].shape
            assert ours_of[key].dtype == np.float32
            largest = np.abs(theirs_of[key]).max()
            np.testing.assert_allclose(ours_of[key], theirs_of[key], rtol=0, atol=2e-6 * largest)
    assert dict(optimizer.nr_update) == dict(of_host.nr_update)
    assert optimizer._now("learn_rate", (3, "W")) == optimizer._now("learn_rate", (4, "E"))
    for name in ("learn_rate", "b1", "b2", "eps", "L2", "grad_clip"):
        now = instep.thinc.Optimizer._now(of_host, name, (3, "W"))
        assert optimizer._now(name, (3, "W")) == now


def test_decay_and_average_to_the_bit() -> None:
    """With a rate of 0 and then of 1 what surrounds the rule is left."""
    ours, theirs = (
        kind(0.013, L2=0.05, beta1=1e-12, beta2=1e-12, eps=1e30, grad_clip=0.0)
        for kind in (instep.thinc.Adam, host.Adam)
    )
    rng = np.random.default_rng(2)
    pair = [rng.standard_normal(1001).astype("f")] * 2
    pair = [array.copy() for array in pair]
    for _ in range(30):
        for optimizer, array in zip((ours, theirs), pair, strict=True):
            optimizer((0, "W"), array, np.ones_like(array))
    assert_same_bits(pair[0], pair[1])
    assert_same_bits(ours.averages[0, "W"], theirs.averages[0, "W"])


def test_a_decay_that_rounds_away_in_a_factor() -> None:
    """``1 - 3e-8`` is 1 in float32, and ``w - 3e-8*w`` is not always ``w``."""
    pair = []
    for kind in (instep.thinc.Adam, host.Adam):
        array = np.float32(2) ** np.linspace(0, 1, 1001, dtype="f")
        optimizer = kind(1e-3, L2=4e-5, eps=1e30, grad_clip=0.0)
        for _ in range(30):
            optimizer((0, "W"), array, np.zeros_like(array))
        pair.append(array)
    assert_same_bits(pair[0], pair[1])
    assert (pair[0] < np.float32(2) ** np.linspace(0, 1, 1001, dtype="f")).any()


@pytest.mark.parametrize("case", ["beta1", "beta2", "fortran", "read-only", "empty", "float64"])
def test_what_is_the_host_s_to_do(case: str) -> None:
    outcomes: list[Any] = []
    for kind in (instep.thinc.Adam, host.Adam):
        weights = np.arange(6, dtype="f").reshape(2, 3)
        gradient = np.full((2, 3), 0.5, "f")
        options = {case: 0.0} if case.startswith("beta") else {}
        if case == "fortran":
            weights = np.asfortranarray(weights)
        elif case == "read-only":
            weights.flags.writeable = False
        elif case == "empty":
            weights, gradient = weights[:0], gradient[:0]
        elif case == "float64":
            weights, gradient = weights.astype("d"), gradient.astype("d")
        try:
            result = kind(0.1, use_averages=False, **options)((0, "W"), weights, gradient)
            outcomes.append([array.tobytes() for array in (*result, weights, gradient)])
        except Exception as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


def test_signature_is_the_host_s() -> None:
    ours, theirs = (
        {name: p.default for name, p in inspect.signature(module.Adam).parameters.items()}
        for module in (instep.thinc, host)
    )
    assert ours == theirs


def test_a_config_finds_it() -> None:
    config = Config().from_str('[optimizer]\n@optimizers = "instep.Adam.v1"\nL2 = 0.01\n')
    optimizer = registry.resolve(config)["optimizer"]
    assert type(optimizer) is instep.thinc.Optimizer
    assert optimizer._now("L2", (0, "W")) == 0.01


def test_the_entry_point_is_declared() -> None:
    """Thinc finds it where instep is installed, without an import."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    _, _, table = text.partition("[project.entry-points.thinc_optimizers]\n")
    name, value = (word.strip().strip('"') for word in table.splitlines()[0].split(" = "))
    assert name == "instep.Adam.v1"
    assert EntryPoint(name, value, "thinc_optimizers").load() is instep.thinc.Adam
