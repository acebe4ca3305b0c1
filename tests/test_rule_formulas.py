"""Every rule in every mode against the formulas of its source, and its docstring's against them.

The formulas stand in `rule_formulas`. Rules are found in the registry, so a new one needs its
function there and nothing here.
"""

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import instep
import numpy as np
import pytest
import rule_formulas
from instep import functional, optimizers
from optimizer_model import MODES, RULES, Options, Rule, defaults_of, mode_name

# Same algebra, other roundings: what may have come together of them.
RELATIVE = 1e-11

START = 3 + np.random.default_rng(0).random(40)
GRADS = np.random.default_rng(1).standard_normal((40, 40)) * 10.0 ** np.arange(-2, 2).repeat(10)
GRADS[::7, ::5] = 0.0

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
every_mode = pytest.mark.parametrize(
    ("rule", "mode"),
    [pytest.param(rule, mode, id=mode_name(rule, mode)) for rule, mode in MODES],
)


def formula_of(rule: Rule) -> Callable[..., Iterator[dict[str, Any]]]:
    name = rule.__name__.lower()
    formula: Callable[..., Iterator[dict[str, Any]]] | None = getattr(rule_formulas, name, None)
    assert formula is not None, f"tests/rule_formulas.py has no {name}; CONTRIBUTING.md says how"
    return formula


def assert_same_path(rule: Rule, options: Options, lr: Any) -> None:
    """Compare the class, which may keep numbers of the step before, and the function."""
    p, q = START.copy(), START.copy()
    opt = rule(p, lr=lr, **options)
    step = getattr(functional, rule.__name__.lower())
    states = {name: array.copy() for name, array in opt.state["params"].items()}
    rates = [lr(step) if callable(lr) else lr for step in range(len(GRADS))]
    path = formula_of(rule)(START, list(GRADS), rates, **options)
    for t, (wanted, g) in enumerate(zip(path, GRADS, strict=True), start=1):
        opt.step(g)
        step(q, g, *states.values(), t=t, lr=lr, **options)
        for arrays in {"p": p, **opt.state["params"]}, {"p": q, **states}:
            for name, array in arrays.items():
                # Averages come close to 0.
                np.testing.assert_allclose(
                    array, wanted[name], rtol=RELATIVE, atol=1e-14, err_msg=f"{name} at t={t}"
                )
    assert (p != START).mean() > 0.5  # steps of one size may lead back


def test_every_rule_has_a_formula_and_the_other_way_round() -> None:
    public = {
        name
        for name, value in vars(rule_formulas).items()
        if inspect.isfunction(value) and value.__module__ == rule_formulas.__name__
    }
    assert public == {name.lower() for name in optimizers.__all__}


@every_mode
def test_a_rule_follows_its_formula(rule: Rule, mode: Options) -> None:
    """With a rate that changes, and with weight decay."""
    lr = mode["lr"]
    for maximize, around in itertools.product((False, True), ({}, {"weight_decay": 0.07})):
        options = {**mode, **around, "maximize": maximize}
        del options["lr"]
        assert_same_path(rule, options, lambda step: lr * 0.8 ** (step % 9))


@every_rule
def test_a_rule_follows_its_formula_with_the_defaults(rule: Rule) -> None:
    options = defaults_of(rule)
    lr = options.pop("lr")
    assert_same_path(rule, options, lr)


def test_schedule_free_parameters_to_evaluate() -> None:
    """They are the x of the formulas, in the structure of the parameters, for every group."""
    grads, rates = list(GRADS), [0.1 * 0.8 ** (step % 9) for step in range(len(GRADS))]
    for rule, options, own in (
        (instep.SGDScheduleFree, "momentum", (0.9, 0.7)),
        (instep.AdamWScheduleFree, "betas", ((0.9, 0.95), (0.7, 0.95))),
    ):
        params = [{"W": START.copy()}, START.astype(np.float32)]
        groups = [{"params": p, options: value} for p, value in zip(params, own, strict=True)]
        opt: Any = rule(groups, lr=lambda step: rates[step])
        for g in GRADS:
            opt.step([{"W": g}, g.astype(np.float32)])
        merged = {**defaults_of(rule), "lr": 0.0}
        del merged["lr"]
        first, second = opt.eval_params()
        for x, value, rtol in ((first["W"], own[0], 1e-10), (second, own[1], 1e-4)):
            *_, last = formula_of(rule)(START, grads, rates, **{**merged, options: value})
            np.testing.assert_allclose(x, last["x"], rtol=rtol)
        assert (first["W"].dtype, second.dtype) == (np.float64, np.float32)
        assert (first["W"] != params[0]["W"]).all()  # type: ignore[index]


