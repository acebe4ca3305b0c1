"""States of torch, from and to those of instep.

torch is not installed here. `TorchLike` is a trainer with torch's layout of states, which does what
the boxes in torch's documentation say of Adam, AdamW, SGD, RMSprop and Adagrad. So these tests are
about the documented formulas: they say nothing about the bits of any version of torch.
"""

import copy
import re
from typing import Any, TypeAlias

import instep
import numpy as np
import pytest
from instep import Optimizer, _instep, schedules
from instep.interop import from_torch_state_dict, to_torch_state_dict
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
State: TypeAlias = dict[str, Any]


class TorchLike:
    """torch's documented algorithms, and its layout of states."""

    def __init__(self, rule: str, params: list[Array], groups: list[dict[str, Any]]) -> None:
        self.rule = rule
        self.params = params
        self.param_groups = groups
        self.state: dict[int, State] = {}
        if rule == "Adagrad":
            for group in groups:
                for i in group["params"]:
                    total = np.full_like(params[i], group["initial_accumulator_value"])
                    self.state[i] = {"step": np.array(0, np.float32), "sum": total}

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state, "param_groups": self.param_groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        saved = copy.deepcopy(saved)
        self.state, self.param_groups = saved["state"], saved["param_groups"]

    def step(self, grads: list[Array]) -> None:
        for group in self.param_groups:
            for i in group["params"]:
                state = self.state.setdefault(i, {})
                p, g = self.params[i], -grads[i] if group["maximize"] else grads[i]
                if self.rule != "AdamW" and group["weight_decay"]:
                    g = g + group["weight_decay"] * p
                if "step" in state:
                    state["step"] = state["step"] + np.float32(1)
                elif self.rule != "SGD":
                    state["step"] = np.array(1, np.float32)
                update = {"SGD": self.sgd, "RMSprop": self.rmsprop, "Adagrad": self.adagrad}
                update.get(self.rule, self.adam)(p, g, state, group)
                # NumPy makes scalars out of what torch leaves tensors of no dimension.
                self.state[i] = {key: np.asarray(value) for key, value in state.items()}

    def adam(self, p: Array, g: Array, state: State, group: dict[str, Any]) -> None:
        (beta1, beta2), t = group["betas"], int(state["step"])
        if self.rule == "AdamW":
            p -= group["lr"] * group["weight_decay"] * p
        m = state["exp_avg"] = beta1 * state.get("exp_avg", 0.0) + (1 - beta1) * g
        v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * g**2
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0.0), v)
        m, v = m / (1 - beta1**t), v / (1 - beta2**t)
        p -= group["lr"] * m / (np.sqrt(v) + group["eps"])

    def sgd(self, p: Array, g: Array, state: State, group: dict[str, Any]) -> None:
        if mu := group["momentum"]:
            b = g.copy()
            if "momentum_buffer" in state:
                b = mu * state["momentum_buffer"] + (1 - group["dampening"]) * g
            state["momentum_buffer"] = b
            g = g + mu * b if group["nesterov"] else b
        p -= group["lr"] * g

    def rmsprop(self, p: Array, g: Array, state: State, group: dict[str, Any]) -> None:
        alpha = group["alpha"]
        v = state["square_avg"] = alpha * state.get("square_avg", 0.0) + (1 - alpha) * g**2
        if group["centered"]:
            mean = state["grad_avg"] = alpha * state.get("grad_avg", 0.0) + (1 - alpha) * g
            v = v - mean**2
        step = g / (np.sqrt(v) + group["eps"])
        if mu := group["momentum"]:
            step = state["momentum_buffer"] = mu * state.get("momentum_buffer", 0.0) + step
        p -= group["lr"] * step

    def adagrad(self, p: Array, g: Array, state: State, group: dict[str, Any]) -> None:
        rate = group["lr"] / (1 + (int(state["step"]) - 1) * group["lr_decay"])
        state["sum"] = state["sum"] + g**2
        p -= rate * g / (np.sqrt(state["sum"]) + group["eps"])


