"""Options of an optimizer and of its groups: each works as its author meant, or raises."""

import copy
import math
import pickle
import re
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from instep import reference
from numpy.typing import NDArray

Array = NDArray[Any]
Tree = dict[str, Array]


def net(seed: int = 0) -> Tree:
    rng = np.random.default_rng(seed)
    shapes = {"l1.W": (4, 3), "l1.b": (3,), "l2.W": (3, 2), "l2.b": (2,)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


# What was ignored or misread once


def test_an_option_is_not_assigned_to_the_optimizer() -> None:
    opt = instep.Adam(net(), lr=0.1)
    for name, value in (("lr", 0.5), ("betas", (0.5, 0.5)), ("maximize", True)):
        wanted = f"assign it there: opt.param_groups[0]['{name}'] = {value!r}"
        with pytest.raises(AttributeError, match=re.escape(wanted)):
            setattr(opt, name, value)
    opt.label = "my own"
    assert opt.param_groups[0]["lr"] == 0.1


def test_an_option_that_a_class_does_not_have() -> None:
    for rule, option, meant in (
        (instep.Adam, "learning_rate", "; did you mean lr?"),
        (instep.AdamW, "beta1", "; did you mean betas?"),
        (instep.RMSprop, "rho", "; did you mean alpha?"),
        (instep.SGD, "weight_decy", "; did you mean weight_decay?"),
        (instep.Adagrad, "foo", ""),
    ):
        given: dict[str, Any] = {option: 0.1}
        with pytest.raises(TypeError) as info:
            rule(np.ones(3), **given)
        message = str(info.value)
        assert message.startswith(f"{rule.__name__}() has no option {option!r}; wanted lr, ")
        assert message.endswith(f", seed, bits{meant}")


def test_groups_are_changed_and_not_replaced() -> None:
    opt = instep.Adam(net(), lr=0.1)
    with pytest.raises(AttributeError, match=r"opt.param_groups\[0\]\['lr'\] = 0.01"):
        opt.param_groups = []
    with pytest.raises(TypeError):
        opt.param_groups[0] = {}  # type: ignore[index]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (instep.SGD, "maximize"),
        (instep.Adam, "maximize"),
        (instep.Lion, "maximize"),
        (instep.SGD, "nesterov"),
        (instep.RMSprop, "centered"),
        (instep.NAdam, "decoupled_weight_decay"),
        (instep.RAdam, "decoupled_weight_decay"),
        (instep.Adam, "zero_grads"),
    ],
)
def test_a_boolean_is_no_word(rule: Any, name: str) -> None:
    for wrong in ("False", "no", 0.5, 2, None, np.ones(2)):
        with pytest.raises(TypeError, match=rf"{name} is .*; wanted True or False"):
            rule(net(), **{name: wrong})
    needed = {"momentum": 0.5} if rule is instep.SGD else {}
    rule(net(), **needed, **{name: np.True_})


def test_a_number_is_no_mode() -> None:
    for amsgrad in (1, 1.0, 0, np.int64(1)):
        with pytest.raises(ValueError, match="wanted one of False, True, 'corrected'"):
            instep.Adam(np.ones(2), amsgrad=amsgrad)  # type: ignore[arg-type]
    true: Any = np.True_
    assert list(instep.Adam(np.ones(2), amsgrad=true).state["params"]) == ["m", "v", "v_max"]


def test_what_can_be_read_only_once_is_refused() -> None:
    betas: Any = (beta for beta in (0.9, 0.99))
    with pytest.raises(TypeError, match=r"^betas is a generator; wanted a tuple or list: tuple"):
        instep.Adam(np.ones(2), betas=betas)


def test_zero_grads_can_be_set_and_is_checked() -> None:
    opt = instep.SGD(net())
    opt.zero_grads = True
    with pytest.raises(TypeError, match="zero_grads is 'no'"):
        opt.zero_grads = "no"  # type: ignore[assignment]
    grads = net(1)
    opt.step(grads)
    assert opt.zero_grads
    assert not any(g.any() for g in grads.values())


def test_a_generator_is_told_to_be_a_list() -> None:
    with pytest.raises(TypeError, match=r"params is a generator; .*: list\(params\)"):
        instep.SGD(p for p in net().values())


