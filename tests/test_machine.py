"""An optimizer and its model through random histories: steps, failures, copies, new groups."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from bad_steps import BAD_OPTIONS, SPOILT, Spoil
from bits import Array, assert_same_bits
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from instep import Optimizer
from optimizer_model import MODES, RULES, Pair, defaults_of

SHAPES = [(), (0,), (1,), (17,), (300,), (3, 5), (2, 130), (520,)]
DTYPES = [np.float32, np.float64]
NUMBERS = st.sampled_from([0.0, 1e-3, 0.05, 0.7])


class Machine(RuleBasedStateMachine):
    """Every rule of the machine ends with the comparison of all arrays to the bit."""

    pair: Pair

    def __init__(self) -> None:
        super().__init__()
        # Optimizers that a copy took over from, and what they kept then.
        self.left: list[tuple[Optimizer, bytes]] = []

    @initialize(data=st.data(), average=st.none() | st.sampled_from([0.0, 0.9]))
    def make(self, data: st.DataObject, average: float | None) -> None:
        self.kind, self.mode = data.draw(st.sampled_from(MODES))
        self.pair = Pair(self.kind, [(self.arrays(data), dict(self.mode))], average=average)

    def arrays(self, data: st.DataObject) -> list[Array]:
        shapes = data.draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        dtypes = [data.draw(st.sampled_from(DTYPES)) for _ in shapes]
        return [
            np.asarray(rng.standard_normal(shape), dtype)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]

    def gradients(self, seed: int) -> list[list[Array]]:
        rng = np.random.default_rng(seed)
        return [
            [np.asarray(rng.standard_normal(p.shape), p.dtype) for p in params]
            for params in self.pair.params
        ]

    def kept(self, opt: Optimizer) -> bytes:
        arrays = [array for group in opt.param_groups for array in group["params"]]
        arrays += [array for states in opt.state.values() for array in states.values()]
        if opt.average is not None:
            arrays += [array for group in opt.averages for array in group]
        return b"".join(array.tobytes() for array in arrays) + bytes(opt.t)

    @rule(
        data=st.data(),
        seed=st.integers(0, 99),
        lr=st.none() | NUMBERS,
        grad_scale=st.sampled_from([1.0, -0.5, 1e-3]),
        max_norm=st.sampled_from([None, 0.1, 1e9, math.inf]),
        nonfinite=st.sampled_from(["propagate", "skip", "raise"]),
    )
    def step(self, data: st.DataObject, seed: int, **arguments: Any) -> None:
        grads: list[list[Array | None]] = [
            [g if data.draw(st.integers(0, 3)) else None for g in group]
            for group in self.gradients(seed)
        ]
        self.pair.step(grads, **arguments)

    @rule(
        seed=st.integers(0, 99),
        bad=st.sampled_from([np.nan, np.inf, -np.inf]),
        max_norm=st.sampled_from([None, 0.1, math.inf]),
        nonfinite=st.sampled_from(["propagate", "skip", "skip", "raise", "raise"]),
    )
    def step_with_a_bad_number(
        self, seed: int, bad: float, max_norm: float | None, nonfinite: Any
    ) -> None:
        grads = self.gradients(seed)
        group = grads[seed % len(grads)]
        g = group[seed % len(group)]
        if g.size == 0:
            return
        g.flat[seed % g.size] = bad
        if nonfinite != "raise":
            self.pair.step(grads, max_norm=max_norm, nonfinite=nonfinite)
            return
        with pytest.raises(FloatingPointError, match=r'^grads\["'):
            self.pair.opt.step(grads, max_norm=max_norm, nonfinite=nonfinite)

    @rule(seed=st.integers(0, 99), spoilt=st.sampled_from(SPOILT))
    def fail_with_bad_gradients(self, seed: int, spoilt: tuple[Spoil, type[Exception]]) -> None:
        spoil, error = spoilt
        grads: list[Any] = self.gradients(seed)
        grads[-1] = spoil(grads[-1])
        with pytest.raises(error):
            self.pair.opt.step(grads)

    @rule(seed=st.integers(0, 99), bad=st.sampled_from(BAD_OPTIONS))
    def fail_with_a_bad_option(self, seed: int, bad: tuple[str, Any, type[Exception]]) -> None:
        name, value, error = bad
        options = self.pair.opt.param_groups[-1]
        if name not in options:
            return
        good, options[name] = options[name], value
        with pytest.raises(error, match=f"{name}"):
            self.pair.opt.step(self.gradients(seed))
        options[name] = good

    @rule(data=st.data(), name=st.sampled_from(["lr", "weight_decay", "maximize"]))
    def change_an_option(self, data: st.DataObject, name: str) -> None:
        index = data.draw(st.integers(0, len(self.pair.params) - 1))
        value = data.draw(st.booleans() if name == "maximize" else NUMBERS)
        self.pair.opt.param_groups[index][name] = value
        self.pair.model.groups[index].options[name] = value

    @rule(value=st.booleans())
    def clear_gradients_or_not(self, value: bool) -> None:
        self.pair.opt.zero_grads = value

    @precondition(lambda self: len(self.pair.params) < 4)
    @rule(data=st.data())
    def add_a_group(self, data: st.DataObject) -> None:
        modes = [mode for kind, mode in MODES if kind is self.kind]
        params, options = self.arrays(data), dict(data.draw(st.sampled_from(modes)))
        given = {name: value for name, value in options.items() if data.draw(st.booleans())}
        # The first group's options are not those of the optimizer.
        merged = {**defaults_of(self.kind), **given}
        try:
            self.kind.recipe(merged, 1)
        except ValueError:
            with pytest.raises(ValueError, match=r"wanted|that takes"):
                self.pair.opt.add_param_group({"params": params, **given})
            return
        self.pair.opt.add_param_group({"params": params, **given})
        self.pair.model.add_group(params, given)
        self.pair.follow(self.pair.opt, [*self.pair.params, params])

    @precondition(lambda self: len(self.left) < 3)
    @rule(make=st.sampled_from([copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))]))
    def go_on_with_a_copy(self, make: Callable[[Optimizer], Optimizer]) -> None:
        old = self.pair.opt
        self.left.append((old, self.kept(old)))
        new = make(old)
        self.pair.follow(new, [group["params"] for group in new.param_groups])

    @rule()
    def look_at_the_averages(self) -> None:
        opt = self.pair.opt
        if opt.average is None:
            with pytest.raises(ValueError, match="no averages are kept"), opt.averaged():
                pass
            return
        with opt.averaged():
            for params, group in zip(self.pair.params, self.pair.model.groups, strict=True):
                for p, parameter in zip(params, group.parameters, strict=True):
                    assert parameter.average is not None
                    assert_same_bits(p, parameter.average)
            with pytest.raises(RuntimeError, match="within averaged"):
                opt.step(self.gradients(0))

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        if hasattr(self, "pair"):
            self.pair.compare()

    @invariant()
    def what_was_copied_stays_as_it_was(self) -> None:
        for opt, kept in self.left:
            assert self.kept(opt) == kept


def test_random_histories() -> None:
    assert len({kind for kind, _ in MODES}) == len(RULES)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            derandomize=True,
            deadline=None,
            max_examples=300,
            stateful_step_count=40,
            database=None,
        ),
    )
