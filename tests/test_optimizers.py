"""Every optimizer gives the bits of its model in NumPy, whatever is asked around its rule.

Rules are found by their classes, and their modes by the options, so a new one is tested without a
word here.
"""

import doctest
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, cycle, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

import hypothesis.strategies as st
import instep
import numpy as np
import pytest
from bits import LAYOUTS, Array, Layout, dense, every_second, misaligned
from hypothesis import given, settings
from instep import Optimizer, _instep, optimizers, reference, rules, schedules
from instep.rule import LearningRate
from levels import LEVELS, assert_runs_at
from optimizer_model import (
    MODES,
    RULES,
    Options,
    Pair,
    Rule,
    defaults_of,
    is_allowed,
    mode_name,
    options_of,
    other_number,
    words_of,
)

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
every_mode = pytest.mark.parametrize(
    ("rule", "mode"),
    [pytest.param(rule, mode, id=mode_name(rule, mode)) for rule, mode in MODES],
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# Where the sweeps change their ways: rows of the norm, tiles, blocks, tiles with extra work.
LENGTHS = (1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513, 4095, 4096, 4097, 12_301)
SHAPES = (
    *((n,) for n in LENGTHS),
    (1, 1),
    (5, 1, 7),
    (3, 85),
    (16, 16),
    (257, 1),
    (7, 73),
    (8, 64),
    (27, 19),
    (45, 91),
    (64, 64),
    (17, 241),
    (5, 31, 53),
)
EMPTY = ((0,), (3, 0), (0, 4, 2))

# What may be asked around a rule; clipping never and always takes place.
AROUND: dict[str, Sequence[Any]] = {
    "weight_decay": (0.0, 0.03),
    "maximize": (False, True),
    "grad_scale": (1.0, -0.37),
    "max_norm": (None, 1e9, 0.01),
    "zero_grads": (False, True),
    "average": (None, 0.9),
}
ALL_AROUND = [dict(zip(AROUND, values, strict=True)) for values in product(*AROUND.values())]


def arrays_of_all_layouts() -> list[tuple[tuple[int, ...], Layout, Layout]]:
    """Return shapes with a layout for the parameter and one for the gradient."""
    layouts = {1: [dense, every_second, LAYOUTS[4], misaligned]}
    others = cycle(LAYOUTS)
    cases: list[tuple[tuple[int, ...], Layout, Layout]] = [
        (shape, layout, dense if index % 2 else next(others))
        for shape in SHAPES
        for index, layout in enumerate(layouts.get(len(shape), LAYOUTS))
    ]
    cases += [(shape, layout, layout) for shape in SHAPES[-3:] for layout in LAYOUTS]
    cases += [(shape, dense, misaligned) for shape in ((), *EMPTY)]
    cases += [(shape, misaligned, dense) for shape in ((), *EMPTY)]
    return cases


def layouts_for(shape: tuple[int, ...]) -> Sequence[Layout]:
    return LAYOUTS if shape and 0 not in shape else (dense, misaligned)


def filled(layout: Layout, shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    array = layout(shape, dtype)
    array[...] = rng.standard_normal(shape)
    return array


def assert_steps_agree(
    rule: Rule,
    mode: Options,
    around: Options,
    cases: Sequence[tuple[tuple[int, ...], Layout, Layout]],
    dtype: Any,
    steps: int,
    rng: np.random.Generator,
) -> None:
    around = dict(around)
    options = {**mode, "weight_decay": around.pop("weight_decay"), "maximize": around["maximize"]}
    del around["maximize"]
    params = [filled(layout, shape, dtype, rng) for shape, layout, _ in cases]
    pair = Pair(
        rule,
        [(params, options)],
        average=around.pop("average"),
        zero_grads=around.pop("zero_grads"),
    )
    for _ in range(steps):
        grads = [filled(layout, shape, dtype, rng) for shape, _, layout in cases]
        pair.step([grads], **around)


# The registry


def test_every_rule_is_a_public_class() -> None:
    modules = [
        importlib.import_module(f"instep.rules.{module.name}")
        for module in pkgutil.iter_modules(rules.__path__)
    ]
    found = {
        value.__name__
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Optimizer)
        if value.__module__ == module.__name__ and not value.__name__.startswith("_")
    }
    assert found == set(optimizers.__all__) == {rule.__name__ for rule in RULES}
    assert len(RULES) >= 10
    for rule in RULES:
        assert getattr(instep, rule.__name__) is rule
        assert rule.__name__ in instep.__all__


def test_pickles_of_before_the_rules_had_modules_load() -> None:
    for module in (optimizers, schedules):
        for name in module.__all__:
            by_name = f"c{module.__name__}\n{name}\n.".encode()
            assert pickle.loads(by_name) is getattr(module, name)


def test_every_recipe_is_reached_and_has_a_reference() -> None:
    reached = {rule.recipe(mode, t) for rule, mode in MODES for t in range(1, 50)}
    # The functional API of the course has no recipe of its own.
    assert reached == set(_instep.recipes())
    around = {"prepare", "average", "gradient_norm", "clip_factor"}
    assert set(reference.__all__) == reached | around


@every_rule
def test_every_option_is_documented_with_its_default(rule: Rule) -> None:
    documentation = inspect.getdoc(rule)
    assert documentation is not None
    listed = documentation.partition("Notes\n-----\n")[0]
    # The modes of a rule may be those of the one that it is made of.
    notes = "".join(inspect.getdoc(base) or "" for base in rule.__mro__ if base in RULES)
    hints = get_type_hints(rule.__init__)
    for name, parameter in inspect.signature(rule).parameters.items():
        if name == "common":
            assert "    **common\n" in f"{listed}\n".replace("\n**", "\n    **")
            continue
        lines = [line for line in listed.splitlines() if line.startswith(f"{name} : ")]
        assert len(lines) == 1, name
        if get_origin(hints[name]) is Literal:
            words = ", ".join(f'"{word}"' for word in get_args(hints[name]))
            assert lines[0] == f'{name} : {{{words}}}, default "{parameter.default}"'
            assert all(f'``"{word}"``' in notes for word in get_args(hints[name]))
        elif name == "average":
            assert lines[0].endswith(", optional")
        elif name != "params":
            default = lines[0].partition(", default ")[2]
            assert eval(default) == parameter.default, name


@every_rule
def test_every_rule_documents_its_formula_its_source_and_an_example(rule: Rule) -> None:
    documentation = inspect.getdoc(rule)
    assert documentation is not None
    notes = " ".join(documentation.partition("Notes\n-----\n")[2].split())
    assert "``p = " in notes or "``p - " in notes
    assert "Source: " in notes or "Sources: " in notes
    source = notes.partition("Source")[2]
    assert any(f", {year}" in source for year in range(1960, 2027))
    assert "Raises\n------\n" in documentation
    assert "written in place" in documentation
    examples = doctest.DocTestParser().get_examples(documentation)
    assert any(f"instep.{rule.__name__}(" in example.source for example in examples)
    assert any(".step(" in example.source for example in examples)


# Modes that differ only with nesterov, and only in float32: `test_course_classes.py` has them.
ALIKE = {("lr_inside", "dlfs"), ("lr_inside", "dlfs2"), ("dlfs", "dlfs2"), ("hat", "hat_wide")}


@every_rule
def test_every_option_of_a_rule_changes_its_steps(rule: Rule) -> None:
    """Whatever the signature has is used: an option that is not the default changes a bit."""
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal(50), rng.standard_normal((12, 50))
    # What is looked at only with another option.
    needed: dict[str, Options] = {
        "dampening": {"momentum": 0.8},
        "nesterov": {"momentum": 0.8},
        "momentum_mode": {"momentum": 0.8},
        "decoupled_weight_decay": {"weight_decay": 0.1},
        "decay_mode": {"weight_decay": 0.1},
        "weight_lr_power": {"lr": lambda step: 0.7 * (step + 1)},
    }

    def end(options: Options) -> dict[str, Array]:
        p = start.copy()
        opt = rule(p, **options)
        for g in grads:
            opt.step(g)
        return {"p": p, **opt.state["params"]}

    hints = get_type_hints(rule.__init__)
    for name, parameter in options_of(rule).items():
        values = words_of(hints[name]) or (parameter.default, other_number(rule, name))
        # Large steps, so that a small difference reaches the bits.
        plain = {"lr": 0.7, **needed.get(name, {})}
        ends = [end({**plain, name: value}) for value in values]
        for (one, p), (other, q) in combinations(zip(values, ends, strict=True), 2):
            differ = any((p[key] != q[key]).any() for key in p.keys() & q.keys())
            assert differ or (one, other) in ALIKE, (name, one, other)


# Bits


@every_dtype
@every_mode
def test_all_that_is_asked_around_a_rule(rule: Rule, mode: Options, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    lengths = cycle([(n,) for n in (1, 17, 65, 255, 257, 300, 512, 513)])
    others = cycle(LAYOUTS)
    for around in ALL_AROUND:
        cases = [
            (next(lengths), dense, dense),
            ((7, 11), next(others), next(others)),
            ((3, 5, 13), next(others), dense),
        ]
        assert_steps_agree(rule, mode, around, cases, dtype, 2, rng)


def around_of_all_layouts() -> Iterator[Options]:
    yield {name: values[0] for name, values in AROUND.items()}
    yield {name: values[-1] for name, values in AROUND.items()}


@every_dtype
@every_mode
def test_every_length_and_layout(rule: Rule, mode: Options, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    plain, full = around_of_all_layouts()
    assert_steps_agree(rule, mode, full, arrays_of_all_layouts(), dtype, 2, rng)
    # With nothing around it, a step is that of a recipe, of which test_bits.py has every layout.
    assert_steps_agree(rule, mode, plain, arrays_of_all_layouts()[::5], dtype, 2, rng)


@every_dtype
@every_mode
def test_many_steps(rule: Rule, mode: Options, dtype: Any) -> None:
    """Through the steps in which `RAdam` changes its recipe, too."""
    cases = [((70,), dense, dense), ((3, 5), misaligned, dense)]
    around = {name: values[-1] for name, values in AROUND.items()}
    assert_steps_agree(rule, mode, around, cases, dtype, 40, np.random.default_rng(3))


@every_dtype
@every_rule
def test_large_arrays(rule: Rule, dtype: Any) -> None:
    """Those for which the interpreter is let go."""
    around = {name: values[-1] for name, values in AROUND.items()}
    cases = [((100_003,), dense, dense), ((317, 311), dense, LAYOUTS[1])]
    rng = np.random.default_rng(4)
    assert_steps_agree(rule, defaults_of(rule), around, cases, dtype, 2, rng)


@every_dtype
@every_rule
def test_hard_numbers(rule: Rule, dtype: Any) -> None:
    """Zeros of both signs, subnormal numbers, the ends of the range, NaN and Inf."""
    rng = np.random.default_rng(5)
    info = np.finfo(dtype)
    ends = [float(x) for x in (info.smallest_subnormal, info.smallest_normal, info.max)]
    pool = np.array([0.0, 1.0, 1e-8, np.inf, np.nan, *ends, ends[1] / 2, ends[2] ** 0.5])
    pool = np.concatenate([pool, -pool]).astype(dtype)
    for own, around in product(({}, {"weight_decay": 0.03}), ({}, {"grad_scale": -0.37})):
        for max_norm in (None, 1.0, np.inf):
            params = [rng.choice(pool, 700), rng.choice(pool, (20, 31)).T]
            pair = Pair(rule, [(params, own)], average=0.9)
            for _ in range(3):
                grads = [rng.choice(pool, p.shape) for p in params]
                pair.step([grads], **around, max_norm=max_norm)


@settings(derandomize=True, deadline=None, max_examples=200, database=None)
@given(data=st.data())
def test_random_combinations(data: st.DataObject) -> None:
    rule = data.draw(st.sampled_from(RULES))
    groups = []
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    shapes = st.sampled_from([(), *EMPTY, *SHAPES[:22]])
    for _ in range(data.draw(st.integers(1, 3))):
        options = {}
        for name, parameter in options_of(rule).items():
            other = other_number(rule, name)
            hint = get_type_hints(rule.__init__)[name]
            if get_origin(hint) is Literal:
                options[name] = data.draw(st.sampled_from(get_args(hint)))
            elif hint is bool:
                options[name] = data.draw(st.booleans())
            else:
                options[name] = data.draw(st.sampled_from([parameter.default, other]))
        if not is_allowed(rule, options):
            options = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
        params = []
        for shape in data.draw(st.lists(shapes, max_size=4)):
            layout = data.draw(st.sampled_from(layouts_for(shape)))
            dtype = data.draw(st.sampled_from(DTYPES))
            params.append(filled(layout, shape, dtype, rng))
        groups.append((params, options))
    average = data.draw(st.none() | st.floats(0, 0.999))
    pair = Pair(rule, groups, average=average, zero_grads=data.draw(st.booleans()))
    for _ in range(data.draw(st.integers(1, 8))):
        grads: list[list[Array | None]] = []
        for params, _ in groups:
            grads.append([])
            for p in params:
                layout = data.draw(st.sampled_from(layouts_for(p.shape)))
                g = filled(layout, p.shape, p.dtype, rng)
                grads[-1].append(g if data.draw(st.booleans()) else None)
        pair.step(
            grads,
            lr=data.draw(st.none() | st.floats(0, 2)),
            grad_scale=data.draw(st.sampled_from([1.0, 0.5, -1.0, 0.1, 0.0])),
            max_norm=data.draw(st.none() | st.floats(0, 100) | st.just(np.inf)),
            nonfinite=data.draw(st.sampled_from(["propagate", "skip", "raise"])),
        )


REDUCED = """
import numpy as np
import instep
import test_optimizers as tests
for (rule, mode), dtype in tests.product(tests.MODES, tests.DTYPES):
    cases = tests.arrays_of_all_layouts()[:: 11]
    for around in tests.around_of_all_layouts():
        tests.assert_steps_agree(rule, mode, around, cases, dtype, 2, np.random.default_rng(6))
print(instep.config()["isa"])
"""


@pytest.mark.parametrize("level", LEVELS)
def test_every_instruction_level(level: str) -> None:
    assert_runs_at(level, REDUCED)


# Descent


def rosenbrock(x: Array) -> tuple[float, Array]:
    a, b = float(x[0]), float(x[1])
    gradient = [-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)]
    return (1 - a) ** 2 + 100 * (b - a * a) ** 2, np.array(gradient)


def least_squares() -> Callable[[Array], tuple[float, Array]]:
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((40, 8)), rng.standard_normal(40)
    best = np.linalg.lstsq(a, b, rcond=None)[0]
    least = float(np.sum((a @ best - b) ** 2))

    def loss(x: Array) -> tuple[float, Array]:
        residual = a @ x - b
        return float(residual @ residual) - least, 2 * residual @ a

    return loss


# A rate for each problem, where the default is not meant for the like of it.
RATES: dict[str, tuple[LearningRate, LearningRate]] = {
    "SGD": (1e-3, 2e-3),
    "ASGD": (1e-3, 2e-3),
    "SGDScheduleFree": (1e-3, 2e-3),
    "Adadelta": (0.1, 0.1),
    "Adagrad": (0.5, 0.5),
    "Adamax": (0.1, 0.1),
    "Lion": (1e-3, 1e-3),
    # Its first steps, which are not divided by anything, are too long on steep slopes.
    "RAdam": (schedules.Warmup(0.01, 50), 0.003),
}


@every_rule
def test_every_rule_descends(rule: Rule) -> None:
    """The loss falls to a hundredth of what it was within 3,000 steps, and up with `maximize`."""
    starts = (rosenbrock, np.array([-1.2, 1.0])), (least_squares(), np.full(8, 0.5))
    rates = RATES.get(rule.__name__, (0.01, 0.01))
    for (problem, start), rate in zip(starts, rates, strict=True):
        p = start.copy()
        opt = rule(p, lr=rate, weight_decay=0.0)
        before, _ = problem(p)
        for _ in range(3_000):
            opt.step(problem(p)[1])
        after, _ = problem(p)
        assert -1e-9 < after < before / 100, (problem, before, after)
        up = start.copy()
        opt = rule(up, lr=1e-5, weight_decay=0.0, maximize=True)
        for _ in range(3):
            opt.step(problem(up)[1])
        assert problem(up)[0] > before