def test_a_dtype_that_is_wrong_comes_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"pass params\[0\].astype\(np.float32\)"):
        instep.SGD([np.ones(2, np.int64)])
    opt = instep.SGD([np.ones(2, np.float32)])
    with pytest.raises(TypeError, match=r"of params\[0\]: pass grads\[0\].astype\(np.float32\)"):
        opt.step([np.ones(2)])
    opt = instep.SGD([np.ones(2)])
    with pytest.raises(TypeError, match=r"pass grads\[0\].astype\(np.float64\)$"):
        opt.step([np.ones(2, np.int64)])
    for dtype, option in ((np.uint16, 'bits="bfloat16"'), (np.float16, 'master="float32"')):
        with pytest.raises(TypeError, match=rf"astype\(np.float32\), or give {option}"):
            instep.SGD([np.ones(2, dtype)])


def test_weights_that_are_tied_by_a_view_are_told_what_to_do() -> None:
    E = np.ones((2, 3))
    opt = instep.SGD({"in": E, "out": E.T})
    with pytest.raises(ValueError, match="step only one, with the sum of the gradients of both"):
        opt.step({"in": np.ones((2, 3)), "out": np.ones((3, 2))})


# Options that change between steps


def test_an_option_that_changes_is_seen_by_the_next_step() -> None:
    p, g = np.array([1.0]), np.array([1.0])
    opt = instep.SGD(p, lr=0.5)
    group = opt.param_groups[0]
    opt.step(g)
    assert p == 0.5
    group["lr"] = 0.25
    opt.step(g)
    assert p == 0.25
    opt.step(g, lr=0.125)
    assert p == 0.125
    opt.step(g)
    assert p == -0.125
    group["maximize"] = True
    opt.step(g)
    assert p == 0.125
    group["lr"] = lambda step: 1.0 if step == 5 else 0.0
    opt.step(g)
    assert p == 1.125
    opt.step(g)
    assert p == 1.125


def test_a_list_among_the_options_is_looked_at_every_time() -> None:
    p, g = np.array([1.0]), np.array([1.0])
    opt = instep.Lion(p, lr=0.5, betas=[0.5, 0.5])
    opt.step(g)
    assert opt.state["params"]["m"] == 0.5
    opt.param_groups[0]["betas"][1] = 0.0
    opt.step(g)
    assert opt.state["params"]["m"] == 1.0


def test_powers_are_those_of_python() -> None:
    """To the bit, over all steps of a long run: both are of the C library."""
    rng = np.random.default_rng(1)
    for betas in ((0.9, 0.999), (0.5, 0.0), tuple(rng.random(2))):
        p, g = rng.standard_normal(5), rng.standard_normal(5)
        opt = instep.Adam(p, betas=betas, eps_mode="hat")
        wanted = p.copy(), np.zeros(5), np.zeros(5)
        for t in range(1, 1500):
            opt.step(g)
            numbers = {"beta1": betas[0], "beta2": betas[1], "lr": 1e-3, "eps": 1e-8}
            powers = {"beta1_power": betas[0] ** t, "beta2_power": betas[1] ** t}
            p0, m0, v0 = wanted
            wanted = reference.adam_hat(p0, g, m0, v0, **numbers, **powers)
            assert_same_bits(p, wanted[0])


# What a step returns


def test_the_result_of_a_step() -> None:
    opt = instep.SGD([{"params": np.ones(2), "lr": 0.5}, {"params": np.ones(2), "lr": 0.25}])
    result = opt.step([np.ones(2), None], max_norm=math.inf)
    assert (result.grad_norm, result.skipped, result.t) == (math.sqrt(2), False, 1)
    assert result.lr == (0.5, 0.25)
    alone = instep.SGD(np.ones(2), lr=lambda step: 0.5**step)
    for t in range(4):
        result = alone.step(np.ones(2))
        assert (result.lr, result.t, result.grad_norm) == (0.5**t, t + 1, None)
    assert repr(result) == "StepResult(grad_norm=None, skipped=False, lr=0.125, t=4)"
    assert alone.step(np.ones(2), lr=3.0).lr == 3.0


def test_a_loop_that_sums_gradients_goes_on_after_a_skip() -> None:
    p, g = np.ones(3), np.zeros(3)
    opt = instep.SGD(p, lr=0.5, zero_grads=True)
    done = []
    for micro_batch in (1.0, math.inf, 1.0, 1.0):
        g += micro_batch
        done.append(opt.step(g, nonfinite="skip").skipped)
    assert done == [False, True, False, False]
    assert (p == 1 - 3 * 0.5).all()


