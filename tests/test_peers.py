"""The paths of optax's and torch's optimizers, the defaults of torch's, and forms of Keras's.

A rule that none of them has needs nothing here. The formulas of all rules, torch's among them, are
in `rule_formulas`.
"""

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array
from instep import functional, optimizers
from optimizer_model import defaults_of

# Same algebra, other roundings: after 50 steps that is what may have come together of them.
RELATIVE = 1e-12

OPTAX = json.loads((Path(__file__).parent / "trajectories" / "optimizers_optax.json").read_text())
START = np.array(OPTAX["start"])
GRADS = np.array(OPTAX["grads"])

RMSPROP: dict[str, Any] = {"lr": 0.02, "alpha": 0.85, "eps": 1e-3, "weight_decay": 0.03}
ADAM: dict[str, Any] = {"lr": 0.02, "betas": (0.85, 0.95), "eps": 1e-3, "weight_decay": 0.03}

# What takes the path of each row of the stored table.
#
# In RAdam optax adds eps to the root of the corrected average, torch and instep to that of the
# plain one, so its row has an eps of 0; optax rectifies from rho = 5 on, torch and instep above 5,
# and no step has a rho of 5. With a momentum in RMSprop, optax has the rate within it: while the
# rate stays, "heavy_ball" makes the same path. Its centered RMSprop does not clamp the variance,
# which with these gradients is never negative.
LIKE_OPTAX: dict[str, Callable[[Array], Any]] = {
    "sgd": lambda p: instep.SGD(p, lr=0.05, weight_decay=0.03),
    "momentum": lambda p: instep.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.03),
    "nesterov": lambda p: instep.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.03, nesterov=True),
    "momentum, schedule": lambda p: instep.SGD(p, lambda step: 0.05 * 0.9**step, momentum=0.8),
    "rmsprop, inside": lambda p: instep.RMSprop(p, **RMSPROP, eps_mode="inside"),
    "rmsprop, outside": lambda p: instep.RMSprop(p, **RMSPROP, eps_mode="outside"),
    "rmsprop, inside, centered": lambda p: instep.RMSprop(
        p, **RMSPROP, eps_mode="inside", centered=True
    ),
    "rmsprop, outside, centered": lambda p: instep.RMSprop(
        p, **RMSPROP, eps_mode="outside", centered=True
    ),
    "rmsprop, inside, momentum": lambda p: instep.RMSprop(
        p, **RMSPROP, eps_mode="inside", momentum=0.7
    ),
    "rmsprop, outside, centered, momentum": lambda p: instep.RMSprop(
        p, **RMSPROP, eps_mode="outside", centered=True, momentum=0.7
    ),
    **{
        f"rmsprop, {eps_mode}{', centered' if centered else ''}, momentum, schedule": partial(
            instep.RMSprop,
            **{**RMSPROP, "lr": lambda step: 0.02 * 0.9**step, "eps_mode": eps_mode},
            centered=centered,
            momentum=0.7,
            momentum_mode="lr_inside",
        )
        for eps_mode, centered in product(("inside", "outside"), (False, True))
    },
    "adam": lambda p: instep.Adam(p, **ADAM, eps_mode="outside"),
    "adam, eps_root": lambda p: instep.Adam(p, **ADAM, eps_mode="inside"),
    "adamw": lambda p: instep.AdamW(p, **{**ADAM, "weight_decay": 0.3}),
    "adamw, schedule": lambda p: instep.AdamW(
        p, **{**ADAM, "weight_decay": 0.3, "lr": lambda step: 0.02 * 0.9**step}
    ),
    **{
        f"amsgrad, {eps_mode}": partial(
            instep.Adam,
            **{**ADAM, "lr": lambda step: 0.02 * 0.9**step, "eps_mode": eps_mode},
            amsgrad="corrected",
        )
        for eps_mode in ("outside", "inside")
    },
    "amsgradw": lambda p: instep.AdamW(
        p,
        **{**ADAM, "weight_decay": 0.3, "lr": lambda step: 0.02 * 0.9**step},
        amsgrad="corrected",
    ),
    "nadam": lambda p: instep.NAdam(p, **ADAM, mode="optax"),
    "nadamw": lambda p: instep.NAdam(
        p, **{**ADAM, "weight_decay": 0.3}, decoupled_weight_decay=True, mode="optax"
    ),
    "radam": lambda p: instep.RAdam(p, **{**ADAM, "eps": 0.0}),
    "adamax": lambda p: instep.Adamax(p, **ADAM),
    "adagrad": lambda p: instep.Adagrad(
        p,
        lr=0.2,
        eps=1e-3,
        weight_decay=0.03,
        initial_accumulator_value=0.2,
        eps_mode="inside",
    ),
    "adadelta": lambda p: instep.Adadelta(p, lr=0.7, rho=0.85, eps=1e-3, weight_decay=0.03),
    "lion": lambda p: instep.Lion(p, lr=0.02, betas=(0.85, 0.95), weight_decay=0.3),
    "adabelief": lambda p: instep.AdaBelief(p, 0.02, (0.85, 0.95), eps=1e-3, eps_root=1e-4),
    "adabelief, schedule": lambda p: instep.AdaBelief(
        p,
        lambda step: 0.02 * 0.9**step,
        (0.85, 0.95),
        weight_decay=0.03,
        decoupled_weight_decay=False,
    ),
    "yogi": lambda p: instep.Yogi(p, **ADAM),
    "ademamix": lambda p: instep.AdEMAMix(
        p, 0.02, (0.85, 0.95, 0.97), alpha=1.7, eps=1e-3, weight_decay=0.3
    ),
    "ademamix, warm-up": lambda p: instep.AdEMAMix(
        p, lambda step: 0.02 * 0.9**step, (0.85, 0.95, 0.97), alpha=1.7, eps=1e-3, alpha_warmup=7
    ),
    "adan": lambda p: instep.Adan(
        p,
        0.02,
        (0.85, 0.9, 0.97),
        eps=1e-3,
        weight_decay=0.3,
        mode="optax",
        decay_mode="decoupled",
    ),
    "schedule-free sgd": lambda p: instep.SGDScheduleFree(p, 0.05, 0.85, weight_decay=0.03),
    "schedule-free adamw": lambda p: instep.AdamWScheduleFree(
        p, 0.02, (0.85, 0.95), eps=1e-3, weight_decay=0.3
    ),
    "signum": lambda p: instep.Signum(p, lr=0.02, beta=0.85),
}


