"""Own rules: update formulas that a user has typed, as optimizers."""

import ast
import dis
import functools
import hashlib
import inspect
import math
import operator
import re
import textwrap
import types
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from instep import _instep, reference
from instep.checks import check_flag, check_integer, check_number, kind_of
from instep.graph import Graph
from instep.optimizer import Common, Optimizer
from instep.recognition import Recognized, recipe_of
from instep.rule import TOO_MANY_STEPS, Options
from instep.tracing import trace
from instep.tree import called

__all__ = ["OwnRule", "norm", "rule"]

MAX_STATES = 4
MAX_NUMBERS = 32

_COMMON = tuple(Common.__annotations__)

# What every optimizer takes; a rule can't have keywords of these names.
_TAKEN = ("params", "maximize", *_COMMON)


class Norm:
    """The norm of a whole array, as the default of a keyword: made by `norm`."""

    def __init__(self, of: str) -> None:
        self.of = of

    def __repr__(self) -> str:
        """Show how it is made."""
        return f"instep.norm({self.of!r})"


def norm(of: str) -> Norm:
    """Ask for the norm of a whole array, as the default of a keyword of a `rule`.

    Parameters
    ----------
    of : {"p", "g"}
        Of the parameter or of its gradient, before the step. That of the gradient is what the rule
        sees: times ``grad_scale`` and the factors of clipping by norms.

    Returns
    -------
    Norm
        For nothing else than to be a default.

    Raises
    ------
    ValueError
        Another word.

    Notes
    -----
    The root of the sum of squares, in float64 and in a fixed order, as `reference.gradient_norm`
    defines it: it is one number for each array, and takes one more pass over it. A step with such
    a rule takes no `Rows` and no ``max_value``, and a ``weight_decay`` that the rule itself has.

    Examples
    --------
    LARS, without momentum:

    >>> import numpy as np
    >>> import instep
    >>> @instep.rule
    ... def lars(p, g, *, lr=0.1, trust=0.001, p_norm=instep.norm("p"), g_norm=instep.norm("g")):
    ...     return p - lr * (trust * p_norm / g_norm) * g
    >>> p = np.array([3.0, 4.0])
    >>> result = lars(p, lr=1.0, trust=0.5).step(np.array([0.0, 2.0]))
    >>> p
    array([3. , 1.5])
    """
    if of not in ("p", "g"):
        raise ValueError(f"of is {of!r}; wanted 'p' or 'g', the parameter or its gradient")
    return Norm(of)


def rule(function: Callable[..., Any]) -> "OwnRuleType":
    """Make an optimizer of an update formula, typed as a function of NumPy arrays.

    Parameters
    ----------
    function : function
        It takes the parameter, its gradient and up to 4 state arrays, in this order, then as
        keywords numbers: ``lr``, and whatever else the formula has. It returns the new parameter
        and states, in the order of the arguments. A keyword ``t`` gets the number of the step,
        counted from 1. It is called when the rule is made, with stand-ins.

    Returns
    -------
    type
        A class of optimizers by the name of the function, see Notes.

    Raises
    ------
    TypeError
        Arguments that are none of these; an operation that a rule can't have: the message names the
        line, and what to do.
    ValueError
        Another number of arrays is returned, or in another order than that of the arguments.

    Notes
    -----
    With ``mine`` made of a function, and ``m`` and ``v`` its states:

    ``mine(params, lr=0.01)``
        An `Optimizer`: the keywords of the function are its options, each with its default, and so
        are ``weight_decay`` (added to the gradient, times the parameter; a function with a
        keyword of this name does it itself) and ``maximize``.
    ``mine.step(p, g, m, v, lr=0.01, t=3)``
        One step on arrays of one's own, **written in place**; nothing is returned.
    ``mine(p, g, m, v, lr=0.01, t=3)``
        The function itself, in NumPy.
    ``mine.explain()``
        What is run.

    A state starts with zeros; with ``m=0.5`` in the function's arguments it starts with 0.5
    everywhere, and with ``z="p"`` as a copy of the parameter.

    The step is one pass over the arrays, in place, and **bit-for-bit identical to the NumPy
    formula**: all operations on arrays in the order in which they are typed, each rounded to the
    dtype of the parameter. Numbers are computed in float64, once a step, and then rounded once to
    that dtype. In NumPy 2 a formula in which a ``np.float64``, or a condition times a number, meets
    a float32 array goes on in float64; in a rule it does not. In NumPy, ``np.maximum`` and
    ``np.minimum`` of 0 and -0 depend on the CPU; here they give the second one. A sign that
    ``np.copysign`` takes from NaN is positive.

    Where the formula is one of the compiled recipes, that is run.

    Examples
    --------
    >>> import numpy as np
    >>> import instep
    >>> @instep.rule
    ... def momentum(p, g, v, *, lr=0.01, beta=0.9):
    ...     v = beta * v - lr * g
    ...     return p + v, v
    >>> params = {"W": np.ones(3)}
    >>> opt = momentum(params, lr=0.1)
    >>> result = opt.step({"W": np.ones(3)})
    >>> params["W"]
    array([0.9, 0.9, 0.9])
    """
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"function is {kind_of(function)}; wanted a function made with def")
    traced = _Traced(function)
    space: dict[str, Any] = {
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "_traced": traced,
    }
    if traced.outside:
        space["step"] = _checked_step
    return OwnRuleType(function.__name__, (OwnRule,), space)