@pytest.mark.parametrize("rule", [instep.SGDScheduleFree, instep.AdamWScheduleFree])
def test_schedule_free_goes_on_from_a_state_dict(rule: Rule) -> None:
    """With rates of steps that no option tells: what is carried has to be in it."""
    rates = [0.1 * 0.8 ** (step % 9) for step in range(len(GRADS))]
    whole, p = START.copy(), START.copy()
    unbroken, opt = rule(whole, r=0.5), rule(p, r=0.5)
    for t, (g, rate) in enumerate(zip(GRADS, rates, strict=True)):
        if t % 10 == 5:
            saved = opt.state_dict()
            opt = rule(p, r=0.5)
            opt.load_state_dict(saved)
        unbroken.step(g, lr=rate)
        opt.step(g, lr=rate)
        np.testing.assert_array_equal(p, whole)


@pytest.mark.parametrize("rule", [instep.Adan, instep.AdamWScheduleFree])
def test_a_mask_reaches_decay_that_a_rule_does_itself(rule: Rule) -> None:
    """What the mask leaves out goes the way of no decay, in every step."""
    params = {name: START.copy() for name in ("W", "b")}
    opt = rule(params, lr=0.1, weight_decay=0.3, weight_decay_mask=lambda name, _: name == "W")
    alone = {"W": START.copy(), "b": START.copy()}
    others = {
        "W": rule(alone["W"], lr=0.1, weight_decay=0.3),
        "b": rule(alone["b"], lr=0.1, weight_decay=0.0),
    }
    for g in GRADS:
        opt.step({"W": g, "b": g})
        for name, other in others.items():
            other.step(g)
            np.testing.assert_array_equal(params[name], alone[name])
    assert (params["W"] != params["b"]).all()


# Docstrings


class Plain(ast.NodeTransformer):
    """Give functions one name: in the docstrings they are those of mathematics."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name({"maximum": "max", "minimum": "min"}.get(node.id, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Name(node.attr)


def plain(node: ast.AST) -> str:
    return ast.dump(Plain().visit(ast.parse(ast.unparse(node))).body[0])


def formulas_in_notes(rule: Rule) -> list[str]:
    """Return what stands in double quotes and is an assignment or has a call, as Python."""
    notes = (inspect.getdoc(rule) or "").partition("Notes\n-----\n")[2].partition("Examples\n")[0]
    found = []
    for text in re.findall(r"``(.+?)``", " ".join(notes.split())):
        try:
            (statement,) = ast.parse(text).body
        except SyntaxError:
            # What a function of a number is.
            text = text.rpartition(" = ")[2]
            try:
                (statement,) = ast.parse(text).body
            except (SyntaxError, ValueError):
                continue
        nodes = list(ast.walk(statement))
        if any(isinstance(node, ast.Lambda) for node in nodes) or "..." in text:
            continue
        computes = any(isinstance(node, (ast.BinOp, ast.Call)) for node in nodes)
        calls = any(isinstance(node, ast.Call) and node.args for node in nodes)
        if (computes and isinstance(statement, ast.Assign)) or calls:
            found.append(text)
    return found


def parts_of(formula: Callable[..., Any]) -> set[str]:
    """Return every expression of a function and of those it calls, and every assignment."""
    called = [vars(rule_formulas).get(name) for name in formula.__code__.co_names]
    functions: list[Any] = [formula, *(f for f in called if inspect.isfunction(f))]
    found = set()
    for function in functions:
        for node in ast.walk(ast.parse(inspect.getsource(function))):
            if isinstance(node, ast.expr) and not isinstance(node, ast.Slice):
                found.add(plain(node))
            elif isinstance(node, ast.Assign):
                found |= {plain(assign) for assign in single_assignments(node)}
    return found


def single_assignments(node: ast.Assign) -> Iterator[ast.Assign]:
    """Return an assignment, of several one after the other, and of either part of a choice."""
    targets: list[ast.expr] = list(node.targets)
    pairs: list[tuple[ast.expr, ast.expr]] = [(target, node.value) for target in targets]
    for target, value in pairs:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs += zip(target.elts, value.elts, strict=True)
        elif isinstance(value, ast.IfExp):
            pairs += [(target, value.body), (target, value.orelse)]
        else:
            yield ast.Assign([target], value, lineno=1)


@every_rule
def test_the_formulas_of_a_docstring_are_those_that_were_compared(rule: Rule) -> None:
    texts, parts = formulas_in_notes(rule), parts_of(formula_of(rule))
    assert any(text.startswith(("p = ", "p - ")) for text in texts)
    for text in texts:
        assert plain(ast.parse(text).body[0]) in parts, f"{rule.__name__} has no {text}"
