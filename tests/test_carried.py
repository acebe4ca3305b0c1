"""What a rule carries from step to step, and states that are grouped otherwise than they were."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from instep import Optimizer, checkpoint, safetensors
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
START = np.random.default_rng(8).standard_normal((6, 5))
NAMES = ["0.W", "0.b", "1.W", "1.b", "2.W", "2.b"]


def params() -> Arrays:
    return {name: row.copy() for name, row in zip(NAMES, START, strict=True)}


def train(opt: Optimizer, own: Arrays, first: int, last: int) -> None:
    for t in range(first, last + 1):
        noise = np.random.default_rng(t).standard_normal((6, 5))
        opt.step({k: own[k] + row for k, row in zip(NAMES, noise, strict=True)})


def bits(opt: Optimizer, own: Arrays) -> list[bytes]:
    arrays = [array for states in opt.state.values() for array in states.values()]
    return [array.tobytes() for array in [*own.values(), *arrays]]


class Counted:
    """Counts how often the momentum of a step of NAdam is computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        mu = instep.NAdam._mu

        def counted(options: Any, t: int) -> float:
            self.calls += 1
            return mu(options, t)

        monkeypatch.setattr(instep.NAdam, "_mu", staticmethod(counted))

    def since(self) -> int:
        calls, self.calls = self.calls, 0
        return calls


# A momentum this close to 1 makes a product that is not 0 for long: no way around it by luck.
SLOW: dict[str, Any] = {"betas": (0.999999, 0.999), "momentum_decay": 10.0}


def product(
    t: int, beta1: float = SLOW["betas"][0], decay: float = SLOW["momentum_decay"]
) -> float:
    """The product of momenta of NAdam, from its paper, one after the other."""
    result = 1.0
    for i in range(1, t + 1):
        result *= beta1 * (1 - 0.5 * 0.96 ** (i * decay))
    return result


def carried(opt: Optimizer) -> float:
    (group,) = opt.state_dict()["groups"]
    found = group["carried"]["mu_product"]
    assert isinstance(found, float)
    return found