def test_too_many_skips_in_a_row_raise() -> None:
    p, bad, good = np.ones(2), np.array([1, np.inf]), np.ones(2)
    opt = instep.SGD(p, lr=0.5)
    for _ in range(2):
        for skipped in (1, 2, 3):
            assert opt.step(bad, nonfinite="skip", max_skips=3).skipped
            assert opt.skips == skipped
        with pytest.raises(FloatingPointError, match=r"grads has .*; 3 steps in a row were skip"):
            opt.step(bad, nonfinite="skip", max_skips=3)
        assert opt.skips == 3
        assert not opt.step(good, nonfinite="skip", max_skips=3).skipped
        assert opt.skips == 0
    assert opt.t == 2
    with pytest.raises(FloatingPointError):
        opt.step(bad, nonfinite="skip", max_skips=0)


@pytest.mark.parametrize("way", ["dict", "file", "deepcopy", "pickle"])
def test_a_run_that_goes_on_counts_skips_on(way: str, tmp_path: Path) -> None:
    bad, good = np.array([1, np.inf]), np.ones(2)
    opt, resumed = instep.SGD(np.ones(2)), instep.SGD(np.ones(2))
    resumed.step(bad, nonfinite="skip")
    for _ in range(3):
        opt.step(bad, nonfinite="skip", max_skips=3)
    if way == "dict":
        resumed.load_state_dict(opt.state_dict())
    elif way == "file":
        opt.save(tmp_path / "run")
        resumed.load(tmp_path / "run")
    else:
        resumed = copy.deepcopy(opt) if way == "deepcopy" else pickle.loads(pickle.dumps(opt))
    assert resumed.skips == 3
    with pytest.raises(FloatingPointError, match="3 steps in a row were skipped"):
        resumed.step(bad, nonfinite="skip", max_skips=3)
    assert not resumed.step(good, nonfinite="skip", max_skips=3).skipped
    assert (resumed.skips, opt.skips) == (0, 3)
    resumed.load_state_dict(resumed.state_dict())
    assert resumed.skips == 0