# The recipe of each case, its class and what is not a default.
ALL_CASES: list[tuple[str, type[Optimizer], dict[str, Any]]] = [
    ("adam_scaled", instep.Adam, {"lr": 0.03, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("adam_outside", instep.Adam, {"eps_mode": "outside", "eps": 1e-4, "maximize": True}),
    ("adam_scaled_amsgrad", instep.Adam, {"amsgrad": True, "betas": (0.8, 0.7)}),
    ("adam_scaled", instep.AdamW, {"lr": 0.03, "weight_decay": 0.1}),
    ("adam_outside_amsgrad", instep.AdamW, {"amsgrad": True, "eps_mode": "outside"}),
    ("gradient_descent", instep.SGD, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("momentum_heavy_ball", instep.SGD, {"momentum": 0.8, "dampening": 0.3, "lr": 0.1}),
    ("momentum_heavy_ball_nesterov", instep.SGD, {"momentum": 0.8, "nesterov": True}),
    ("rmsprop_outside", instep.RMSprop, {"alpha": 0.9, "weight_decay": 0.1, "eps": 1e-6}),
    ("rmsprop_outside_centered", instep.RMSprop, {"centered": True, "maximize": True}),
    ("rmsprop_outside_momentum", instep.RMSprop, {"momentum": 0.7}),
    ("rmsprop_outside_centered_momentum", instep.RMSprop, {"centered": True, "momentum": 0.7}),
    ("adagrad_outside", instep.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("adagrad_outside", instep.Adagrad, {"initial_accumulator_value": 0.1, "eps": 1e-6}),
]
CASES = [
    pytest.param(rule, options, id=f"{rule.__name__} {', '.join(options)}")
    for recipe, rule, options in ALL_CASES
    if recipe in _instep.recipes()
]
STEPS = 20


def parameters() -> list[Array]:
    random = np.random.default_rng(5)
    shapes: list[tuple[int, ...]] = [(3, 4), (4,), (), (2, 0), (5, 2)]
    params = [np.array(random.standard_normal(shape)) for shape in shapes]
    params[0] = np.asfortranarray(params[0])
    return params


def groups(params: list[Any]) -> list[dict[str, Any]]:
    """Two groups, of two rates."""
    return [{"params": params[:2], "lr": 0.02}, {"params": params[2:]}]


def gradients(params: list[Array], t: int) -> list[Array]:
    random = np.random.default_rng(t)
    return [np.asarray(random.standard_normal(p.shape) + p) for p in params]


def train_instep(opt: Optimizer, params: list[Array], first: int, last: int) -> None:
    for t in range(first, last + 1):
        grads = gradients(params, t)
        opt.step([grads[:2], grads[2:]])


def train_torch(opt: TorchLike, first: int, last: int) -> None:
    for t in range(first, last + 1):
        opt.step(gradients(opt.params, t))


def torch_like(opt: Optimizer, params: list[Array]) -> TorchLike:
    """A trainer with the options of an optimizer."""
    options = [dict(group) for group in opt.param_groups]
    for group, indices in zip(options, ([0, 1], [2, 3, 4]), strict=True):
        group["params"] = indices
        group.pop("eps_mode", None)
        group.pop("momentum_mode", None)
    return TorchLike(type(opt).__name__, params, options)


def assert_close(actual: list[Array], wanted: list[Array]) -> None:
    for a, b in zip(actual, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("stop", [0, 1, 7])
@pytest.mark.parametrize(("rule", "options"), CASES)
def test_training_goes_on_from_torch_to_instep(
    rule: Any, options: dict[str, Any], stop: int
) -> None:
    straight = parameters()
    train_torch(torch_like(rule(groups(straight), **options), straight), 1, STEPS)

    params = parameters()
    opt = rule(groups(params), **options)
    before = torch_like(opt, params)
    train_torch(before, 1, stop)
    saved = before.state_dict()
    untouched = copy.deepcopy(saved)
    # Options and state are to be those of torch, whatever they were.
    opt.param_groups[0]["lr"] = opt.param_groups[1]["lr"] = 3.0
    for arrays in opt.state.values():
        for array in arrays.values():
            array[...] = 7.0
    from_torch_state_dict(opt, saved, t=stop if rule is instep.SGD else None)
    np.testing.assert_equal(saved, untouched)
    assert opt.t == stop
    train_instep(opt, params, stop + 1, STEPS)
    assert_close(params, straight)


@pytest.mark.parametrize("stop", [0, 1, 7])
@pytest.mark.parametrize(("rule", "options"), CASES)
def test_training_goes_on_from_instep_to_torch(
    rule: Any, options: dict[str, Any], stop: int
) -> None:
    straight = parameters()
    train_instep(rule(groups(straight), **options), straight, 1, STEPS)

    params = parameters()
    opt = rule(groups(params), **options)
    train_instep(opt, params, 1, stop)
    after = torch_like(opt, params)
    saved = to_torch_state_dict(opt)
    for group in after.param_groups:
        group["lr"] = 3.0
    after.load_state_dict(saved)
    train_torch(after, stop + 1, STEPS)
    assert_close(params, straight)


@pytest.mark.parametrize(("rule", "options"), CASES)
def test_there_and_back_keeps_the_bits(rule: Any, options: dict[str, Any]) -> None:
    params = parameters()
    opt = rule(groups(params), **options)
    train_instep(opt, params, 1, 5)
    other = rule(groups(parameters()), **options)
    from_torch_state_dict(other, to_torch_state_dict(opt), t=5)
    np.testing.assert_equal(other.state_dict(), opt.state_dict())


# The layout


def test_the_layout_of_adam() -> None:
    opt = adam(steps=3)
    saved = to_torch_state_dict(opt)
    assert list(saved) == ["state", "param_groups"]
    assert list(saved["state"]) == [0, 1]
    state = saved["state"][1]
    assert sorted(state) == ["exp_avg", "exp_avg_sq", "step"]
    assert (state["step"].dtype, state["step"].shape, state["step"]) == (np.float32, (), 3.0)
    assert state["exp_avg"].tobytes() == opt.state["b"]["m"].tobytes()
    assert state["exp_avg_sq"].tobytes() == opt.state["b"]["v"].tobytes()
    assert not np.shares_memory(state["exp_avg"], opt.state["b"]["m"])
    assert saved["param_groups"] == [
        {
            "lr": 0.2,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.0,
            "amsgrad": False,
            "maximize": False,
            "foreach": None,
            "capturable": False,
            "differentiable": False,
            "fused": None,
            "decoupled_weight_decay": False,
            "params": [0, 1],
        }
    ]


def test_the_options_that_only_torch_has() -> None:
    p = np.ones(2)

    def options(opt: Optimizer) -> dict[str, Any]:
        (group,) = to_torch_state_dict(opt)["param_groups"]
        return {key: value for key, value in group.items() if key not in opt.param_groups[0]}

    fast = {"foreach": None, "differentiable": False}
    assert options(instep.SGD(p)) == {**fast, "fused": None}
    assert options(instep.RMSprop(p)) == {**fast, "capturable": False}
    assert options(instep.AdamW(p))["decoupled_weight_decay"] is True


def test_what_has_no_state_in_torch() -> None:
    assert to_torch_state_dict(adam(steps=0))["state"] == {}
    sgd = instep.SGD(np.ones(2))
    sgd.step(np.ones(2))
    assert to_torch_state_dict(sgd)["state"] == {}


@pytest.mark.parametrize("step", [3, 3.0, np.float32(3), np.array(3.0), np.array([3]), np.int64(3)])
def test_whatever_counts_steps(step: Any) -> None:
    saved = to_torch_state_dict(adam(steps=3))
    for state in saved["state"].values():
        state["step"] = step
    opt = adam(steps=0)
    from_torch_state_dict(opt, saved)
    assert opt.t == 3
    assert type(opt.t) is int


def test_older_and_decorated_states_of_torch() -> None:
    saved = to_torch_state_dict(adam(steps=3))
    (group,) = saved["param_groups"]
    for key in ("maximize", "foreach", "fused", "decoupled_weight_decay"):
        del group[key]
    group |= {"initial_lr": 0.1, "name": "all", "betas": [0.5, 0.25], "lr": np.array(0.125)}
    saved["more"] = 3
    opt = adam(steps=0)
    from_torch_state_dict(opt, saved)
    assert opt.param_groups[0]["betas"] == (0.5, 0.25)
    assert opt.param_groups[0]["lr"] == 0.125
    sgd = instep.SGD(np.ones(2))
    (group,) = to_torch_state_dict(sgd)["param_groups"]
    empty = {"state": {0: {"momentum_buffer": None}}, "param_groups": [group]}
    from_torch_state_dict(sgd, empty)
    assert sgd.t == 0


def test_groups_by_pattern_are_numbered_one_after_the_other() -> None:
    """torch numbers the parameters of its groups; those of a pattern need not be neighbors."""
    decay = {"*.W": {"weight_decay": 0.1}}
    start = {f"{i}.{name}": np.full(2, i + 0.5) for i in range(2) for name in "bW"}
    params = {name: array.copy() for name, array in start.items()}
    opt = instep.AdamW(params, lr=0.05, weight_decay=0.0, groups=decay)
    order = ["0.W", "1.W", "0.b", "1.b"]
    like = [start[name].copy() for name in order]
    torch = TorchLike("AdamW", like, to_torch_state_dict(opt)["param_groups"])
    assert [g["params"] for g in torch.param_groups] == [[0, 1], [2, 3]]
    assert [g["weight_decay"] for g in torch.param_groups] == [0.1, 0.0]
    random = np.random.default_rng(7)
    for _ in range(5):
        grads = {name: random.standard_normal(2) for name in params}
        opt.step(grads)
        torch.step([grads[name] for name in order])
    for name, array in zip(order, like, strict=True):
        np.testing.assert_allclose(params[name], array, rtol=1e-12)
    saved = to_torch_state_dict(opt)
    fresh = instep.AdamW({n: a.copy() for n, a in params.items()}, groups=decay)
    from_torch_state_dict(fresh, saved)
    np.testing.assert_equal(fresh.state_dict(), opt.state_dict())
    assert saved["state"][1]["exp_avg"].tobytes() == opt.state["1.W"]["m"].tobytes()


def test_a_mask_of_weight_decay_is_not_lost() -> None:
    def mask(name: str, array: Array) -> bool:
        return name == "W"

    opt = adam(steps=2, weight_decay_mask=mask, weight_decay=0.1)
    match = "weight_decay_mask leaves out 'b'; torch has no such mask: make the optimizer with"
    with pytest.raises(ValueError, match=match):
        to_torch_state_dict(opt)
    refuses(opt, to_torch_state_dict(adam(steps=3, weight_decay=0.2)), ValueError, match)
    # Where nothing decays, a mask has nothing to say.
    opt.param_groups[0]["weight_decay"] = 0.0
    from_torch_state_dict(opt, to_torch_state_dict(adam(steps=3)))
    assert opt.t == to_torch_state_dict(opt)["state"][0]["step"] == 3


def test_a_callable_lr() -> None:
    schedule = schedules.Linear(0.2, 0.0, 10)
    opt = adam(steps=3, lr=schedule)
    saved = to_torch_state_dict(opt)
    assert saved["param_groups"][0]["lr"] == schedule(3)
    from_torch_state_dict(opt, saved)
    assert opt.param_groups[0]["lr"] is schedule


def test_averages_stay() -> None:
    opt = adam(steps=3, average=0.5)
    before = opt.state_dict()
    from_torch_state_dict(opt, to_torch_state_dict(opt))
    np.testing.assert_equal(opt.state_dict(), before)


def test_the_steps_of_sgd() -> None:
    sgd = instep.SGD(np.ones(2), lr=schedules.Constant(0.1))
    saved = to_torch_state_dict(sgd)
    refuses(sgd, saved, ValueError, "t is needed: lr is a callable")
    from_torch_state_dict(sgd, saved, t=7)
    assert sgd.t == 7


def test_parameters_without_a_step_of_sgd() -> None:
    if "momentum_heavy_ball" not in _instep.recipes():
        return
    params = [np.ones(2), np.ones(3)]
    (group,) = to_torch_state_dict(instep.SGD(params, momentum=0.9))["param_groups"]
    saved = {"state": {0: {"momentum_buffer": np.ones(2)}}, "param_groups": [group]}
    opt = instep.SGD(params, momentum=0.9)
    refuses(opt, saved, ValueError, "t is 0; torch_state_dict has momentum", t=0)
    from_torch_state_dict(opt, saved)
    assert opt.t == 1
    assert (opt.state["1"]["m"] == 0.0).all()
    group["dampening"] = 0.5
    refuses(opt, saved, ValueError, "parameters without a step")


def test_a_parameter_of_adagrad_without_a_state() -> None:
    if "adagrad_outside" not in _instep.recipes():
        return
    saved = to_torch_state_dict(instep.Adagrad(np.ones(2), initial_accumulator_value=0.5))
    saved["state"] = {}
    opt = instep.Adagrad(np.ones(2))
    from_torch_state_dict(opt, saved)
    assert (opt.state["params"]["v"] == 0.5).all()


def test_options_with_other_states() -> None:
    if "adam_scaled_amsgrad" not in _instep.recipes():
        return
    saved = to_torch_state_dict(adam(steps=1))
    saved["param_groups"][0]["amsgrad"] = True
    refuses(adam(steps=1), saved, ValueError, "the options of adam_scaled_amsgrad, which keeps")


# What is refused


def adam(steps: int, **options: Any) -> instep.Adam:
    opt = instep.Adam({"W": np.ones((2, 3)), "b": np.ones(3)}, **{"lr": 0.2, **options})
    for t in range(steps):
        opt.step({"W": np.full((2, 3), 0.5 + t), "b": np.arange(3.0)})
    return opt


def refuses(
    opt: Optimizer, saved: Any, error: type[Exception], match: str, t: int | None = None
) -> None:
    before = opt.state_dict()
    with pytest.raises(error, match=re.escape(match)):
        from_torch_state_dict(opt, saved, t=t)
    np.testing.assert_equal(opt.state_dict(), before)


def edit(saved: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    part: Any = saved
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value


GROUP = ("param_groups", 0)


@pytest.mark.parametrize(
    ("path", "value", "error", "match"),
    [
        (("state",), ..., ValueError, "torch_state_dict lacks 'state'"),
        (("state",), [], TypeError, "state is a list; wanted a dict"),
        (("state", 2), {}, ValueError, "state has the unknown 2"),
        (("state", 1), 3, TypeError, "state[1] is an int; wanted a dict"),
        (("state", 1), ..., ValueError, "have done 0, 3 steps"),
        (("state", 1, "step"), 4.0, ValueError, "have done 3, 4 steps"),
        (("state", 1, "step"), 3.5, ValueError, 'state[1]["step"] is 3.5'),
        (("state", 1, "step"), -1, ValueError, 'state[1]["step"] is -1'),
        (("state", 1, "step"), np.inf, ValueError, 'state[1]["step"] is inf'),
        (("state", 1, "step"), "three", TypeError, "state[1][\"step\"] is 'three'"),
        (("state", 1, "step"), np.ones(2), TypeError, 'state[1]["step"] is array'),
        (("state", 1, "step"), ..., ValueError, "state[1] lacks 'step'"),
        (("state", 1, "exp_avg"), ..., ValueError, "state[1] lacks 'exp_avg'"),
        (("state", 1, "exp_avg"), [1.0] * 3, TypeError, 'state[1]["exp_avg"] is a list'),
        (("state", 1, "exp_avg"), np.ones(4), ValueError, "shape (4,); wanted (3,)"),
        (("state", 1, "exp_avg"), np.ones(3, np.float32), TypeError, "float32; wanted float64"),
        (("state", 1, "sum"), np.ones(3), ValueError, "state[1] has the unknown 'sum'"),
        (("param_groups",), ..., ValueError, "torch_state_dict lacks 'param_groups'"),
        (("param_groups",), {}, TypeError, "param_groups is {}"),
        (("param_groups",), [], ValueError, "param_groups has length 0; wanted 1"),
        (GROUP, 3, TypeError, "param_groups is [3]"),
        ((*GROUP, "params"), [0], ValueError, "state has the unknown 1"),
        ((*GROUP, "params"), [0, 1, 2], ValueError, "['params'] has length 3; wanted 2"),
        ((*GROUP, "params"), ..., TypeError, "param_groups[0]['params'] is None"),
        ((*GROUP, "params"), ["0", "1"], TypeError, "wanted a list of int"),
        ((*GROUP, "lr"), ..., ValueError, "param_groups[0] lacks 'lr'"),
        ((*GROUP, "lr"), -1.0, ValueError, "lr is -1.0"),
        ((*GROUP, "lr"), "fast", TypeError, "'fast'"),
        ((*GROUP, "betas"), (0.9, 1.0), ValueError, "betas[1] is 1.0"),
        ((*GROUP, "decoupled_weight_decay"), True, ValueError, "that is AdamW, and not Adam"),
    ],
)
def test_whatever_is_wrong_is_told_and_changes_nothing(
    path: tuple[Any, ...], value: Any, error: type[Exception], match: str
) -> None:
    saved = to_torch_state_dict(adam(steps=3))
    edit(saved, path, value)
    refuses(adam(steps=1), saved, error, match)


def test_a_given_number_of_steps_has_to_agree() -> None:
    saved = to_torch_state_dict(adam(steps=3))
    refuses(adam(steps=1), saved, ValueError, "t is 4; torch_state_dict has counted 3", t=4)
    refuses(adam(steps=1), saved, ValueError, "t is -1", t=-1)
    refuses(adam(steps=1), saved, TypeError, "t is '3'", t="3")  # type: ignore[arg-type]


def test_foreign_objects() -> None:
    refuses(adam(steps=1), [], TypeError, "torch_state_dict is a list")
    with pytest.raises(TypeError, match="wanted one of Adam, AdamW, SGD, RMSprop, Adagrad"):
        from_torch_state_dict("Adam", {})  # type: ignore[arg-type]

    class Mine(instep.Adam):
        pass

    with pytest.raises(TypeError, match="optimizer is a Mine"):
        to_torch_state_dict(Mine(np.ones(2)))


@pytest.mark.parametrize(
    ("rule", "options", "match"),
    [
        (instep.Adam, {"eps_mode": "hat"}, "eps_mode is 'hat'; torch only has 'scaled' or"),
        (instep.AdamW, {"eps_mode": "inside"}, "eps_mode is 'inside'"),
        (instep.RMSprop, {"eps_mode": "inside"}, "torch only has 'outside'"),
        (instep.SGD, {"momentum": 0.9, "momentum_mode": "ema"}, "momentum_mode is 'ema'"),
        (
            instep.RMSprop,
            {"momentum": 0.9, "momentum_mode": "lr_inside"},
            "momentum_mode is 'lr_inside'; torch only has 'heavy_ball'",
        ),
        (instep.Adam, {"amsgrad": "corrected"}, "amsgrad is 'corrected'; torch only has False or"),
        (instep.AdamW, {"amsgrad": "corrected"}, "amsgrad is 'corrected'; torch only has False or"),
    ],
)
def test_modes_that_torch_does_not_have(rule: Any, options: dict[str, Any], match: str) -> None:
    opt, usual = rule(np.ones(2), **options), rule(np.ones(2))
    with pytest.raises(ValueError, match=match):
        to_torch_state_dict(opt)
    refuses(opt, to_torch_state_dict(usual), ValueError, match)


def test_more_steps_than_torch_counts() -> None:
    opt = adam(steps=1)
    opt.t = 2**24
    assert to_torch_state_dict(opt)["state"][0]["step"] == 2**24
    opt.t += 1
    with pytest.raises(ValueError, match="torch counts steps in float32"):
        to_torch_state_dict(opt)