def test_steps_of_nadam_do_not_begin_from_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two with equal options, at different steps, in turns."""
    counted = Counted(monkeypatch)
    p, q = np.ones(2), np.ones(2)
    one, two = instep.NAdam(p, **SLOW), instep.NAdam(q, **SLOW)
    for _ in range(30):
        one.step(np.ones(2))
    assert counted.since() <= 5 * 31
    for _ in range(10):
        two.step(np.ones(2))
        one.step(np.ones(2))
    assert counted.since() <= 5 * 20
    assert (carried(one), carried(two)) == (product(40), product(10))


def test_a_late_step_of_nadam_costs_no_more_than_an_early_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Counted(monkeypatch)
    opt = instep.NAdam(np.ones(2))
    opt.t = 10**12
    opt.step(np.ones(2))  # the product of the default momenta is soon too small to be seen
    assert counted.since() < 1000
    for _ in range(5):
        opt.step(np.ones(2))
        assert counted.since() <= 5
    assert opt.t == 10**12 + 6


def test_the_product_of_a_late_step_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instep.rules.nadam._SINGLE_FACTORS", 1000)
    counted = Counted(monkeypatch)
    opt = instep.NAdam(np.ones(2), **SLOW)
    counted.since()
    opt.t = 10**6
    opt.step(np.ones(2))
    assert counted.since() <= 1010
    opt.step(np.ones(2))
    assert counted.since() <= 5
    # After so many single factors, those that are left are taken for equal.
    rest = SLOW["betas"][0] ** (10**6 + 2 - 1000)
    assert carried(opt) == pytest.approx(product(1000) * rest, rel=1e-9)


def test_a_skipped_step_leaves_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    p = np.ones(2)
    opt = instep.NAdam(p, **SLOW)
    for number in range(9):
        grads = np.full(2, np.nan if number % 3 else 1.0)
        opt.step(grads, nonfinite="skip")
    assert (opt.t, carried(opt)) == (3, product(3))


@pytest.mark.parametrize("how", ["dict", "file"])
def test_a_load_takes_the_product_as_it_is(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opt = instep.NAdam(np.ones(2), **SLOW)
    for _ in range(200):
        opt.step(np.ones(2))
    other = instep.NAdam(np.ones(2), **SLOW)
    counted = Counted(monkeypatch)
    if how == "dict":
        other.load_state_dict(opt.state_dict())
    else:
        opt.save(tmp_path / "state")
        other.load(tmp_path / "state")
    assert counted.since() <= 5
    other.step(np.ones(2))
    assert counted.since() <= 5
    assert carried(other) == product(201)


def test_copies_take_the_product_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = instep.NAdam(np.ones(2), **SLOW)
    for _ in range(200):
        opt.step(np.ones(2))
    counted = Counted(monkeypatch)
    for copied in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        copied.step(np.ones(2))
        assert counted.since() <= 5
        assert carried(copied) == product(201)


def test_where_t_was_assigned_the_product_is_that_of_t() -> None:
    """And not one of another step, which a load would take for it."""
    own, others = np.ones(2), np.ones(2)
    opt, other = instep.NAdam(own, **SLOW), instep.NAdam(others, **SLOW)
    for _ in range(20):
        opt.step(np.ones(2))
    opt.t = 7
    saved = opt.state_dict()
    assert "carried" not in saved["groups"][0]
    others[...] = own
    other.load_state_dict(saved)
    for one in (opt, other):
        one.step(np.ones(2))
    assert own.tobytes() == others.tobytes()
    assert carried(opt) == carried(other) == product(8)


def test_a_product_follows_options_that_change_on_the_way() -> None:
    """As it does without a stop: the momenta of earlier steps stay what they were."""
    straight, own = params(), params()
    opt, before = instep.NAdam(straight, **SLOW), instep.NAdam(own, **SLOW)
    for one, arrays in ((opt, straight), (before, own)):
        train(one, arrays, 1, 5)
        one.param_groups[0]["betas"] = (0.5, 0.9)
    saved = json.loads(json.dumps(before.state_dict()["groups"]))
    assert saved[0]["carried"]["mu_product"] == product(5)
    after = instep.NAdam(own)
    after.load_state_dict(before.state_dict())
    for one, arrays in ((opt, straight), (after, own)):
        train(one, arrays, 6, 9)
    assert bits(after, own) == bits(opt, straight)


@pytest.mark.parametrize("stop", [0, 1, 7, 150])
@pytest.mark.parametrize("options", [{}, SLOW, {"mode": "keras"}, {"mode": "optax"}])
def test_files_of_older_versions_have_no_product(
    options: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    straight, own = params(), params()
    opt, before = instep.NAdam(straight, **options), instep.NAdam(own, **options)
    train(opt, straight, 1, stop + 5)
    train(before, own, 1, stop)
    path = tmp_path / "state"
    before.save(path)
    arrays, texts = safetensors.read(path, lambda texts: None)
    del texts["crc32"]
    groups = json.loads(texts["groups"])
    has = options.get("mode") != "optax"
    assert ("carried" in groups[0]) == has
    groups[0].pop("carried", None)
    texts["groups"] = json.dumps(groups)
    texts["crc32"] = checkpoint._crc32(texts, arrays)
    with path.open("wb") as file:
        safetensors.write(file, arrays, texts)
    after = instep.NAdam(own, **options)
    after.load(path)
    train(after, own, stop + 1, stop + 5)
    assert bits(after, own) == bits(opt, straight)


# Grouped otherwise

RULES: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "Adam": (instep.Adam, {"lr": 0.03, "weight_decay": 0.1}),
    "NAdam": (instep.NAdam, {"lr": 0.03, "weight_decay": 0.1, **SLOW}),
    "SGD": (instep.SGD, {"lr": 0.03, "weight_decay": 0.1, "momentum": 0.8}),
    "RAdam": (instep.RAdam, {"lr": 0.03, "weight_decay": 0.1}),
}
SAME: dict[str, Any] = {"*.b": {}, "1.*": {}}
OTHER: dict[str, Any] = {"*.b": {"weight_decay": 0.0, "lr": 0.01}}


@pytest.mark.parametrize("how", ["dict", "file"])
@pytest.mark.parametrize("way", ["into groups", "out of groups", "other groups"])
@pytest.mark.parametrize("name", RULES)
def test_a_state_loads_into_other_groups(name: str, way: str, how: str, tmp_path: Path) -> None:
    """With equal options everywhere, to the bit as if nothing had changed."""
    rule, options = RULES[name]
    ways: dict[str, tuple[Any, Any]] = {
        "into groups": (None, SAME),
        "out of groups": (SAME, None),
        "other groups": (SAME, {"0.*": {}, "*.W": {}}),
    }
    first, second = ways[way]
    straight, own = params(), params()
    opt = rule(straight, **options)
    train(opt, straight, 1, 8)
    before = rule(own, **options, groups=first)
    train(before, own, 1, 4)
    others = params()
    after = rule(others, **options, groups=second)
    train(after, others, 11, 12)  # a state of its own, to be written over
    if how == "dict":
        after.load_state_dict(before.state_dict())
        for key, array in own.items():
            others[key][...] = array
    else:
        before.save(tmp_path / "run", params=True)
        after.load(tmp_path / "run")
    train(after, others, 5, 8)
    assert bits(after, others) == bits(opt, straight)


@pytest.mark.parametrize("name", RULES)
def test_other_groups_keep_their_own_options(name: str) -> None:
    rule, options = RULES[name]
    one, other = rule(params(), **options), rule(params(), **{**options, "lr": 0.5}, groups=OTHER)
    train(one, one.param_groups[0]["params"], 1, 2)
    own = [{k: v for k, v in group.items() if k != "params"} for group in other.param_groups]
    other.load_state_dict(one.state_dict())
    assert other.t == 2
    now = [{k: v for k, v in group.items() if k != "params"} for group in other.param_groups]
    assert now == own
    assert [group["lr"] for group in now] == [0.01, 0.5]
    # And back, where the only group was none of the two.
    one.param_groups[0]["lr"] = 0.25
    one.load_state_dict(other.state_dict())
    assert one.param_groups[0]["lr"] == 0.25


def test_a_group_that_is_the_same_takes_its_options_though_others_do_not() -> None:
    saved = instep.Adam(params(), lr=0.1, groups={"*.b": {"lr": 0.2}, "0.W": {"lr": 0.3}})
    opt = instep.Adam(params(), lr=1.0, groups={"1.W": {"lr": 2.0}, "*.b": {"lr": 3.0}})
    opt.load_state_dict(saved.state_dict())
    assert [group["lr"] for group in opt.param_groups] == [2.0, 0.2, 1.0]


def test_the_product_is_that_of_the_group_with_the_first_parameter() -> None:
    groups = {"*.b": {"betas": (0.5, 0.9)}}
    saved = instep.NAdam(params(), **SLOW, groups=groups)
    train(saved, params(), 1, 3)
    of_b, of_w = (entry["carried"]["mu_product"] for entry in saved.state_dict()["groups"])
    assert of_b != of_w == product(3)
    whole = instep.NAdam(params(), **SLOW)
    whole.load_state_dict(saved.state_dict())
    assert carried(whole) == of_w


def test_a_callable_lr_of_another_group_is_asked_before_anything_is_written() -> None:
    def late(step: int) -> float:
        if step == 3:
            raise ArithmeticError("no rate")
        return 0.1

    own = params()
    opt = instep.Adam(own, groups={"*.b": {"lr": late}})
    saved = instep.Adam(params())
    train(saved, params(), 1, 3)
    before = bits(opt, own)
    with pytest.raises(ArithmeticError, match="no rate"):
        opt.load_state_dict(saved.state_dict())
    assert (opt.t, bits(opt, own)) == (0, before)


def test_groups_without_parameters() -> None:
    def make(lr: float) -> instep.NAdam:
        groups: list[Any] = [{"params": []}, {"params": [np.ones(2)]}, {"params": []}]
        return instep.NAdam(groups, lr=lr, **SLOW)

    opt, other = make(0.1), make(0.2)
    opt.step([[], [np.ones(2)], []])
    other.load_state_dict(opt.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.1, 0.1, 0.1]
    for number, group in enumerate(opt.param_groups):
        group["lr"] = float(number)
    other.load_state_dict(opt.state_dict())
    assert [group["lr"] for group in other.param_groups] == [0.0, 1.0, 2.0]
    only = instep.NAdam([{"params": []}], lr=0.3)
    saved = only.state_dict()
    saved["groups"] = []
    only.load_state_dict(saved)
    assert only.param_groups[0]["lr"] == 0.3


def test_the_work_of_a_load_grows_as_the_number_of_groups() -> None:
    hashed = 0

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            nonlocal hashed
            hashed += 1
            return super().__hash__()

    def work(count: int) -> int:
        nonlocal hashed
        opt = instep.SGD([{"params": [np.ones(1)]} for _ in range(count)], momentum=0.5)
        saved = opt.state_dict()
        for group in saved["groups"]:
            group["names"] = [Name(name) for name in group["names"]]
        hashed = 0
        opt.load_state_dict(saved)
        return hashed

    assert work(400) <= 5 * work(100)