def test_a_state_of_an_older_version_has_no_skips() -> None:
    opt = instep.SGD(np.ones(2))
    opt.step(np.array([1, np.inf]), nonfinite="skip")
    older = opt.state_dict()
    assert older.pop("skips") == 1
    opt.load_state_dict(older)
    assert opt.skips == 0
    for wrong, kind in ((-1, ValueError), (2**53, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(kind, match="skips is "):
            opt.load_state_dict({**older, "skips": wrong})


def test_max_skips_is_checked() -> None:
    opt = instep.SGD(np.ones(2))
    for wrong, kind in ((-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(kind, match="max_skips is "):
            opt.step(np.ones(2), max_skips=wrong)  # type: ignore[arg-type]
    assert opt.t == 0
    opt.step(np.ones(2), max_skips=2**70)
    opt.step(np.ones(2), max_skips=np.int8(1))  # type: ignore[arg-type]


# Clipping


def test_clipping_by_value() -> None:
    rng = np.random.default_rng(2)
    dtypes: list[Any] = [np.float32, np.float64]
    for dtype in dtypes:
        p = rng.standard_normal(700).astype(dtype)
        g = (rng.standard_normal(700) * 3).astype(dtype)
        g[:4] = np.nan, np.inf, -np.inf, -0.0
        wanted = p.copy()
        opt = instep.SGD(p, lr=0.1, weight_decay=0.3)
        for scale in (1.0, -0.5):
            opt.step(g, max_value=0.7, grad_scale=scale)
            f = dtype
            clipped = np.clip(f(scale) * g, -f(0.7), f(0.7)) + f(0.3) * wanted
            wanted = wanted - f(0.1) * clipped
            assert_same_bits(p, wanted)


def test_clipping_the_norm_of_each_array() -> None:
    params = {"a": np.zeros(40_000), "b": np.zeros(2), "c": np.zeros(())}
    grads = {"a": np.full(40_000, 0.5), "b": np.array([3.0, 4.0]), "c": np.array(0.25)}
    opt = instep.SGD(params, lr=1.0)
    for scale in (1.0, 0.5):
        before = {name: p.copy() for name, p in params.items()}
        result = opt.step(grads, max_array_norm=2.0, grad_scale=scale)
        assert result.grad_norm is None
        for name, g in grads.items():
            norm = reference.gradient_norm(g) * scale
            factor = 2.0 / (norm + 1e-6) if norm > 2.0 else 1.0
            assert_same_bits(params[name], before[name] - 1.0 * ((scale * factor) * g))
    before = {name: p.copy() for name, p in params.items()}
    opt.step(grads)
    for name, g in grads.items():
        assert_same_bits(params[name], before[name] - g)


def test_bounds_are_checked() -> None:
    p = np.ones(2)
    opt = instep.SGD(p)
    for name in ("max_norm", "max_array_norm", "max_value"):
        for wrong, kind in ((-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)):
            given: dict[str, Any] = {name: wrong}
            with pytest.raises(kind, match=f"{name} is "):
                opt.step(np.ones(2), **given)
    with pytest.raises(ValueError, match="max_norm and max_array_norm"):
        opt.step(np.ones(2), max_norm=1.0, max_array_norm=1.0)
    assert (p == 1).all()
    assert opt.t == 0


# Which parameters decay, are frozen, and belong to which group


def trained(opt: instep.Optimizer, steps: int = 3) -> None:
    for t in range(steps):
        opt.step(net(10 + t))


@pytest.mark.parametrize("rule", [instep.AdamW, instep.Adam])
def test_weight_decay_reaches_what_the_mask_says(rule: Any) -> None:
    masks: list[Any] = [
        lambda name, array: array.ndim > 1,
        lambda name, array: name.endswith("W"),
        {"l1.W": True, "l1.b": False, "l2.W": np.True_, "l2.b": False},
    ]
    for mask in masks:
        params, decayed, plain = net(), net(), net()
        opt = rule(params, lr=0.1, weight_decay=0.5, weight_decay_mask=mask)
        trained(opt)
        trained(rule(decayed, lr=0.1, weight_decay=0.5))
        trained(rule(plain, lr=0.1, weight_decay=0.0))
        for name, p in params.items():
            assert_same_bits(p, (decayed if name.endswith("W") else plain)[name])
            assert (decayed[name] != plain[name]).any()


def test_a_mask_reaches_groups_that_are_added() -> None:
    a, b = net(), net()
    opt = instep.AdamW(
        [{"params": a}], lr=0.1, weight_decay=0.5, weight_decay_mask=lambda _, x: x.ndim > 1
    )
    opt.add_param_group({"params": b})
    opt.step([net(1), net(1)])
    for name in a:
        assert_same_bits(a[name], b[name])
    with pytest.raises(TypeError, match="weight_decay_mask is a tree, and params a list"):
        instep.AdamW([{"params": a}], weight_decay_mask=[{}])


def test_freeze_reaches_groups_that_are_added() -> None:
    for is_assigned in (False, True):
        a, b, c = net(), net(), net()
        freeze: Any = lambda name, _: name.endswith("b")  # noqa: E731
        opt = instep.SGD([{"params": a}], lr=0.1, freeze=None if is_assigned else freeze)
        if is_assigned:
            opt.freeze = freeze
        opt.add_param_group({"params": b})
        opt.step([net(1), net(1)])
        for name in a:
            assert_same_bits(a[name], b[name])
            assert (a[name] == net()[name]).all() == name.endswith("b")
        # A tree says nothing of what comes later.
        opt.freeze = opt.freeze
        opt.add_param_group({"params": c})
        assert opt.freeze == [{name: name.endswith("b") for name in a}] * 2 + [
            dict.fromkeys(c, False)
        ]
    unsure: Any = lambda name, _: "yes" if name.startswith("3") else False  # noqa: E731
    opt.freeze = unsure
    with pytest.raises(TypeError, match=r'freeze\["3.l1.W"\] is \'yes\''):
        opt.add_param_group({"params": net()})
    assert len(opt.param_groups) == 3


def test_masks_are_checked() -> None:
    for argument in ("weight_decay_mask", "freeze"):
        for mask, kind, message in (
            ({"l1.W": True}, KeyError, f'{argument}["l1.b"] is missing'),
            (lambda name, array: "yes", TypeError, f"{argument}[\"l1.W\"] is 'yes'"),
            (dict.fromkeys(net(), 1), TypeError, f'{argument}["l1.W"] is 1 (int); wanted True or'),
            (3, TypeError, f"{argument} is an int; wanted a dict"),
        ):
            given: dict[str, Any] = {argument: mask}
            with pytest.raises(kind) as info:
                instep.AdamW(net(), **given)
            assert message in str(info.value)


def test_what_is_frozen_is_left_alone() -> None:
    params, free = net(), net()
    opt = instep.Adam(params, lr=0.1, average=0.9, freeze=lambda name, array: name == "l1.W")
    trained(opt)
    trained(instep.Adam(free, lr=0.1, average=0.9))
    assert opt.freeze == {"l1.W": True, "l1.b": False, "l2.W": False, "l2.b": False}
    assert_same_bits(params["l1.W"], net()["l1.W"])
    assert_same_bits(opt.averages["l1.W"], net()["l1.W"])
    assert not opt.state["l1.W"]["m"].any()
    for name in ("l1.b", "l2.W", "l2.b"):
        assert_same_bits(params[name], free[name])
    # Its gradient is not looked at.
    grads: Any = {**net(1), "l1.W": np.array([np.nan])}
    opt.step(grads, nonfinite="raise")
    opt.freeze = None
    with pytest.raises(ValueError, match=r'grads\["l1.W"\] has shape'):
        opt.step(grads)
    opt.freeze = dict.fromkeys(params, True)
    before = {name: p.copy() for name, p in params.items()}
    opt.step(net(5))
    for name, p in params.items():
        assert_same_bits(p, before[name])
    assert opt.t == 5


def test_masks_survive_copies() -> None:
    makes: list[Any] = [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
    for make in makes:
        params = net()
        opt = instep.AdamW(
            params, lr=0.1, weight_decay=0.5, freeze={**dict.fromkeys(params, False), "l2.b": True}
        )
        opt.freeze = {**dict.fromkeys(params, False), "l1.b": True}
        twin = make(opt)
        assert twin.freeze == opt.freeze
        trained(opt)
        trained(twin)
        for name, p in twin.param_groups[0]["params"].items():
            assert_same_bits(p, params[name])


def test_callables_of_masks_are_in_deep_copies_and_not_in_pickles() -> None:
    masks: dict[str, Any] = {
        "weight_decay_mask": lambda name, array: array.ndim > 1,
        "freeze": lambda name, array: name.endswith("l2.W"),
    }
    opt = instep.AdamW([{"params": net()}], lr=0.1, weight_decay=0.5, **masks)
    twins = copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))
    all_decay = instep.AdamW([{"params": net()}], lr=0.1, weight_decay=0.5)
    for each in (opt, *twins, all_decay):
        each.add_param_group({"params": net()})
        each.step([net(1), net(1)])
    ends: list[Any] = [
        [group["params"] for group in each.param_groups] for each in (opt, *twins, all_decay)
    ]
    for name in net():
        # What was there keeps what the callables said; what is added has them in the deep copy.
        assert_same_bits(ends[1][0][name], ends[0][0][name])
        assert_same_bits(ends[1][1][name], ends[0][1][name])
        assert_same_bits(ends[2][0][name], ends[0][0][name])
        assert_same_bits(ends[2][1][name], ends[3][1][name])
        assert (ends[0][1][name] != ends[3][1][name]).any() == (name != "l1.W")


def test_a_hook_that_raises_after_a_step_leaves_it_done() -> None:
    p = np.zeros(2)
    opt = instep.SGD(p, lr=1.0)

    def complain(opt: Any, result: Any) -> None:
        raise LookupError

    opt.register_step_post_hook(complain)
    with pytest.raises(LookupError):
        opt.step(np.ones(2))
    assert opt.t == 1
    assert (p == -1).all()


def test_what_a_hook_returned_is_cleared_and_not_what_was_passed() -> None:
    opt = instep.SGD(np.zeros(2), lr=1.0, zero_grads=True)
    grads, clipped = np.ones(2), np.full(2, 0.5)
    opt.register_step_pre_hook(lambda *_: clipped)
    opt.step(grads)
    assert (grads == 1).all()
    assert (clipped == 0).all()


def test_groups_by_pattern_keep_the_structure() -> None:
    params, listed = net(), net()
    opt = instep.AdamW(
        params,
        lr=0.1,
        weight_decay=0.5,
        groups={"*.b": {"weight_decay": 0.0, "lr": 0.2}, "l1.*": {"name": "first", "eps": 1e-3}},
    )
    weights = {"weight_decay": 0.5, "lr": 0.1}
    other = instep.AdamW(
        [
            {"params": [listed["l1.b"], listed["l2.b"]], "weight_decay": 0.0, "lr": 0.2},
            {"params": [listed["l1.W"]], "eps": 1e-3, **weights},
            {"params": [listed["l2.W"]], **weights},
        ]
    )
    assert [group["name"] for group in opt.param_groups] == ["*.b", "first", "others"]
    assert [list(group["params"]) for group in opt.param_groups] == [
        ["l1.b", "l2.b"],
        ["l1.W"],
        ["l2.W"],
    ]
    for t in range(4):
        grads = net(20 + t)
        opt.step(grads, max_norm=1.0)
        order = [[grads["l1.b"], grads["l2.b"]], [grads["l1.W"]], [grads["l2.W"]]]
        norm = reference.gradient_norm(*grads.values())
        factor = reference.clip_factor(norm, max_norm=1.0)
        other.step(order, grad_scale=factor)
        for name, p in params.items():
            assert_same_bits(p, listed[name])
        opt.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.01 * t
    assert list(opt.state) == list(params)


def test_groups_by_pattern_are_checked() -> None:
    bad: list[tuple[Any, type[Exception], str]] = [
        ({"*.x": {}}, ValueError, "groups has the pattern '*.x', which matches no name"),
        ({"*": {}, "l1.*": {}}, ValueError, "groups has the pattern 'l1.*'"),
        ({"*.b": {"bogus": 1}}, ValueError, "the option 'bogus'"),
        ({"*.b": {"params": 1}}, ValueError, "groups['*.b'] has 'params'"),
        ({"*.b": {"lr": -1}}, ValueError, "groups['*.b']: lr is -1; wanted"),
        ({"*": {}, "l1.b": {}}, ValueError, "no name that is left: earlier patterns match all"),
        (
            {"l1.*": {}, "l1.b": {}},
            ValueError,
            "'l1.b', which matches no name that is left: 'l2.W', 'l2.b'",
        ),
        ({"*.b": 0.1}, TypeError, "groups['*.b'] is a float; wanted a dict of options"),
        ({0: {}}, TypeError, "groups has the pattern 0, an int; wanted a str"),
        ({"*.b": {"learning_rate": 1}}, ValueError, "did you mean lr?"),
        ({"*.b": {"name": 1}}, TypeError, "the name 1; wanted a str"),
        ([{}], TypeError, "groups is a list; wanted a dict of options by pattern"),
    ]
    for groups, kind, message in bad:
        with pytest.raises(kind) as info:
            instep.SGD(net(), groups=groups)
        assert message in str(info.value)
    with pytest.raises(ValueError, match=r"^param_groups\[1\]: lr is -1; wanted"):
        instep.SGD([{"params": net()}, {"params": np.ones(2), "lr": -1}])
    with pytest.raises(ValueError, match=r"^lr is -1; wanted"):
        instep.SGD(net(), lr=-1, groups={"*.b": {}})
    with pytest.raises(ValueError, match="groups was given, and params is a list of groups"):
        instep.SGD([{"params": net()}], groups={})


def test_a_group_may_have_a_name() -> None:
    opt = instep.SGD([{"params": np.ones(2), "name": "weights"}, {"params": np.ones(3)}], lr=0.5)
    assert opt.param_groups[0]["name"] == "weights"
    opt.step([np.ones(2), np.ones(3)])
    shown = repr(opt)
    assert shown.startswith("SGD(t=1, \n    'weights': 1 arrays, 2 elements: lr=0.5, ")
    assert repr(instep.Lion(np.ones(3))) == (
        "Lion(t=0, 1 arrays, 3 elements: lr=0.0001, betas=(0.9, 0.99), weight_decay=0.0, "
        "maximize=False)"
    )


# Hooks


def test_hooks_are_called_around_a_step() -> None:
    p = np.zeros(2)
    opt = instep.SGD(p, lr=1.0)
    seen: list[Any] = []
    remove_double = opt.register_step_pre_hook(lambda opt, grads: 2 * grads)
    remove_look = opt.register_step_pre_hook(lambda opt, grads: seen.append((opt.t, grads[0])))
    remove_after = opt.register_step_post_hook(lambda opt, result: seen.append(result))
    result = opt.step(np.ones(2))
    assert seen == [(0, 2.0), result]
    assert (p == -2).all()
    remove_double()
    opt.step(np.ones(2))
    assert (p == -3).all()
    remove_look()
    remove_after()
    remove_after()
    del seen[:]
    opt.step(np.ones(2))
    assert seen == []
    copy.deepcopy(opt).step(np.ones(2))
    with pytest.raises(TypeError, match="hook is 3; wanted a callable"):
        opt.register_step_pre_hook(3)  # type: ignore[arg-type]


def test_a_hook_that_raises_before_a_step_prevents_it() -> None:
    p = np.zeros(2)
    opt = instep.SGD(p, lr=1.0)

    def refuse(opt: Any, grads: Any) -> None:
        raise LookupError

    opt.register_step_pre_hook(refuse)
    with pytest.raises(LookupError):
        opt.step(np.ones(2))
    assert opt.t == 0
    assert not p.any()


@pytest.mark.parametrize("when", ["pre", "post"])
def test_a_hook_may_remove_itself_or_be_registered_twice(when: str) -> None:
    opt = instep.SGD(np.zeros(2), lr=1.0)
    register = getattr(opt, f"register_step_{when}_hook")
    seen: list[str] = []

    def once(*_: Any) -> None:
        seen.append("once")
        remove_once()

    def twice(*_: Any) -> None:
        seen.append("twice")

    remove_once = register(once)
    remove = register(twice)
    opt.step(np.ones(2))
    opt.step(np.ones(2))
    assert seen == ["once", "twice", "twice"]
    remove_other = register(twice)
    remove()
    remove()
    del seen[:]
    opt.step(np.ones(2))
    assert seen == ["twice"]
    remove_other()
    opt.step(np.ones(2))
    assert seen == ["twice"]


# NAdam's product


def test_the_product_of_momenta_is_computed_in_bounded_time(monkeypatch: Any) -> None:
    calls = 0
    momentum = instep.NAdam._mu

    def counted(options: Any, t: int) -> float:
        nonlocal calls
        calls += 1
        return momentum(options, t)

    monkeypatch.setattr(instep.NAdam, "_mu", counted)
    one, two = instep.NAdam(np.ones(2)), instep.NAdam(np.ones(2))
    one.step(np.ones(2))
    two.t = 5_000_000
    calls = 0
    for _ in range(100):
        one.step(np.ones(2))
        two.step(np.ones(2))
    assert calls < 2_000
    calls = 0
    two.t = 10**12
    two.step(np.ones(2))
    instep.functional.nadam(np.ones(2), np.ones(2), np.zeros(2), np.zeros(2), t=10**15)
    assert calls < 5_000
    calls = 0
    slow = instep.NAdam(np.ones(2), betas=(1 - 1e-9, 0.999))
    slow.t = 10**12
    slow.step(np.ones(2))
    assert calls < 1_100_000


def test_nadam_at_different_steps_takes_the_path_of_one_alone() -> None:
    rng = np.random.default_rng(4)
    grads = rng.standard_normal((60, 7))
    alone, turns = np.ones(7), [np.ones(7), np.ones(7)]
    opt = instep.NAdam(alone, lr=0.05)
    for g in grads:
        opt.step(g)
    pair = [instep.NAdam(p, lr=0.05) for p in turns]
    for g in grads[:20]:
        pair[0].step(g)
    for i, g in enumerate(grads):
        pair[1].step(g)
        if i + 20 < len(grads):
            pair[0].step(grads[i + 20])
    for p in turns:
        assert_same_bits(p, alone)


def test_functional_takes_numpy_integers_as_python_ones() -> None:
    rules = [
        (instep.functional.nadam, 2),
        (instep.functional.adam, 2),
        (instep.functional.radam, 2),
    ]

    def ends_of(function: Any, states: int, t: Any) -> list[Array]:
        p, g = np.random.default_rng(5).standard_normal((2, 50))
        state = [np.full(50, 0.1) for _ in range(states)]
        function(p, g, *state, t=t)
        return [p, *state]

    for function, states in rules:
        for t in (*range(1, 3000, 3), 255):
            # A power of a NumPy integer is that of NumPy, and a sum may be of 8 bits.
            kinds: list[Any] = [np.int64, np.uint64] + ([np.uint8] if t < 256 else [])
            wanted = ends_of(function, states, t)
            for kind in kinds:
                for has, end in zip(ends_of(function, states, kind(t)), wanted, strict=True):
                    assert_same_bits(has, end, f"t={kind(t)!r}")
    for t in (2**64, 10**30):
        with pytest.raises(ValueError, match=f"t is {t}; wanted 9007199254740992 or less"):
            instep.functional.adam(np.ones(2), np.ones(2), np.ones(2), np.ones(2), t=t)
