import copy
import functools
import json
import math
import os
import pickle
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import named
from hypothesis import given, settings
from hypothesis import strategies as st
from instep import Optimizer, _instep, checkpoint, optimizers, schedules, state
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Arrays = dict[str, NDArray[Any]]


def parameters(dtype: Any = np.float64) -> Arrays:
    """Parameters of every layout; those of one name are the same each time."""
    random = np.random.default_rng(0)
    base = random.standard_normal((6, 10)).astype(dtype)
    return {
        "dense": random.standard_normal((5, 7)).astype(dtype),
        "Fortran": np.asfortranarray(random.standard_normal((3, 4)).astype(dtype)),
        "strided": base[::2, ::3],
        "scalar": np.array(0.5, dtype),
        "empty": np.zeros((0, 3), dtype),
    }


def gradients(params: Arrays, t: int) -> Arrays:
    random = np.random.default_rng(t)
    return {k: random.standard_normal(p.shape).astype(p.dtype) for k, p in params.items()}


def train(opt: Optimizer, params: Arrays, first: int, last: int) -> None:
    """Do steps `first` to `last`, with gradients that depend on the parameters too."""
    for t in range(first, last + 1):
        grads = gradients(params, t)
        for key, grad in grads.items():
            grad += params[key]
        opt.step(grads if len(opt.param_groups) == 1 else by_group(grads))


def by_group(arrays: Arrays) -> list[Arrays]:
    keys = list(arrays)
    return [{k: arrays[k] for k in keys[:2]}, {k: arrays[k] for k in keys[2:]}]


def every_array(opt: Optimizer) -> list[NDArray[Any]]:
    """All that a call may write: parameters, state and averages."""
    return [array for parameter in opt._parameters for array in parameter.arrays()]


def photograph(opt: Optimizer) -> tuple[Any, ...]:
    """All that a failed call must leave: bits, step, options."""
    options = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    bits = [(a.dtype.str, a.shape, a.strides, a.tobytes()) for a in every_array(opt)]
    return bits, opt.t, opt.average, options


def fading(step: int) -> float:
    return 0.1 / (step + 1)


MAKE: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: instep.SGD(p, lr=0.05),
    "momentum": lambda p: instep.SGD(p, lr=0.05, momentum=0.8, momentum_mode="ema"),
    "rmsprop": lambda p: instep.RMSprop(p, lr=0.02, alpha=0.9, weight_decay=0.01),
    "rmsprop inside": lambda p: instep.RMSprop(p, eps_mode="inside", maximize=True),
    "adam": lambda p: instep.Adam(p, lr=0.03, betas=(0.8, 0.95), eps=1e-6),
    "adam hat": lambda p: instep.Adam(p, eps_mode="hat", weight_decay=0.1),
    "adam average": lambda p: instep.Adam(p, lr=0.03, average=0.9),
    "amsgrad corrected": lambda p: instep.Adam(p, amsgrad="corrected", betas=(0.8, 0.7)),
    "rmsprop lr inside": lambda p: instep.RMSprop(p, momentum=0.7, momentum_mode="lr_inside"),
    "adamw": lambda p: instep.AdamW(p, lr=0.03, weight_decay=0.1, eps_mode="outside"),
    "schedule": lambda p: instep.Adam(p, lr=schedules.Warmup(schedules.Cosine(0.1, 0.0, 8), 4)),
    "function": lambda p: instep.AdamW(p, lr=fading, average=0.8),
    "groups": lambda p: instep.AdamW(
        [{"params": q, "lr": lr, "eps_mode": mode}
         for q, lr, mode in zip(by_group(p), (0.1, 0.01), ("inside", "hat"), strict=True)],
        average=0.95,
    ),
}  # fmt: skip