class _Traced:
    """A function and what is known of it."""

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        self.name = function.__name__
        self.roles, self.initial, self.defaults = _arguments(function)
        self.numbers = tuple(self.defaults)
        self.norms = {
            name: "pg".index(default.of)
            for name, default in self.defaults.items()
            if isinstance(default, Norm)
        }
        self.options = tuple(n for n in self.numbers if n != "t" and n not in self.norms)
        self.outside = dict(_numbers_outside(function))
        _refuse_other_order(function, [self.roles[0], *self.roles[2:]])
        _refuse_assignments(function)
        self.graph = trace(function, self.name, self.roles, self.numbers)
        again = trace(function, self.name, self.roles, self.numbers)
        if again.hashes() != self.graph.hashes():
            raise ValueError(
                f"{self.name} is another formula each time it is called; what changes from step to "
                "step has to be a keyword or a state"
            )
        what = [*self.graph.hashes(), *map(repr, self.norms.items())]
        self.hash = hashlib.sha256("".join(what).encode()).hexdigest()[:16]
        self.recipe = recipe_of(self.graph, len(self.roles) - 2)
        self.compiled = self.compile(self.recipe)

    def compile(self, recipe: Recognized | None, isa: str | None = None) -> _instep.Recipe:
        """Return what is run for the formula, which may be a recipe, at an instruction level."""
        graph = self.graph
        return _instep.Recipe.of_formula(
            self.name,
            self.numbers,
            tuple(self.roles[2:]),
            graph.constants,
            graph.numbers,
            graph.values,
            graph.outputs,
            [(self.numbers.index(name), role) for name, role in self.norms.items()],
            recipe,
            isa,
        )

    def check_outside(self) -> None:
        """Raise an error if a number that was captured has changed."""
        for name, (value, place) in self.outside.items():
            now = place()
            if not _is_same(value, now):
                raise ValueError(
                    f"{self.name} was made when {name} was {value!r}, and now it is {now!r}; a "
                    "number that changes has to be a keyword of the function"
                )

    def call_numbers(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the numbers of one call, with defaults."""
        for name in given:
            if name not in self.options and name != "t":
                wanted = ", ".join(n for n in self.numbers if n not in self.norms)
                raise TypeError(f"{self.name} has no keyword {name!r}; wanted {wanted}")
        numbers = {**self.defaults, **dict.fromkeys(self.norms, 1.0), **given}
        for name, number in numbers.items():
            if number is inspect.Parameter.empty:
                what = ", the number of the step counted from 1" if name == "t" else ""
                raise TypeError(f"{self.name} was called without {name}{what}; it has no default")
        return numbers


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _arguments(
    function: types.FunctionType,
) -> tuple[tuple[str, ...], dict[str, float | None], dict[str, Any]]:
    """Return the names of the arrays, what states start with, and the numbers with defaults."""
    name = function.__name__
    arrays, numbers = [], {}
    for argument in inspect.signature(function).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY:
            numbers[argument.name] = argument
        elif argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            raise TypeError(f"{name} has the argument *{argument.name}; wanted each by its name")
        else:
            arrays.append(argument)
    names = tuple(argument.name for argument in arrays)
    if names[:1] in (("self",), ("cls",)):
        raise TypeError(
            f"{name} takes {names[0]}; a rule is a function of arrays and numbers, and no method: "
            f"leave {names[0]} out"
        )
    if "lr" not in numbers:
        if "lr" in names or any(isinstance(a.default, float) for a in arrays):
            raise TypeError(
                f"{name} takes numbers like arrays; put a * before them: "
                f"def {name}({', '.join(names[:2])}, ..., *, lr=0.01)"
            )
        raise TypeError(
            f"{name} has no keyword lr, the learning rate, which groups and schedules set: "
            f"def {name}({', '.join(names)}, *, lr=0.01)"
        )
    if len(names) < 2:
        raise TypeError(f"{name} takes the arrays {names}; wanted the parameter, its gradient, ...")
    if len(names) - 2 > MAX_STATES:
        raise TypeError(f"{name} has {len(names) - 2} states; wanted {MAX_STATES} at most")
    if len(numbers) > MAX_NUMBERS:
        raise TypeError(f"{name} has {len(numbers)} keywords; wanted {MAX_NUMBERS} at most")
    initial = {}
    for argument in arrays:
        default = argument.default
        if default is argument.empty:
            default = 0.0
        elif argument.name in names[:2]:
            raise TypeError(f"{name} has a default for {argument.name}; only states have defaults")
        is_copy = isinstance(default, str) and default == "p"
        if not is_copy and not isinstance(default, (int, float, np.number)):
            raise TypeError(
                f"{name} has the state {argument.name}={default!r}; wanted the number that it "
                "starts with, or 'p' for a copy of the parameter"
            )
        initial[argument.name] = None if is_copy else _number(argument.name, default)
    defaults = {}
    for key, argument in numbers.items():
        if key in _TAKEN:
            raise TypeError(f"{name} has the keyword {key}, which all optimizers have; rename it")
        default = argument.default
        if default is not argument.empty and not isinstance(default, Norm):
            default = _default(name, key, default)
        defaults[key] = default
    return names, initial, defaults


def _default(name: str, key: str, default: Any) -> Any:
    if key == "t":
        check_integer("t", default, least=1)
        return default
    if isinstance(default, (bool, str)):
        raise TypeError(
            f"{name} has the keyword {key}={default!r}; wanted a number: write a rule for each case"
        )
    return _number(key, default)


def _number(name: str, number: Any) -> float:
    return check_number(name, number, least=-math.inf)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _numbers_outside(
    function: types.FunctionType,
) -> Iterator[tuple[str, tuple[Any, Callable[[], Any]]]]:
    """Give the numbers that a function has from its module and from functions around it.

    Each has its name, what it is, and what tells what it is later.
    """
    names = dict.fromkeys(
        instruction.argval
        for code in _codes(function.__code__)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )
    places: dict[str, Callable[[], Any]] = {
        name: functools.partial(function.__globals__.get, name) for name in names
    }
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    places |= {
        name: functools.partial(getattr, cell, "cell_contents", None) for name, cell in cells
    }
    for name, place in places.items():
        thing = place()
        if isinstance(thing, (int, float, np.number, np.bool_)):
            yield name, (thing, place)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # nothing is in it


def _refuse_assignments(function: types.FunctionType) -> None:
    """Refuse what would be done once, when the rule is made."""
    for code in _codes(function.__code__):
        for instruction in dis.get_instructions(code):
            of_outside = instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
                instruction.opname in ("STORE_DEREF", "DELETE_DEREF")
                and instruction.argval in function.__code__.co_freevars
            )
            if of_outside:
                raise TypeError(
                    f"{function.__name__} assigns to {instruction.argval}, which is outside of it; "
                    "a rule is called once, when it is made: what changes from step to step has to "
                    "be a state, or the keyword t"
                )


def _own_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Give what a function consists of, without the functions within it."""
    waiting = [child for child in tree.body if isinstance(child, ast.FunctionDef)]
    functions: list[ast.AST] = [child for function in waiting for child in function.body]
    while functions:
        node = functions.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            functions.extend(ast.iter_child_nodes(node))


def _refuse_other_order(function: types.FunctionType, wanted: list[str]) -> None:
    """Refuse a return of the names of all arguments in another order, where the source is there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return
    for node in _own_nodes(tree):
        if isinstance(node, ast.Return) and isinstance(node.value, (ast.Tuple, ast.List)):
            names = [item.id for item in node.value.elts if isinstance(item, ast.Name)]
            if names != wanted and sorted(names) == sorted(wanted):
                raise ValueError(
                    f"{function.__name__} returns {', '.join(names)}; wanted the order of the "
                    f"arguments: `return {', '.join(wanted)}`"
                )


def _checked_step(self: "OwnRule", grads: Any, **asked: Any) -> Any:
    """Do one step, in place: see `Optimizer.step`."""
    self._traced.check_outside()
    return Optimizer.step(self, grads, **asked)


class OwnRuleType(ABCMeta):
    """The type of own rules: what `rule` returns is called, asked and shown in its own ways."""

    _traced: _Traced

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an optimizer; with more than one argument, call the function itself."""
        traced = getattr(cls, "_traced", None)
        if traced is None:
            raise TypeError("OwnRule has no formula; instep.rule makes its subclasses")
        by_name = [name for name in traced.roles if name in kwargs and name not in _TAKEN]
        if by_name:
            raise TypeError(
                f"{traced.name} was given {by_name[0]}= by its name; give arrays in order"
            )
        if len(args) < 2:
            return super().__call__(*args, **kwargs)
        if isinstance(args[1], (int, float)) and not isinstance(args[0], (int, float)):
            raise TypeError(
                f"{traced.name} was given {args[1]!r} in the place of the gradient; for an "
                f"optimizer write {traced.name}(params, lr={args[1]!r})"
            )
        for name, role in traced.norms.items():
            if name not in kwargs:
                kwargs[name] = reference.gradient_norm(args[role])
        return traced.function(*args, **kwargs)

    @property
    def step(cls) -> Callable[..., None]:
        """One step on arrays of one's own, in place."""
        return _Step(cls._traced)

    def explain(cls) -> str:
        """Return what a step runs, as text."""
        return "\n".join(_explanation(cls._traced))

    def __repr__(cls) -> str:
        """Show what the rule is called with, and what it runs."""
        if "_traced" not in cls.__dict__:
            return super().__repr__()
        traced = cls._traced
        states = ", ".join(traced.roles[2:]) or "none"
        return f"<instep.rule {traced.name}: states {states}; {_summary(traced)}>"


def _summary(traced: _Traced) -> str:
    if traced.recipe is not None:
        return f"runs the recipe {traced.recipe[0]}"
    return f"runs {len(traced.compiled.listing.splitlines())} instructions"


def _explanation(traced: _Traced) -> Iterator[str]:
    graph = traced.graph
    arrays, numbers = traced.roles, traced.numbers
    yield f"{traced.name}({', '.join(arrays)}, *, {', '.join(numbers)})"
    live = [graph.values[value] for value in graph.live()]
    operations = sum(operation not in ("array", "number") for operation, _ in live)
    read = sum(operation == "array" for operation, _ in live)
    # What an array keeps is not written.
    roles = [0, *range(2, len(arrays))]
    kept = [graph.value("array", role) for role in roles]
    elements = read + sum(map(operator.ne, graph.outputs, kept))
    yield (
        f"per element: {operations} operations; {elements} numbers read or written, "
        f"{8 * elements} bytes in float64, {4 * elements} in float32"
    )
    yield (
        "bound: where no cache holds the arrays, moving these bytes; else the operations, of which "
        f"{sum(operation in ('div', 'sqrt') for operation, _ in live)} divide or take roots"
    )
    if traced.recipe is not None:
        yield f"runs the compiled recipe {traced.recipe[0]}, which is the same formula"
        return
    yield "runs these instructions on blocks of elements; x is what is in the registers"
    names = {**dict(enumerate(arrays)), **{i: f"buffer{i - 6}" for i in range(7, 256)}}
    for instruction in traced.compiled.listing.splitlines():
        yield f"    {_readable(instruction, names, traced)}"


def _readable(instruction: str, names: Mapping[int, str], traced: _Traced) -> str:
    """Return an instruction with the names of slots, and how its numbers are made."""

    def slot(match: re.Match[str]) -> str:
        return names[int(match[1])]

    def number(match: re.Match[str]) -> str:
        return f"[{_formula_of(traced.graph, int(match[1]), traced.numbers)}]"

    return re.sub(r"#(\d+)", number, re.sub(r"@(\d+)", slot, instruction))


_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "floordiv": "//",
    "mod": "%",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


def _formula_of(graph: Graph, number: int, names: Sequence[str]) -> str:
    """Return a number as Python has it."""
    operation, operands, _ = graph.numbers[number]
    if operation == "const":
        return f"{graph.constants[operands[0]]:g}"
    if operation == "hyper":
        return names[operands[0]]
    inner = [_formula_of(graph, operand, names) for operand in operands]
    if operation in _SIGNS:
        return f"({inner[0]} {_SIGNS[operation]} {inner[1]})"
    return f"-{inner[0]}" if operation == "neg" else f"{operation}({', '.join(inner)})"


class _Step:
    """The step of a rule on arrays."""

    def __init__(self, traced: _Traced) -> None:
        self._traced = traced
        self.__name__ = self.__qualname__ = f"{traced.name}.step"

    def __call__(self, *arrays: Any, **numbers: Any) -> None:
        """Do one step, in place."""
        traced = self._traced
        roles = traced.roles
        if len(arrays) != len(roles):
            wanted = ", ".join(roles)
            raise TypeError(f"{self.__name__}() was given {len(arrays)} arrays; wanted {wanted}")
        traced.check_outside()
        given = traced.call_numbers(numbers)
        if "t" in given:
            check_integer("t", given["t"], least=1)
            if given["t"] > TOO_MANY_STEPS:
                raise ValueError(f"t is {given['t']}; wanted {TOO_MANY_STEPS} or less")
        checked = tuple(_number(name, number) for name, number in given.items())

        def describe(_: int, role: int, index: int) -> str:
            return called(roles[role], ())

        p, g, *states = ((array,) for array in arrays)
        traced.compiled.step(checked, p, g, tuple(states), describe, (1.0, 0.0, 1.0))


class OwnRule(Optimizer, metaclass=OwnRuleType):
    """The base of the classes that `rule` makes."""

    _traced: _Traced

    def __init__(self, params: Any, **options: Any) -> None:
        traced = self._traced
        own = {name: traced.defaults[name] for name in traced.options}
        own |= {"weight_decay": own.get("weight_decay", 0.0), "maximize": False}
        common = {name: options.pop(name) for name in _COMMON if name in options}
        for name in options:
            if name not in own:
                wanted = ", ".join((*own, *_COMMON))
                raise TypeError(f"{traced.name} has no option {name!r}; wanted {wanted}")
        own |= options
        for name, option in own.items():
            if option is inspect.Parameter.empty:
                raise TypeError(f"{traced.name} was made without {name}; it has no default")
        super().__init__(params, own, **common)

    @classmethod
    def recipe(cls, options: Options, t: int) -> str:
        """Return what states are stored with: the name of the rule and a hash of its formula."""
        return f"{cls._traced.name} {cls._traced.hash}"

    @classmethod
    def not_the_same(cls, saved: Any, own: str) -> str:
        """Return what is wrong with a saved formula."""
        return (
            f"is {saved!r}, and the formula of {cls._traced.name} is {own!r} now: it was changed "
            "after the state was saved. Load it with the function as it was, or begin anew"
        )

    @classmethod
    def compiled(cls, options: Options, t: int) -> _instep.Recipe:
        """Return the program."""
        return cls._traced.compiled

    @classmethod
    def checked(cls, options: Options) -> dict[str, Any]:
        """Return the options with their numbers checked."""
        own = {n: _number(n, options[n]) for n in cls._traced.options if n != "lr"}
        if "weight_decay" not in own:
            decay = check_number("weight_decay", options["weight_decay"])
            if decay and cls._traced.norms:
                raise ValueError(
                    f"weight_decay is {decay}, and {cls._traced.name} asks for norms; wanted 0: "
                    "give the function a keyword weight_decay, and decay in it"
                )
            own["weight_decay"] = decay
        return {**options, **own, "maximize": check_flag("maximize", options["maximize"])}

    @classmethod
    def hypers(cls, options: Options, lr: float, t: int) -> tuple[float, ...]:
        """Return the numbers of the program for step `t`."""
        given = {**options, **dict.fromkeys(cls._traced.norms, 1.0), "lr": lr, "t": float(t)}
        return tuple(given[name] for name in cls._traced.numbers)

    @classmethod
    def initial(cls, state: str, options: Options) -> float | None:
        """Return what a state starts with; None for a copy of the parameter."""
        return cls._traced.initial[state]