def test_every_row_of_the_table_is_compared() -> None:
    assert list(LIKE_OPTAX) == list(OPTAX["optimizers"])


@pytest.mark.parametrize("name", LIKE_OPTAX)
def test_paths_of_optax(name: str) -> None:
    p = START.copy()
    opt = LIKE_OPTAX[name](p)
    wanted = dict(OPTAX["optimizers"][name]["path"])
    evaluated = OPTAX["optimizers"][name].get("evaluated", {})
    for t, g in enumerate(GRADS, start=1):
        opt.step(g)
        if values := wanted.pop(str(t), None):
            np.testing.assert_allclose(p, values, rtol=RELATIVE, atol=0, err_msg=f"t={t}")
        if values := evaluated.get(str(t)):
            np.testing.assert_allclose(opt.eval_params(), values, rtol=RELATIVE, atol=0)
    assert not wanted
    assert (np.abs(p - START) > 1e-5).all()


# torch

TORCH = json.loads((Path(__file__).parent / "trajectories" / "optimizers_torch.json").read_text())


@pytest.mark.parametrize("name", TORCH["optimizers"])
def test_paths_of_torch(name: str) -> None:
    row = TORCH["optimizers"][name]
    p = np.array(TORCH["start"])
    opt = getattr(instep, row["class"])(p, **row["options"])
    wanted = dict(row["path"])
    for t, g in enumerate(TORCH["grads"], start=1):
        opt.step(np.array(g))
        if values := wanted.pop(str(t), None):
            np.testing.assert_allclose(p, values, rtol=RELATIVE, atol=0, err_msg=f"t={t}")
    assert not wanted
    assert (np.abs(p - TORCH["start"]) > 1e-5).all()