# A recipe, and a rule that runs it: what other states there are.
OTHERS: list[tuple[str, type[Optimizer], dict[str, Any]]] = [
    ("momentum_heavy_ball", instep.SGD, {"momentum": 0.8, "dampening": 0.3}),
    ("rmsprop_outside_centered_momentum", instep.RMSprop, {"centered": True, "momentum": 0.7}),
    ("adam_scaled_amsgrad", instep.Adam, {"amsgrad": True, "average": 0.9}),
    ("adagrad_outside", instep.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("adadelta", instep.Adadelta, {}),
    ("adamax_inside", instep.Adamax, {}),
    ("nadam", instep.NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("radam_unrectified", instep.RAdam, {}),
    ("lion", instep.Lion, {"weight_decay": 0.1}),
]
MAKE |= {
    rule.__name__: functools.partial(rule, **options)
    for recipe, rule, options in OTHERS
    if recipe in _instep.recipes()
}
# And every rule there is, as it is by default.
MAKE |= {f"{name} by default": getattr(optimizers, name) for name in optimizers.__all__}


# Never having stopped


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stop", [0, 1, 5])
@pytest.mark.parametrize("how", ["dict", "file"])
@pytest.mark.parametrize("name", MAKE)
def test_resuming_gives_the_bits_of_never_having_stopped(
    name: str, how: str, stop: int, dtype: Any, tmp_path: Path
) -> None:
    straight = parameters(dtype)
    opt = MAKE[name](straight)
    train(opt, straight, 1, 10)

    first = parameters(dtype)
    before = MAKE[name](first)
    train(before, first, 1, stop)
    second = parameters(dtype)
    after = MAKE[name](second)
    train(after, second, 1, 3)  # a state of its own, to be written over
    for key, param in first.items():
        second[key][...] = param
    if how == "dict":
        after.load_state_dict(before.state_dict())
    else:
        before.save(tmp_path / "state")
        after.load(tmp_path / "state")
    assert photograph(after)[1:] == photograph(before)[1:]
    train(after, second, stop + 1, 10)

    for key, param in straight.items():
        assert second[key].tobytes() == param.tobytes(), key
    assert [a.tobytes() for a in every_array(after)] == [a.tobytes() for a in every_array(opt)]
    assert after.t == 10


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", MAKE)
def test_a_copy_goes_on_with_the_bits_of_the_original(name: str, how: str) -> None:
    params = parameters()
    opt = MAKE[name](params)
    train(opt, params, 1, 4)
    twin = copy.deepcopy(opt) if how == "deepcopy" else pickle.loads(pickle.dumps(opt))
    twins: Arrays = {}
    for group in twin.param_groups:
        twins |= group["params"]
    before = photograph(twin)
    train(opt, params, 5, 8)
    assert photograph(twin) == before
    train(twin, twins, 5, 8)
    for key, param in params.items():
        assert twins[key].tobytes() == param.tobytes(), key
    assert twin.state_dict()["groups"] == opt.state_dict()["groups"]
    # The options of the copy are its own, and count.
    opt.param_groups[0]["lr"] = 0.0
    twin.param_groups[0]["lr"] = 0.5
    train(twin, twins, 9, 9)
    assert twins["dense"].tobytes() != params["dense"].tobytes()


def test_what_is_no_path_is_refused() -> None:
    opt = instep.SGD(np.ones(2))
    for path, kind in ((None, "None"), (3, "an int"), (b"path", "a bytes")):
        for call in (opt.save, opt.load):
            with pytest.raises(TypeError, match=f"^path is {kind}; wanted a str or a pathlib.Path"):
                call(path)  # type: ignore[arg-type]


def test_options_are_those_that_were_saved() -> None:
    saved = instep.Adam(np.ones(2), lr=0.3, betas=[0.5, 0.6], maximize=True, eps_mode="hat")
    opt = instep.Adam(np.ones(2), average=None)
    groups = opt.param_groups
    opt.load_state_dict(saved.state_dict())
    assert opt.param_groups[0] is groups[0]
    options = {key: value for key, value in groups[0].items() if key != "params"}
    assert options == {
        "lr": 0.3,
        "betas": (0.5, 0.6),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "amsgrad": False,
        "eps_mode": "hat",
        "maximize": True,
    }


def test_the_decay_of_averages_is_that_which_was_saved() -> None:
    opt = instep.Adam(np.ones(2), average=0.5)
    opt.load_state_dict(instep.Adam(np.ones(2), average=0.9).state_dict())
    assert opt.average == 0.9
    assert opt.state_dict()["average"] == 0.9
    p = np.ones(2)
    opt, like = instep.Adam(p, average=0.5), instep.Adam(p.copy(), average=0.9)
    opt.load_state_dict(like.state_dict())
    for one in (opt, like):
        one.step(np.ones(2))
    assert opt.averages.tobytes() == like.averages.tobytes()


# Callable learning rates


def test_a_callable_lr_stays_whatever_was_saved() -> None:
    schedule = schedules.Linear(0.1, 0.0, 10)
    for lr in (0.3, schedules.Constant(0.2)):
        opt = instep.Adam(np.ones(2), lr=schedule)
        opt.load_state_dict(instep.Adam(np.ones(2), lr=lr).state_dict())
        assert opt.param_groups[0]["lr"] is schedule


def test_a_callable_lr_is_not_stored_and_missed() -> None:
    saved = instep.Adam(np.ones(2), lr=schedules.Constant(0.2)).state_dict()
    assert saved["groups"][0]["options"]["lr"] is None
    opt = instep.Adam(np.ones(2), lr=0.3)
    refuses(opt, saved, ValueError, "was a callable, which is not stored")
    saved["groups"][0]["options"]["lr"] = 0.25
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["lr"] == 0.25


def test_a_callable_lr_is_asked_before_anything_is_written() -> None:
    saved = adam(steps=3).state_dict()

    def late(step: int) -> float:
        if step == 3:
            raise ArithmeticError("no rate")
        return 0.1

    opt = instep.Adam({"W": np.ones((2, 3)), "b": np.ones(3)}, lr=late)
    refuses(opt, saved, ArithmeticError, "no rate")


# What a state dict is


def adam(steps: int = 2, **options: Any) -> instep.Adam:
    opt = instep.Adam({"W": np.ones((2, 3)), "b": np.ones(3)}, **options)
    for t in range(steps):
        opt.step({"W": np.full((2, 3), 0.5 + t), "b": np.arange(3.0)})
    return opt


def test_the_dict_is_plain_and_a_copy() -> None:
    opt = adam(lr=np.float32(0.5), betas=np.array([0.5, 0.25]), average=0.9)
    saved = opt.state_dict()
    assert list(saved) == [
        "format",
        "rule",
        "t",
        "skips",
        "storage",
        "average",
        "groups",
        "state",
        "averages",
    ]
    options = saved["groups"][0]["options"]
    assert (options["lr"], options["betas"]) == (0.5, [0.5, 0.25])
    assert {type(value) for value in options.values()} <= {float, bool, str, list}
    plain = {key: value for key, value in saved.items() if key not in ("state", "averages")}
    assert json.loads(json.dumps(plain)) == plain
    arrays = [*saved["state"]["W"].values(), *saved["averages"].values()]
    assert all(type(array) is np.ndarray for array in arrays)
    own = every_array(opt)
    assert not any(np.shares_memory(a, b) for a in arrays for b in own)
    before = copy.deepcopy(saved)
    opt.step({"W": np.ones((2, 3)), "b": np.ones(3)})
    opt.param_groups[0]["eps"] = 0.5
    np.testing.assert_equal(saved, before)


def test_a_state_dict_survives_its_own_changes() -> None:
    opt = adam()
    saved = opt.state_dict()
    opt.load_state_dict(saved)
    before = photograph(opt)
    saved["state"]["W"]["m"][...] = 9.0
    saved["groups"][0]["options"]["betas"][0] = 0.0
    assert photograph(opt) == before


def test_loading_writes_into_the_arrays_that_there_are() -> None:
    params = parameters()
    opt = instep.Adam(params, average=0.9)
    arrays = every_array(opt)
    state = opt.state
    strides = [array.strides for array in arrays]
    other = parameters()
    saved = instep.Adam(other, average=0.9)
    train(saved, other, 1, 3)
    opt.load_state_dict(saved.state_dict())
    assert all(a is b for a, b in zip(every_array(opt), arrays, strict=True))
    assert [array.strides for array in every_array(opt)] == strides
    assert state["dense"]["m"].tobytes() == saved.state["dense"]["m"].tobytes()
    assert params["dense"].tobytes() != other["dense"].tobytes()


@pytest.mark.parametrize("how", ["dict", "file"])
@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, np.uint32), (np.float64, np.uint64)])
def test_every_bit_is_kept(dtype: Any, bits: Any, how: str, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    info: Any = np.finfo(dtype)
    exponent = bits((1 << info.nexp) - 1) << bits(info.nmant)
    payloads = random.integers(1, 1 << info.nmant, 999, dtype=bits) | exponent
    payloads[::2] |= bits(1) << bits(info.nexp + info.nmant)
    # No NaN may pass through a floating-point register that would make it quiet.
    quiet = bits(1) << bits(info.nmant - 1)
    assert ((payloads & quiet) == 0).any()
    opt = instep.RMSprop({"W": np.zeros((999, 2), dtype)[:, 0]})
    opt.state["W"]["v"].view(bits)[...] = payloads
    other = instep.RMSprop({"W": np.zeros(1998, dtype)[::2]})
    if how == "dict":
        other.load_state_dict(opt.state_dict())
    else:
        opt.save(tmp_path / "state")
        other.load(tmp_path / "state")
    assert (other.state["W"]["v"].view(bits) == payloads).all()


def test_names_may_come_in_another_order() -> None:
    opt = adam()
    saved = opt.state_dict()
    saved["groups"][0]["names"].reverse()
    saved["state"] = dict(reversed(saved["state"].items()))
    other = instep.Adam({"b": np.ones(3), "W": np.ones((2, 3))})
    other.load_state_dict(saved)
    for name in ("W", "b"):
        assert other.state[name]["v"].tobytes() == opt.state[name]["v"].tobytes()


def test_views_of_the_own_arrays_may_be_loaded() -> None:
    opt = instep.Adam([np.ones(2), np.ones(2)])
    opt.step([np.ones(2), np.full(2, 5.0)])
    saved = opt.state_dict()
    zero, one = (opt.state[name] for name in "01")
    before = [array.tobytes() for array in (one["m"], one["v"], zero["m"][::-1], zero["v"])]
    saved["state"] = {"0": one, "1": {"m": zero["m"][::-1], "v": zero["v"]}}
    opt.load_state_dict(saved)
    assert [s[k].tobytes() for s in (zero, one) for k in ("m", "v")] == before


def through_memoryview(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(memoryview(array))  # type: ignore[arg-type]


def through_bytes(array: NDArray[Any]) -> NDArray[Any]:
    """Another owner, and another dtype on the way."""
    return np.frombuffer(array.view(np.uint8), array.dtype).reshape(array.shape)


def through_interface(array: NDArray[Any]) -> NDArray[Any]:
    class Foreign:
        __array_interface__ = array.__array_interface__

    return np.asarray(Foreign())


def through_strides(array: NDArray[Any]) -> NDArray[Any]:
    return np.lib.stride_tricks.as_strided(array, array.shape, array.strides)


VIEWS: list[Callable[[NDArray[Any]], NDArray[Any]]] = [
    through_memoryview,
    through_bytes,
    through_interface,
    through_strides,
    lambda array: array[::-1],
    lambda array: through_memoryview(array)[::-1],
    lambda array: through_interface(array)[::-1],
    lambda array: np.broadcast_to(array[1:2], array.shape),
    lambda array: array.astype(np.float64),  # no view
]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_any_view_of_an_own_array_may_be_loaded(number: int) -> None:
    """m takes what v has and the other way round, as if both had been copied first."""
    view = VIEWS[number]
    opt = instep.Adam(np.ones(50))
    for t in range(3):
        opt.step(np.arange(50.0) - 20 * t)
    saved, own = opt.state_dict(), opt.state["params"]
    given = {"m": view(own["v"]), "v": view(own["m"])}
    wanted = {key: array.tobytes() for key, array in given.items()}
    saved["state"] = {"params": given}
    opt.load_state_dict(saved)
    assert {key: array.tobytes() for key, array in own.items()} == wanted


def test_views_that_straddle_two_own_arrays_may_be_loaded() -> None:
    base = np.arange(8.0)
    opt = instep.Adam({"a": np.ones(3), "b": np.ones(3)})
    for name, first in (("a", 0), ("b", 3)):
        for parameter in opt._parameters:
            if parameter.name == name:
                parameter.states["m"] = base[first : first + 3]
    saved = opt.state_dict()
    saved["state"]["a"]["m"] = base[2:5]
    saved["state"]["b"]["m"] = base[4:7][::-1]
    opt.load_state_dict(saved)
    assert base.tolist() == [2.0, 3.0, 4.0, 6.0, 5.0, 4.0, 6.0, 7.0]


@given(st.data())
@settings(deadline=None)
def test_spans_see_whatever_may_share_memory(data: st.DataObject) -> None:
    """They may see too much, never too little, and nothing where it is far away."""
    base = np.zeros(40)
    slices = st.slices(40)

    def views(name: str) -> list[NDArray[Any]]:
        found = data.draw(st.lists(slices, max_size=4), label=name)
        return [base[piece] for piece in found]

    own = views("own")
    spans = state._Spans(own)
    for array in views("given"):
        if any(np.shares_memory(array, one) for one in own):
            assert spans.may_share(array)
        assert spans.may_share(array) <= any(np.may_share_memory(array, one) for one in own)
    assert not spans.may_share(np.zeros(40))


# What a state dict must be


def refuses(opt: Optimizer, saved: Any, error: type[Exception], match: str) -> None:
    before = photograph(opt)
    with pytest.raises(error, match=re.escape(match)):
        opt.load_state_dict(saved)
    assert photograph(opt) == before


def edit(saved: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    part: Any = saved
    for key in parents:
        part = part[int(key) if isinstance(part, list) else key]
    if value is ...:
        del part[last]
    else:
        part[last] = value


@pytest.mark.parametrize(
    ("path", "value", "error", "match"),
    [
        ("format", ..., ValueError, "state_dict has the format None, which is not one of instep's"),
        ("format", "1", ValueError, "format '1'"),
        ("format", True, ValueError, "format True"),
        ("format", 0, ValueError, "format 0"),
        ("format", 3, ValueError, "format 3, and this instep knows those up to 2"),
        ("rule", "AdamW", ValueError, "state_dict has the rule 'AdamW'; wanted 'Adam'"),
        ("rule", None, ValueError, "None"),
        ("t", ..., ValueError, "state_dict lacks 't'"),
        ("T", 3, ValueError, "state_dict has the unknown 'T'"),
        ("t", -1, ValueError, "t is -1"),
        ("t", 2.0, TypeError, "t is 2.0"),
        ("t", True, TypeError, "t is True"),
        ("t", 10**400, ValueError, "wanted less than"),
        ("average", None, ValueError, "has no averages of the parameters; wanted some"),
        ("average", 1.0, ValueError, "average is 1.0"),
        ("average", "0.9", TypeError, "average is '0.9'"),
        ("averages", {}, ValueError, "averages lacks 'W', 'b'"),
        ("averages", None, TypeError, "averages is None"),
        ("averages/b", np.ones(4), ValueError, 'averages["b"] has shape (4,); wanted (3,)'),
        ("groups", {}, TypeError, "groups is a dict"),
        ("groups", [], ValueError, "state_dict lacks 'W', 'b'"),
        ("groups", [3], TypeError, "groups[0] is an int"),
        ("groups/0/names", ["W", "b", "W"], ValueError, "groups has the name 'W' twice"),
        ("groups/0/names", ["W", "c", "d"], ValueError, "lacks 'b' and has the unknown 'c', 'd'"),
        ("groups/0/names", "Wb", TypeError, "wanted a list of str"),
        ("groups/0/names", ["W", ["b"]], TypeError, "wanted a list of str"),
        ("groups/0/recipe", "adam_hat", ValueError, "those of 'adam_scaled'"),
        ("groups/0/recipe", ["x"], ValueError, "those of 'adam_scaled'"),
        ("groups/0/recipe", ..., ValueError, "groups[0] lacks 'recipe'"),
        ("groups/0/options", None, TypeError, "groups[0]['options'] is None"),
        ("groups/0/options/eps", ..., ValueError, "groups[0]['options'] lacks 'eps'"),
        ("groups/0/options/epsilon", 1.0, ValueError, "has the unknown 'epsilon'"),
        ("groups/0/options/eps", -1.0, ValueError, "groups[0]: eps is -1.0"),
        ("groups/0/options/eps", math.nan, ValueError, "groups[0]['options']['eps'] is nan"),
        ("groups/0/options/eps", -math.inf, ValueError, "['eps'] is -inf; wanted a finite number"),
        ("groups/0/options/eps", 10**400, ValueError, "['eps'] is 1000"),
        ("groups/0/options/eps", -(10**400), ValueError, "['eps'] is -1000"),
        ("groups/0/options/eps", True, TypeError, "['eps'] is True (bool); wanted a number"),
        ("groups/0/options/eps", [1.0], TypeError, "['eps'] is [1.0] (list); wanted a number"),
        ("groups/0/options/eps", "small", TypeError, "['eps'] is 'small'"),
        ("groups/0/options/eps", None, ValueError, "['eps'] was a callable"),
        ("groups/0/options/eps", {}, TypeError, "['eps'] is {}"),
        ("groups/0/options/lr", -0.1, ValueError, "lr is -0.1"),
        ("groups/0/options/betas", [0.9], ValueError, "betas is (0.9,)"),
        ("groups/0/options/betas", [0.9, 1.0], ValueError, "betas[1] is 1.0"),
        ("groups/0/options/betas", [0.9, 10**400], ValueError, "['betas'][1] is 1000"),
        ("groups/0/options/betas", [0.9, True], TypeError, "['betas'][1] is True"),
        ("groups/0/options/betas", [0.9, [0.9]], TypeError, "['betas'][1] is [0.9]"),
        ("groups/0/options/betas", 0.9, TypeError, "['betas'] is 0.9; wanted a list of numbers"),
        ("groups/0/options/maximize", 0.5, TypeError, "['maximize'] is 0.5; wanted a value like"),
        ("groups/0/options/maximize", 1, TypeError, "['maximize'] is 1; wanted a value like False"),
        ("groups/0/carried", {"x": 1.0}, ValueError, "groups[0]['carried'] has the unknown 'x'"),
        ("groups/0/options/betas", [0.9, 0.9, 0.9], ValueError, "betas is (0.9, 0.9, 0.9)"),
        ("groups/0/carried", 3, TypeError, "groups[0]['carried'] is an int"),
        ("groups/0/options/maximize", "no", TypeError, "['maximize'] is 'no'"),
        ("groups/0/options/weight_decay", -1.0, ValueError, "weight_decay is -1.0"),
        ("groups/0/options/eps_mode", "Hat", ValueError, "eps_mode is 'Hat'"),
        ("groups/0/options/eps_mode", 1.0, TypeError, "['eps_mode'] is 1.0"),
        ("state", [], TypeError, "state is a list"),
        ("state/c", {}, ValueError, "state has the unknown 'c'"),
        ("state/W", ..., ValueError, "state lacks 'W'"),
        ("state/W", None, TypeError, 'state["W"] is None'),
        ("state/b/v_max", np.ones(3), ValueError, "state[\"b\"] has the unknown 'v_max'"),
        ("state/b/v", ..., ValueError, "state[\"b\"] lacks 'v'"),
        ("state/b/v", [1.0] * 3, TypeError, 'state["b"]["v"] is a list'),
        ("state/b/v", np.ma.ones(3), TypeError, "MaskedArray"),
        ("state/b/v", np.ones(3, np.float32), TypeError, "has dtype float32; wanted float64"),
        ("state/b/v", np.ones(3, ">f8"), TypeError, 'state["b"]["v"] has dtype >f8'),
        ("state/b/v", np.ones((3, 1)), ValueError, "has shape (3, 1); wanted (3,)"),
        ("state/b/v", np.array(1.0), ValueError, "has shape (); wanted (3,)"),
    ],
)
def test_whatever_is_wrong_is_told_and_changes_nothing(
    path: str, value: Any, error: type[Exception], match: str
) -> None:
    saved = adam(steps=3, lr=0.2, average=0.9).state_dict()
    edit(saved, path, value)
    refuses(adam(average=0.9), saved, error, match)


@pytest.mark.parametrize("foreign", [None, [], 3, "state", np.ones(3)])
def test_foreign_objects(foreign: Any) -> None:
    refuses(
        adam(), foreign, TypeError, f"state_dict is {named(type(foreign).__name__)}; wanted a dict"
    )


def test_foreign_dicts() -> None:
    for foreign in ({}, {"state": 0, "param_groups": 0}):
        refuses(adam(), foreign, ValueError, "which is not one of instep's")


def test_averages_that_are_not_kept() -> None:
    refuses(adam(), adam(average=0.5).state_dict(), ValueError, "has some averages")


def test_the_two_maxima_of_amsgrad_are_not_exchanged() -> None:
    plain, corrected = adam(steps=3, amsgrad=True), adam(steps=3, amsgrad="corrected")
    refuses(plain, corrected.state_dict(), TypeError, "['amsgrad'] is 'corrected'; wanted a value")
    refuses(corrected, plain.state_dict(), TypeError, "['amsgrad'] is True; wanted a value like")


def test_options_with_other_states() -> None:
    other = instep.SGD({"W": np.ones(2)}, momentum=0.9, momentum_mode="ema")
    refuses(
        instep.SGD({"W": np.ones(2)}),
        other.state_dict(),
        ValueError,
        "groups[0]: momentum_ema keeps the",
    )


def test_all_names_of_all_groups_are_in_one_message() -> None:
    def make(*names: str) -> Optimizer:
        return instep.Adam([{"params": {name: np.ones(1)}} for name in names])

    match = "lacks '0.a', '1.b' and has the unknown '0.c', '1.d'"
    refuses(make("a", "b"), make("c", "d").state_dict(), ValueError, match)


def test_carried_numbers_that_no_step_can_be_done_with() -> None:
    opt = instep.SGDScheduleFree({"W": np.ones(2)}, weight_lr_power=2.0)
    saved = opt.state_dict()
    assert set(saved["groups"][0]["carried"]) == {"weight_sum", "lr_max"}
    saved["groups"][0]["carried"]["lr_max"] = 1e308
    refuses(opt, saved, ValueError, "groups[0] has numbers that no step can be done with: ")
    saved["groups"][0]["carried"]["lr_max"] = -1.0
    refuses(opt, saved, ValueError, "groups[0]['carried']['lr_max'] is -1.0; wanted a finite")


def test_a_state_that_was_made_read_only() -> None:
    opt = adam()
    opt.state["b"]["v"].flags.writeable = False
    refuses(opt, adam(steps=3).state_dict(), ValueError, 'state["b"]["v"] of the optimizer is')


def test_nothing_is_saved_or_loaded_within_averaged(tmp_path: Path) -> None:
    opt = adam(average=0.5)
    opt.save(tmp_path / "state")
    saved = opt.state_dict()
    with opt.averaged():
        before = photograph(opt)
        for call in (
            opt.state_dict,
            lambda: opt.load_state_dict(saved),
            lambda: opt.save(tmp_path / "other"),
            lambda: opt.save(tmp_path / "other", params=True),
            lambda: opt.load(tmp_path / "state"),
        ):
            with pytest.raises(RuntimeError, match=r"within averaged\(\)"):
                call()
        assert photograph(opt) == before
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_state_dict_is_of_one_step() -> None:
    p = np.zeros(50_000)
    opt = instep.SGD(p, momentum=0.5, momentum_mode="ema")
    opt.step(np.ones_like(p))
    stop = threading.Event()

    def work() -> None:
        grad = np.ones_like(p)
        while not stop.is_set():
            opt.step(grad)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(50):
            saved = opt.state_dict()
            m = saved["state"]["params"]["m"]
            assert (m == 1 - 0.5 ** saved["t"]).all()
    finally:
        stop.set()
        thread.join()


# Files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "optimizer.safetensors"
    adam(steps=3, lr=0.2, average=0.9).save(path)
    return path


def refuses_file(path: Path, match: str, error: type[Exception] = ValueError) -> None:
    opt = adam(average=0.9)
    before, content = photograph(opt), path.read_bytes()
    with pytest.raises(error, match=re.escape(match)) as caught:
        opt.load(path)
    assert str(path) in str(caught.value)
    assert photograph(opt) == before
    assert path.read_bytes() == content


def test_other_tools_can_read_the_file(file: Path) -> None:
    opt = adam(steps=3, lr=0.2, average=0.9)
    arrays = load_file(file)
    assert sorted(arrays) == [
        "averages/W",
        "averages/b",
        "state/W/m",
        "state/W/v",
        "state/b/m",
        "state/b/v",
    ]
    assert arrays["state/W/v"].tobytes() == opt.state["W"]["v"].tobytes()


def test_the_metadata_say_what_the_file_is(file: Path) -> None:
    header = header_of(file.read_bytes())["__metadata__"]
    assert {key: json.loads(header[key]) for key in ("format", "rule", "t", "average")} == {
        "format": 2,
        "rule": "Adam",
        "t": 3,
        "average": 0.9,
    }
    (group,) = json.loads(header["groups"])
    assert group["recipe"] == "adam_scaled"
    assert group["options"]["lr"] == 0.2


def header_of(content: bytes) -> Any:
    size = int.from_bytes(content[:8], "little")
    try:
        return json.loads(content[8 : 8 + size])
    except ValueError:
        return None


def test_a_truncated_file(file: Path) -> None:
    content = file.read_bytes()
    for size in [*range(0, len(content), 16), len(content) - 1]:
        file.write_bytes(content[:size])
        refuses_file(file, "is truncated, corrupt or no safetensors file")
    file.write_bytes(content + b"\0")
    refuses_file(file, "is truncated, corrupt or no safetensors file")


def test_a_byte_that_flipped(file: Path) -> None:
    content = file.read_bytes()
    whole = adam(average=0.9)
    whole.load(file)
    data = 8 + int.from_bytes(content[:8], "little")
    for position in range(len(content)):
        mask = (0x01, 0x2A, 0xFF)[position % 3]
        broken = bytearray(content)
        broken[position] ^= mask
        file.write_bytes(broken)
        opt = adam(average=0.9)
        before = photograph(opt)
        if 8 <= position < data and header_of(bytes(broken)) == header_of(content):
            # White space that became another: the file still says the same.
            opt.load(file)
            assert photograph(opt) == photograph(whole)
            continue
        with pytest.raises(ValueError, match=re.escape(str(file))):
            opt.load(file)
        assert photograph(opt) == before


def test_foreign_files(file: Path) -> None:
    for content in (b"", b"PK\x03\x04" * 20, b"text " * 20, pickle.dumps({"state": 3})):
        file.write_bytes(content)
        refuses_file(file, "is truncated, corrupt or no safetensors file")
    model = {"W": np.ones(3)}
    for metadata in (None, {"format": "pt"}, {"kind": "other"}):
        save_file(model, file, metadata)
        refuses_file(file, "is a safetensors file, but instep did not save it")


def test_a_newer_file(file: Path) -> None:
    saved = adam(steps=3).state_dict()
    for version, match in (
        (3, "the format 3, and this"),
        (0, "the format 0"),
        ("", "format ''"),
        (1.0, "format 1.0"),
    ):
        checkpoint.write(file, {**saved, "format": version, "more": 3}, {})
        refuses_file(file, match)


def test_a_file_that_does_not_go_with_the_optimizer(file: Path) -> None:
    shape, names = {"W": np.ones((2, 3)), "b": np.ones(3)}, "lacks 'b' and has the unknown 'c'"
    instep.AdamW(shape, average=0.9).save(file)
    refuses_file(file, "has the rule 'AdamW'; wanted 'Adam'")
    instep.Adam({"W": np.ones((2, 3)), "c": np.ones(3)}, average=0.9).save(file)
    refuses_file(file, names)
    instep.Adam({"W": np.ones((3, 2)), "b": np.ones(3)}, average=0.9).save(file)
    refuses_file(file, 'state["W"]["m"] has shape (3, 2); wanted (2, 3)')
    single = {name: array.astype(np.float32) for name, array in shape.items()}
    instep.Adam(single, average=0.9).save(file)
    refuses_file(file, "has dtype float32; wanted float64")
    instep.Adam(shape).save(file)
    refuses_file(file, "has no averages")


def test_a_file_that_says_what_it_should_not(file: Path) -> None:
    saved = adam(steps=3, average=0.9).state_dict()
    changes: list[dict[str, Any]] = [
        {"state": {**saved["state"], "c": {"m": np.ones(3)}}},
        {"averages": {**saved["averages"], "c": np.ones(3)}},
        {"groups": 3},
        {"groups": [3]},
        {"groups": [{"names": [3]}]},
    ]
    for change in changes:
        checkpoint.write(file, saved | change, {})
        refuses_file(file, "has content that instep does not write")


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    opt = adam()
    before = photograph(opt)
    with pytest.raises(FileNotFoundError, match="nothing"):
        opt.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        opt.load(tmp_path)
    assert photograph(opt) == before
    with pytest.raises(FileNotFoundError):
        opt.save(tmp_path / "nothing" / "file")
    with pytest.raises(IsADirectoryError, match="it is a folder; wanted a regular file or a new"):
        opt.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


class FailureError(OSError):
    pass


@pytest.mark.parametrize("target", ["write", "fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    target: str, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    def fail(*_: Any) -> None:
        raise FailureError

    def half(file: Any, *_: Any) -> None:
        file.write(b"half")
        raise FailureError

    content = file.read_bytes()
    opt = adam()
    before = photograph(opt)
    with monkeypatch.context() as patch:
        if target == "write":
            patch.setattr(instep.safetensors, "write", half)
        elif target == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(FailureError):
            opt.save(file)
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert photograph(opt) == before
    opt.save(file)
    assert file.read_bytes() != content


def test_a_save_is_flushed_before_it_is_renamed_and_the_folder_after(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    events = []
    old = file.read_bytes()

    def fsync(descriptor: int) -> None:
        kind = os.fstat(descriptor)
        folder = stat.S_ISDIR(kind.st_mode)
        assert kind.st_ino == file.parent.stat().st_ino or not folder
        events.append(("folder" if folder else "file", file.read_bytes() == old))

    monkeypatch.setattr(os, "fsync", fsync)
    adam().save(file)
    assert events == [("file", True), ("folder", False)]


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_a_file_has_the_permissions_of_any_new_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        adam().save(tmp_path / "state")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o666 & ~umask


def test_saving_to_a_link_replaces_what_it_leads_to(file: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link"
    link.symlink_to(file)
    opt = adam(steps=7)
    opt.save(link)
    assert link.is_symlink()
    other = adam()
    other.load(str(file))
    assert other.t == 7


# An empty name becomes "params", of which there can be one.
NAMES = st.text(st.characters(codec=None), max_size=6).filter(lambda name: name != "params")


@settings(deadline=None)  # a save waits for the disk
@given(names=st.lists(NAMES, unique=True, max_size=5))
def test_names_may_be_anything(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("names") / "state"
    # Names that would be mixed up by the simplest of joints.
    names = names + [
        n for n in ("/", "a/m", "a", "\\udc80", "\udc80", "\\", "\0", "é") if n not in names
    ]
    opt = instep.Adam({name: np.full(1, float(i)) for i, name in enumerate(names)}, average=0.5)
    opt.step({name: np.full(1, 1.0 + i) for i, name in enumerate(names)})
    opt.save(path)
    other = instep.Adam({name: np.ones(1) for name in names}, average=0.5)
    other.load(path)
    np.testing.assert_equal(other.state_dict(), opt.state_dict())
