"""A smoke run of the benchmarks: the smallest net, a few rounds."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
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
    path = tmp_path_factory.mktemp("benches") / "course.json"
    return run("pytest", "benches", "--smoke", f"--benchmark-json={path}"), path


def test_every_pair_is_saved_and_shown_with_its_ratio(smoke_run: tuple[str, Path]) -> None:
    output, path = smoke_run
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    ratios = defaultdict(set)
    for benchmark in json.loads(path.read_text())["benchmarks"]:
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
    shown = output.partition("median microseconds per step")[2].splitlines()
    for group, pair in medians.items():
        assert pair["instep"] > 0
        (ratio,) = ratios[group]
        assert ratio == pytest.approx(pair["numpy"] / pair["instep"])
        rule, net, dtype = group[: group.index(",")], "[2, 5, 2, 1]", group.split()[-1]
        (row,) = (line for line in shown if line.startswith(f"{rule:9} {dtype:8} {net}"))
        assert row.split()[-3:] == [
            f"{1e6 * pair['numpy']:,.1f}",
            f"{1e6 * pair['instep']:,.1f}",
            f"{ratio:.1f}",
        ]


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
