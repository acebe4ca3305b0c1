"""Random rules: a program is bit-for-bit identical to the function that it is traced from.

`RANDOM_RULES` in the environment says how many are tried, 400 without it; `make random-rules` tries
a million.
"""

import os
from typing import Any

import instep
import numpy as np
import pytest
import random_rules
from bits import assert_same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instep import _instep

COUNT = int(os.environ.get("RANDOM_RULES", "400"))
STEPS = 3


def compiled(source: random_rules.Source, isa: str) -> _instep.Recipe:
    graph = random_rules.graph_of(source)
    return _instep.Recipe.of_formula(
        "drawn",
        list(random_rules.NUMBERS),
        random_rules.STATES[: source.states],
        graph.constants,
        graph.numbers,
        graph.values,
        graph.outputs,
        [],
        None,
        isa,
    )


@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize="RANDOM_RULES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(data=st.data(), source=random_rules.sources())
def test_a_random_rule_is_the_function(data: Any, source: random_rules.Source) -> None:
    arrays = data.draw(random_rules.arrays_like(2 + source.states))
    wanted = [array.copy() for array in arrays]
    numbers = dict(random_rules.NUMBERS)
    numbers["beta"] = data.draw(st.sampled_from([0.0, 0.5, 0.9, 0.999]))
    levels = instep.config()["isa_available"]
    recipes = {isa: compiled(source, isa) for isa in levels}
    for t in range(1, STEPS + 1):
        numbers["t"] = float(t)
        news = random_rules.run_numpy(source, wanted, {**numbers, "t": t})
        for isa, recipe in recipes.items():
            last = isa == levels[-1]
            own = arrays if last else [array.copy() for array in wanted]
            p, g, *states = ((array,) for array in own)
            recipe.step(
                tuple(numbers.values()), p, g, tuple(states), lambda *_: "an array", (1.0, 0.0, 1.0)
            )
            for name, array, new in zip(
                ["p", *random_rules.STATES], [own[0], *own[2:]], news, strict=False
            ):
                assert_same_bits(
                    np.array(array, order="C"), new, f"{name} at {isa}, step {t}, of\n{source.text}"
                )
            assert_same_bits(np.array(own[1], order="C"), np.array(wanted[1], order="C"), "g")
        wanted[0], wanted[2:] = news[0], news[1:]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads_change_no_bit(threads: int) -> None:
    n = 500_003
    random = np.random.default_rng(threads)

    @instep.rule
    def own(p, g, m, v, *, lr=0.1, beta=0.9, t):  # type: ignore[no-untyped-def]
        m = beta * m + (1 - beta) * g
        v = np.where(g * m > 0, np.maximum(v, abs(g)), v / (1 - beta**t))
        return p - lr * m / (np.sqrt(v) + 1e-8), m, v

    before = instep.get_num_threads()
    instep.set_num_threads(threads)
    try:
        for dtype in (np.float32, np.float64):
            p = random.standard_normal(n).astype(dtype)
            m, v = np.zeros_like(p), np.zeros_like(p)
            opt = own(p_own := p.copy())
            for t in range(1, 4):
                g = random.standard_normal(n).astype(dtype)
                opt.step(g)
                p, m, v = own(p, g, m, v, t=t)
            assert_same_bits(p_own, p, "p")
            assert_same_bits(opt.state["params"]["m"], m, "m")
            assert_same_bits(opt.state["params"]["v"], v, "v")
    finally:
        instep.set_num_threads(before)
