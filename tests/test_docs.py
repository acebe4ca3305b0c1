"""What pages are made of: docstrings of every rule, the table of equivalent calls, examples.

Rules are found in `instep.optimizers`, so a new one is tested without a word here.
"""

import inspect
import math
import re
import textwrap
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import instep
import numpy as np
import pytest
from instep import functional, optimizers, schedules

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

every_rule = pytest.mark.parametrize("name", optimizers.__all__)

PEERS = ("torch", "Keras", "optax", "scikit-learn", "DeepSpeed", "HIPS autograd", "PennyLane")


def sections(docstring: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring, by their titles."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", docstring, flags=re.MULTILINE)
    return dict(zip(["Summary", *parts[1::2]], parts[::2], strict=True))


def docstring_of(rule: type[instep.Optimizer]) -> str:
    assert "__doc__" in vars(rule), f"{rule.__name__} has no docstring of its own"
    return inspect.cleandoc(rule.__doc__ or "")


def documented(section: str) -> list[str]:
    """Return the names that a section describes."""
    return [name for name, _ in re.findall(r"^(\w+) : (\S.*)$", section, flags=re.MULTILINE)]


@every_rule
def test_a_rule_has_all_sections(name: str) -> None:
    found = sections(docstring_of(getattr(optimizers, name)))
    assert list(found) == ["Summary", "Parameters", "Raises", "Notes", "Examples"]
    summary = found["Summary"].strip()
    assert summary.endswith(".")
    assert "\n" not in summary
    assert f">>> opt = instep.{name}(" in found["Examples"]
    for error in ("TypeError", "ValueError"):
        assert re.search(rf"^{error}\n    \S", found["Raises"], flags=re.MULTILINE)


@every_rule
def test_every_argument_is_documented_in_order_with_its_default(name: str) -> None:
    rule = getattr(optimizers, name)
    section = sections(docstring_of(rule))["Parameters"]
    parameters = inspect.signature(rule).parameters
    assert [*documented(section), "common"] == list(parameters)
    assert section.rstrip().splitlines()[-3] == "**common"
    for parameter in parameters.values():
        if parameter.default is inspect.Parameter.empty:
            continue
        (line,) = re.findall(rf"^{parameter.name} : (.*)$", section, flags=re.MULTILINE)
        if parameter.default is None:
            assert line.endswith(", optional")
        else:
            assert eval(line.partition(", default ")[2]) == parameter.default


@every_rule
def test_notes_have_a_formula_of_the_new_parameter(name: str) -> None:
    notes = sections(docstring_of(getattr(optimizers, name)))["Notes"]
    assert re.search(r"``p( = p)? ?[-+*][^`]+``", notes)


@every_rule
def test_notes_name_a_peer_or_a_source(name: str) -> None:
    notes = sections(docstring_of(getattr(optimizers, name)))["Notes"]
    _, _, source = notes.partition("Source")
    title_and_year = re.search(r"\*[^*]+\*,\s+(19|20)\d\d", source)
    assert title_and_year or any(peer in notes for peer in PEERS)


@every_rule
def test_every_mode_is_described(name: str) -> None:
    rule = getattr(optimizers, name)
    found = sections(docstring_of(rule))
    for argument, kind in get_type_hints(rule.__init__).items():
        or_bool = bool in get_args(kind)
        literal = get_args(kind)[1] if or_bool else kind
        if get_origin(literal) is not Literal:
            continue
        modes = get_args(literal)
        listed = ", ".join(f'"{mode}"' for mode in modes)
        described = f"bool or {listed}" if or_bool else f"{{{listed}}}"
        assert f"{argument} : {described}, default" in found["Parameters"]
        for mode in modes:
            assert f'``"{mode}"``' in found["Notes"], f"{argument}={mode!r}"


@every_rule
def test_the_functional_page_can_name_the_states(name: str) -> None:
    assert isinstance(functional.states(name.lower()), tuple)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_are_run(page: Path) -> None:
    """A block is either an example with prompts, which is run, or an import, which is run here."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if ">>>" in block:
            # Or the closing fence would be taken for output.
            assert block.endswith("\n\n")
        else:
            ours = [line for line in block.splitlines() if "opt_utils" not in line]
            exec("\n".join(ours), {})


def calls(page: Path) -> list[str]:
    """Return the calls in the cells of a page's tables, but for those of the first column."""
    found = []
    for line in page.read_text().splitlines():
        if line.startswith("| "):
            cells = " ".join(line.split(" | ")[1:])
            found += re.findall(
                r"`((?:instep|schedules|functional|opt|free|groups|np)\.[^`]+)`", cells
            )
    return [call for call in found if "(" in call or "=" in call]


