"""A smoke run of the benchmarks: the smallest sizes, a few rounds."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from instep import _instep
from instep.bench import report
from instep.bench.measuring import Result, Setting

from benches import bench_page

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.xdist_group("benches")


def run(*arguments: str | Path) -> str:
    # As if no pytest ran around it, nor several at once.
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return what was printed, and the JSON."""
    path = tmp_path_factory.mktemp("benches") / "benches.json"
    return run("pytest", "benches", "--smoke", f"--benchmark-json={path}"), path


def test_a_group_runs_in_one_process(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith("@benches")


def benchmarks_of(path: Path, test: str) -> list[dict[str, Any]]:
    found = json.loads(path.read_text())["benchmarks"]
    return [benchmark for benchmark in found if benchmark["name"].startswith(f"{test}[")]


def table(output: str, title: str) -> list[list[str]]:
    """Return the rows of a printed table, without its head, as words."""
    lines = output.partition(f" {title} =")[2].splitlines()[3:]
    end = next(i for i, line in enumerate(lines) if line.startswith("="))
    return [line.split() for line in lines[:end]]


def test_every_pair_is_saved_and_shown_with_its_ratio(smoke_run: tuple[str, Path]) -> None:
    output, path = smoke_run
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    ratios = defaultdict(set)
    for benchmark in benchmarks_of(path, "test_step"):
        group = benchmark["group"]
        medians[group][benchmark["params"]["contestant"]] = benchmark["stats"]["median"]
        ratios[group].add(benchmark["extra_info"]["ratio"])
        assert benchmark["extra_info"]["parameters"] == 30
        assert benchmark["params"]["net"] == [2, 5, 2, 1]
    assert set(medians) == {
        f"{rule}, [2, 5, 2, 1], {dtype}"
        for rule in ("gd", "momentum", "rmsprop", "adam")
        for dtype in ("float32", "float64")
    }
    wanted = []
    for group, pair in medians.items():
        assert pair["instep"] > 0
        (ratio,) = ratios[group]
        assert ratio == pytest.approx(pair["numpy"] / pair["instep"])
        cells = f"{group[: group.index(',')]} {group.split()[-1]} [2, 5, 2, 1]".split()
        times = (f"{1e6 * pair[name]:,.1f}" for name in ("numpy", "instep"))
        wanted.append([*cells, *times, f"{ratio:.1f}"])
    assert sorted(table(output, "median microseconds per step")) == sorted(wanted)


@pytest.mark.parametrize(
    ("test", "title", "cases"),
    [
        (
            "test_by_rule",
            "every recipe against the limit, 500 elements, float32",
            [
                (name, 500, "float32", [name, str(len(_instep.Recipe(name).states))])
                for name in _instep.recipes()
            ],
        ),
        (
            "test_by_size",
            "adam_scaled against the limit, by size",
            [
                ("adam_scaled", size, dtype, [dtype, str(size)])
                for dtype in ("float32", "float64")
                for size in (100, 300)
            ],
        ),
    ],
)
def test_every_recipe_is_saved_and_shown_with_its_limit(
    smoke_run: tuple[str, Path],
    test: str,
    title: str,
    cases: list[tuple[str, int, str, list[str]]],
) -> None:
    output, path = smoke_run
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    ratios = {}
    for benchmark in benchmarks_of(path, test):
        group = benchmark["group"]
        medians[group][benchmark["params"]["contestant"]] = benchmark["stats"]["median"]
        ratios[group] = benchmark["extra_info"]["ratio"]
    assert list(medians) == [f"{name}, {size}, {dtype}" for name, size, dtype, _ in cases]
    wanted = []
    for name, size, dtype, cells in cases:
        group = f"{name}, {size}, {dtype}"
        pair = medians[group]
        assert ratios[group] == pytest.approx(pair["recipe"] / pair["limit"])
        ns = (f"{1e9 * pair[key] / size:.3f}" for key in ("recipe", "limit"))
        wanted.append([*cells, *ns, f"{ratios[group]:.2f}"])
    assert table(output, title) == wanted


def test_every_extra_is_saved_and_shown(smoke_run: tuple[str, Path]) -> None:
    output, path = smoke_run
    added = {
        benchmark["params"]["extra"]: benchmark["extra_info"]["added"]
        for benchmark in benchmarks_of(path, "test_extra")
        if benchmark["params"]["contestant"] == "instep"
    }
    shown = table(output, "microseconds added to a step of Adam, 500 elements, float32")
    for (extra, both), row in zip(added.items(), shown, strict=True):
        assert row[0].startswith(f"{extra}=")
        assert row[1] == f"{1e6 * both['instep']:.1f}"
        assert row[-2] == f"{1e6 * both['NumPy']:.1f}"
        ratio = both["NumPy"] / both["instep"]
        assert row[-1] == (f"{ratio:.1f}" if both["instep"] > 0 else "-")
    assert list(added) == ["max_norm", "average", "zero_grads"]


def test_page_of_figures_has_every_table(smoke_run: tuple[str, Path], tmp_path: Path) -> None:
    output, path = smoke_run
    page = tmp_path / "figures.md"
    assert str(page) in run("benches.figures", path, page)
    text = page.read_text()
    for title in (
        "every recipe against the limit, 500 elements, float32",
        "adam_scaled against the limit, by size",
    ):
        lines = text.partition(f"## {title[0].upper()}{title[1:]}\n\n")[2].partition("\n\n")[0]
        rows = [line.strip("| ").replace("`", "").split(" | ") for line in lines.splitlines()]
        assert rows[2:] == table(output, title)
        assert [len(row) for row in rows] == [5] * len(rows)


def test_picture_is_drawn_from_the_json(smoke_run: tuple[str, Path], tmp_path: Path) -> None:
    results = json.loads(smoke_run[1].read_text())
    pictures = []
    for factor in (1, 1, 3):
        for benchmark in results["benchmarks"]:
            if benchmark["group"] == "adam, [2, 5, 2, 1], float64":
                benchmark["extra_info"]["ratio"] *= factor
        source, picture = tmp_path / "course.json", tmp_path / "course.png"
        source.write_text(json.dumps(results))
        assert str(picture) in run("benches.plot_course", source, picture)
        pictures.append(picture.read_bytes())
        picture.unlink()
    same, again, other = pictures
    assert same.startswith(b"\x89PNG")
    assert same == again != other


def test_fit_of_scikit_learn_is_timed() -> None:
    """One row of the table in docs/scikit-learn.md; it compares the models itself."""
    words = "--data digits --hidden 100 --batch 200 --solver adam --dtype float32 --threads 1"
    output = run("benches.sklearn_fit", *words.split(), "--seconds", "0")
    head, _, row = output.splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:6] == ["digits", "100", "200", "adam", "float32", "1"]
    assert len(cells) == head.count("|") - 1 == 9
    assert all(re.fullmatch(r"\d+ ms", cell) for cell in cells[6:8])
    assert re.fullmatch(r"\d+\.\d\d", cells[8])


