"""The stub of `instep.functional`, from the classes: running this file writes it.

The module makes its functions when they are asked for, so what editors and mypy read is a file
beside it, with a function for every class: its state arrays and its options. `test_functional.py`
compares.
"""

import ast
import inspect
import textwrap
from pathlib import Path

from instep import functional, optimizers
from optimizer_model import RULES, Rule, modes_of

STUB = Path(functional.__file__ or "").with_suffix(".pyi")

HEAD = """\
# Made by tests/functional_stub.py, from the classes of instep.optimizers.

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from instep.rows import Rows
from instep.rule import LearningRate
from instep.storage import Bits, Master, StateDtype

__all__ = ["states"]

_Arrays: TypeAlias = NDArray[Any] | Sequence[NDArray[Any]]
_Gradients: TypeAlias = NDArray[Any] | Rows | Sequence[NDArray[Any] | Rows | None]

def states(rule: str, **options: Any) -> tuple[str, ...]: ...
"""


STORED = (
    "master: Master | None = None",
    'state_dtype: StateDtype = "float32"',
    "seed: int = 0",
    "bits: Bits | None = None",
    "name: str | Sequence[str] | None = None",
)


def options_of(rule: Rule) -> list[str]:
    """Return the options of a class, as its code has them."""
    source = textwrap.dedent(inspect.getsource(rule.__init__))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    named = [*arguments.args[2:], *arguments.kwonlyargs]  # without self and params
    defaults = [*arguments.defaults, *arguments.kw_defaults]
    options = []
    for argument, default in zip(named, defaults, strict=True):
        assert argument.annotation is not None
        assert default is not None
        kind = ast.unparse(argument.annotation).replace("'", '"')
        value = ast.unparse(default).replace("'", '"')
        option = f"{argument.arg}: {kind} = {value}"
        if len(option) > 95:
            # As the formatter does.
            option = option.replace("Literal[", "Literal[\n        ").replace("] =", "\n    ] =")
        options.append(option)
    return options


def functions_of(rule: Rule) -> str:
    """Return the declaration of a rule's function: the states that all modes have, and others."""
    name = rule.__name__.lower()
    by_number: dict[int, list[list[str]]] = {}
    for mode in modes_of(rule):
        states = functional.states(name, **mode)
        names = by_number.setdefault(len(states), [[] for _ in states])
        for known, state in zip(names, states, strict=True):
            known += [state] if state not in known else []
    own = ["_or_".join(known) for known in by_number[min(by_number)]]
    arrays = ["p: _Arrays", "g: _Gradients", *(f"{state}: _Arrays" for state in own), "/"]
    lines = [*arrays, "*others: _Arrays", "t: int", *STORED, *options_of(rule)]
    return f"def {name}(\n" + "".join(f"    {line},\n" for line in lines) + ") -> None: ...\n"


def stub() -> str:
    """Return the text of the stub."""
    assert [rule.__name__ for rule in RULES] == optimizers.__all__
    return HEAD + "".join(functions_of(rule) for rule in RULES)


if __name__ == "__main__":
    STUB.write_text(stub())