@pytest.mark.parametrize("call", dict.fromkeys(calls(ROOT / "docs" / "coming-from.md")))
def test_equivalent_calls_work(call: str) -> None:
    a, b, c = (np.ones(3) for _ in range(3))
    p, grads, m, v = np.ones(3), np.full(3, 0.5), np.zeros(3), np.zeros(3)
    names: dict[str, Any] = {
        "a": a,
        "b": b,
        "batches": 10,
        "c": c,
        "f": lambda step: 0.5**step,
        "first": schedules.Constant(0.1),
        "free": instep.SGDScheduleFree(p),
        "functional": functional,
        "grads": grads,
        "groups": instep.SGD([{"params": a}, {"params": b}]),
        "instep": instep,
        "k": 4,
        "lr": 0.1,
        "m": m,
        "math": math,
        "n": 32,
        "np": np,
        "opt": instep.SGD(p, average=0.9),
        "p": p,
        "samples": 320,
        "schedules": schedules,
        "second": schedules.Constant(0.01),
        "v": v,
    }
    if re.match(r"opt\.param_groups\S* = ", call):
        exec(call, names)
        return
    made = eval(call, names)
    if isinstance(made, instep.Optimizer):
        made.step([a / 2, b / 2] if len(made.param_groups) > 1 else grads)
    elif callable(made):
        assert 0.0 <= made(0) < 10.0


def test_the_walk_through_is_what_stands_in_the_files() -> None:
    """The code that CONTRIBUTING shows is that of a rule that works, its docstring left out."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"^   ```(?:rust|python)\n(.*?)^   ```", text, re.DOTALL | re.MULTILINE)
    package = ROOT / "python" / "instep"
    files = (
        ROOT / "src" / "rules" / "adabelief.rs",
        ROOT / "src" / "recipes.rs",
        package / "reference.py",
        package / "rules" / "adabelief.py",
        ROOT / "tests" / "rule_formulas.py",
    )
    for block, file in zip(blocks, files, strict=True):
        source = file.read_text()
        if '"""..."""' in block:
            source = source.replace(f'"""{instep.AdaBelief.__doc__}"""', '"""..."""')
        assert textwrap.dedent(block).strip() in source, file.name
    limits = re.findall(
        r"pub const MAX_\w+: usize = (\d+);", (ROOT / "src" / "rules" / "mod.rs").read_text()
    )
    assert f"at most {limits[0]}, {limits[1]} and {limits[2]}" in text


def test_the_version_and_the_address_are_the_same_everywhere() -> None:
    """What a release looks up: `.github/workflows/release.yml` and `CITATION.cff`."""
    cargo = (ROOT / "Cargo.toml").read_text()
    citation = (ROOT / "CITATION.cff").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', cargo, re.MULTILINE)
    assert f"\nversion: {version}\n" in citation
    project = (ROOT / "pyproject.toml").read_text()
    (address,) = re.findall(r'^Repository = "(.+)"$', project, re.MULTILINE)
    assert f'repository-code: "{address}"' in citation
    assert f"{address}/security" in (ROOT / ".github/ISSUE_TEMPLATE/config.yml").read_text()
    descriptions = [
        re.findall(r'^description = "(.+)"$', text, re.MULTILINE) for text in (cargo, project)
    ]
    assert descriptions[0] == descriptions[1]


def test_links_to_the_repository_lead_to_files() -> None:
    """A package index shows the README by itself, so its links are absolute, its picture too."""
    project = (ROOT / "pyproject.toml").read_text()
    (address,) = re.findall(r'^Repository = "(.+)"$', project, re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    links = [
        *re.findall(r"\]\(([^)]+)\)", readme),
        *re.findall(r'^\w+ = "(https:.+)"$', project, re.M),
    ]
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith((f"{address}/blob/main/", f"{address}/raw/main/")):
            path = link.removeprefix(address).split("/", 3)[3].partition("#")[0]
            assert (ROOT / path).is_file(), link


def test_every_public_name_has_a_page() -> None:
    """Its own, or that of its module; `docs/reference.md` lists them."""
    listed = re.findall(
        r"^   (instep\.[\w.]+)$", (ROOT / "docs" / "reference.md").read_text(), re.M
    )
    modules = {name for name in listed if inspect.ismodule(getattr(instep, name[7:], None))}
    covered = set(listed)
    for module in modules | {"instep.optimizers"}:
        covered |= {f"instep.{name}" for name in getattr(instep, module[7:]).__all__}
    public = {f"instep.{name}" for name in instep.__all__ if not name.startswith("__")}
    assert public <= covered, public - covered