def test_defaults_are_those_of_torch() -> None:
    """As its documentation gives them, of the rules that it has."""
    wanted: dict[str, dict[str, Any]] = {
        "SGD": {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False},
        "RMSprop": {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0},
        "Adam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0},
        "AdamW": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
        "NAdam": {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 4e-3},
        "RAdam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0},
        "Adamax": {"lr": 2e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0},
        "Adagrad": {"lr": 1e-2, "lr_decay": 0, "initial_accumulator_value": 0, "eps": 1e-10},
        "Adadelta": {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0},
        "ASGD": {"lr": 1e-2, "lambd": 1e-4, "alpha": 0.75, "t0": 1e6, "weight_decay": 0},
        "Rprop": {"lr": 1e-2, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50)},
    }
    for name, options in wanted.items():
        defaults = defaults_of(getattr(optimizers, name))
        assert {option: defaults[option] for option in options} == options
        assert defaults["maximize"] is False


# Closed forms


def test_forms_of_keras_by_hand() -> None:
    """Forms that neither optax nor torch has, for one step of one number."""
    p, m = np.array([1.0]), np.array([0.5])
    functional.sgd(p, np.array([2.0]), m, t=2, lr=0.1, momentum=0.8, momentum_mode="lr_inside")
    assert m == pytest.approx([0.5 * 0.8 - 0.1 * 2.0])
    assert p == pytest.approx([1.0 + 0.2])
    p, m = np.array([1.0]), np.array([0.5])
    functional.sgd(
        p, np.array([2.0]), m, t=2, lr=0.1, momentum=0.8, momentum_mode="lr_inside", nesterov=True
    )
    assert p == pytest.approx([1.0 + 0.8 * 0.2 - 0.1 * 2.0])
    p, m = np.array([1.0]), np.array([0.5])
    functional.sgd(p, np.array([2.0]), m, t=2, lr=0.1, momentum=0.8, momentum_mode="ema")
    assert m == pytest.approx([0.8 * 0.5 + 0.2 * 2.0])
    p, m, v = np.array([1.0]), np.array([0.5]), np.array([0.25])
    functional.adam(
        p, np.array([2.0]), m, v, t=3, lr=0.1, betas=(0.8, 0.9), eps=0.01, eps_mode="hat"
    )
    rate = 0.1 * (1 - 0.9**3) ** 0.5 / (1 - 0.8**3)
    assert p == pytest.approx([1.0 - rate * 0.8 / (0.625**0.5 + 0.01)])
    # Keras's RMSprop takes the rate within its momentum, and its eps within the root.
    for centered in (False, True):
        p, v, mean, m = (np.array([x]) for x in (1.0, 4.0, 0.25, 0.5))
        functional.rmsprop(
            p,
            np.array([2.0]),
            *([v, mean, m] if centered else [v, m]),
            t=2,
            lr=0.1,
            alpha=0.75,
            eps=0.01,
            momentum=0.8,
            centered=centered,
            eps_mode="inside",
            momentum_mode="lr_inside",
        )
        square = 0.75 * 4.0 + 0.25 * 4.0
        variance = square - (0.75 * 0.25 + 0.25 * 2.0) ** 2 if centered else square
        assert m == pytest.approx([0.8 * 0.5 + 0.1 * 2.0 / (variance + 0.01) ** 0.5])
        assert p == pytest.approx(1.0 - m)
    # Keras: mu = beta1*(1 - 0.5*0.96**t)
    p, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    functional.nadam(p, np.array([2.0]), m, v, t=1, lr=0.1, betas=(0.8, 0.9), mode="keras")
    mu, following = 0.8 * (1 - 0.5 * 0.96), 0.8 * (1 - 0.5 * 0.96**2)
    step = (1 - mu) * 2.0 / (1 - mu) + following * (0.2 * 2.0) / (1 - mu * following)
    assert p == pytest.approx([1.0 - 0.1 * step / 2.0])
    p, m, u = np.array([1.0]), np.array([0.5]), np.array([3.0])
    functional.adamax(
        p, np.array([2.0]), m, u, t=2, lr=0.1, betas=(0.8, 0.9), eps=0.5, eps_mode="outside"
    )
    assert u == pytest.approx([2.7])
    assert p == pytest.approx([1.0 - 0.1 / (1 - 0.64) * 0.8 / (2.7 + 0.5)])