def a_run(factor: float, **setting: Any) -> dict[str, Any]:
    """Return what the bench saves, of two contestants."""
    place = Setting(**{"dtype": "float32", "threads": 1, "size": 1000, **setting})
    seconds = {"instep": 2e-6, "limit": 1e-6, "numba": factor * 2e-6}
    results = [Result(place, name, 5, time) for name, time in seconds.items()]
    instep_here = {"version": "1", "isa": "avx2"}
    machine = {
        **{"cpu": "A CPU", "system": "Linux", "python": "3.11", "instep": instep_here},
        "versions": {"instep": "1", "numba": "2"},
    }
    return report.as_json(results, machine, {})


def test_the_page_of_the_bench_shows_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_page, "DOCS", tmp_path)
    runs = [
        a_run(9.0),
        # Measured again: the later counts.
        a_run(0.25),
        a_run(1.5, size=3000),
        a_run(3.0, size=8, arrays=10),
        a_run(4.0, blas_threads=2),
    ]
    for number, saved in enumerate(runs):
        (tmp_path / f"{number}.json").write_text(json.dumps(saved))
    bench_page.main([str(tmp_path / f"{number}.json") for number in range(len(runs))])
    text = (tmp_path / "bench.md").read_text()
    for row in (
        "| elements | ns per element | share of the memory limit | numba | fastest |",
        "| 1,000 | 2 | 50% | 0.25 | numba |",
        "| 3,000 | 0.667 | 50% | 1.5 | instep |",
        "| 6.0 | 600 | 3 | numba |",
        "| 1,000 | 2 | 2 | 8 | instep, 1 |",
    ):
        assert f"{row}\n" in text, row
    assert "A CPU, avx2; Linux; Python 3.11; instep 1, numba 2." in text
    assert all((tmp_path / f"{name}.png").exists() for name in ("bench", "between"))
    with pytest.raises(ValueError, match="two machines"):
        bench_page.merged([runs[0], {**runs[1], "machine": {**runs[1]["machine"], "cpu": "B"}}])
