"""The bench: that it compares like with like, counts right, and shows what it has measured.

torch is tried with a stand-in: it shows that the adapter is wired as torch is documented.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import instep
import numpy as np
import psutil
import pytest
from command_line import size_of_png, without
from instep import bench
from instep.__main__ import main
from instep.bench import measuring, report, storages
from instep.bench.arrays import check_ordinary, draw
from instep.bench.contestants import OURS, Contestant, Instep, Limit
from instep.bench.dicts import LOOPS
from instep.bench.measuring import Pace, Result, Setting, contestants, measure, sizes
from instep.bench.peers import PEERS, JaxOptax, Numba, NumExpr, Thinc, Torch, TorchFused
from instep.bench.storage_peers import PEERS as PEERS_OF_STORAGES
from instep.bench.storage_peers import Peer
from instep.bench.turns import clock, clock_after, take_turns
from matplotlib.figure import Figure
from numpy.typing import NDArray

Kind = type[Contestant]

pytestmark = pytest.mark.xdist_group("bench")
EVERY = (*OURS, *PEERS)
ADAMS = [
    pytest.param(kind, dtype, id=f"{kind.name}-{dtype}")
    for kind in EVERY
    if kind.eps_mode
    for dtype in kind.dtypes
]
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
PACE = Pace(turn_seconds=1e-4, total_seconds=0.0, least_rounds=2, most_rounds=9, pause_seconds=0.0)


class Tensor:
    """What the adapter uses of a tensor that lies in an array's memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.grad: Tensor | None = None
        self.leaf = False

    def to(self, dtype: str) -> "Tensor":
        return Tensor(self.array.astype(dtype))

    def requires_grad_(self) -> "Tensor":
        self.leaf = True
        return self

    def detach(self) -> "Tensor":
        return Tensor(self.array)

    def numpy(self) -> NDArray[Any]:
        assert not self.leaf, "torch refuses this for tensors that require a gradient"
        return self.array


class TorchAdam:
    """torch's documented Adam."""

    def __init__(
        self,
        params: list[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        assert bool(foreach) != bool(fused)
        self.params, self.lr, self.betas, self.eps = params, lr, betas, eps
        self.state: dict[Tensor, dict[str, Any]] = {}

    def step(self) -> None:
        for param in self.params:
            assert param.leaf
            assert param.grad is not None
            p, g = param.array, param.grad.array
            state = self.state.setdefault(
                param,
                {
                    "step": 0,
                    "exp_avg": Tensor(np.zeros_like(p)),
                    "exp_avg_sq": Tensor(np.zeros_like(p)),
                },
            )
            state["step"] += 1
            m, v = state["exp_avg"].array, state["exp_avg_sq"].array
            beta1, beta2 = self.betas
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g * g - v)
            c1, c2 = (1 - beta ** state["step"] for beta in self.betas)
            p -= self.lr * (m / c1) / (np.sqrt(v / c2) + self.eps)


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("torch")
    module.from_numpy = Tensor
    module.optim = SimpleNamespace(Adam=TorchAdam)
    module.float32 = "float32"
    module.threads = None
    module.set_num_threads = lambda count: setattr(module, "threads", count)
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    with instep.num_threads(instep.get_num_threads()):
        yield


# That like is compared with like


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("kind", "dtype"), ADAMS)
def test_every_contestant_does_the_steps_of_adam(kind: Kind, dtype: str, threads: int) -> None:
    p, g = draw(1003, dtype)
    contestant = kind(p.copy(), g.copy(), threads)
    assert kind.eps_mode is not None
    # torch's defaults, which all have to have been told.
    opt = instep.Adam(p, 1e-3, (0.9, 0.999), 1e-8, eps_mode=kind.eps_mode)
    start = p.copy()
    rtol = TOLERANCES[dtype]
    for _ in range(7):
        contestant.clock()(1)
        opt.step(g)
        found, (m, v) = contestant.arrays(), opt.state["params"].values()
        assert [array.dtype for array in found] == [dtype] * 3
        np.testing.assert_allclose(found[0], p, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(found[1], m, rtol=rtol)
        # Thinc rounds 0.999 before it subtracts it from 1: that costs it four digits of 0.001.
        np.testing.assert_allclose(found[2], v, rtol=1e-4 if kind is Thinc else rtol)
    assert (np.abs(p - start) > 100 * rtol).all()


@pytest.mark.parametrize(("kind", "dtype"), ADAMS)
def test_a_list_of_arrays_is_stepped_as_its_arrays_are(kind: Kind, dtype: str) -> None:
    setting = Setting(dtype, 1, 8, arrays=5)
    (many,) = measuring._made([kind], setting).values()
    (one,) = measuring._made([kind], Setting(dtype, 1, 40)).values()
    assert (many.name, type(many) is kind) == (kind.name, kind.takes_lists)
    for _ in range(3):
        for contestant in (many, one):
            contestant.prepare()
            contestant.step()
    for actual, wanted in zip(many.arrays(), one.arrays(), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=TOLERANCES[dtype])


def test_the_dict_loops_do_the_same() -> None:
    loops = [loop() for loop in LOOPS]
    kept = loops[0].arrays()[0]
    for _ in range(30):
        for loop in loops:
            loop.prepare()
            loop.step()
    for actual, wanted in zip(*(loop.arrays() for loop in loops), strict=True):
        np.testing.assert_array_equal(actual, wanted)
        assert actual.size == 33
    assert (loops[0].arrays()[0] != kept).mean() > 0.5


def test_arithmetic_is_seen_to_differ() -> None:
    """The tolerance of float64 tells the four forms of Adam apart, by eps alone."""
    ends = []
    for mode in ("inside", "outside", "hat"):
        p, g = draw(100, "float64")
        opt = instep.Adam(p, eps_mode=mode)
        for _ in range(7):
            opt.step(g)
        ends.append(p)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(ends[one] - ends[other]).max() > 3 * TOLERANCES["float64"]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
def test_numbers_stay_ordinary(kind: Kind) -> None:
    for dtype in kind.dtypes:
        p, g = draw(64, dtype)
        contestant = kind(p, g, threads=1)
        contestant.clock()(3000)
        check_ordinary(kind.name, *contestant.arrays())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e-40])
def test_numbers_that_are_not_ordinary_are_refused(number: float) -> None:
    array = np.ones(5, np.float32)
    check_ordinary("numba", array, np.zeros(3))
    array[3] = number
    with pytest.raises(FloatingPointError, match=r"^numba has come to numbers"):
        check_ordinary("numba", np.ones(2), array)


def test_a_cleared_gradient_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thinc without its gradient filled anew comes to subnormal numbers."""

    def many(self: Contestant) -> Any:
        # However quick the machine is: a moment is subnormal after some 900 steps, and stays so.
        seconds = Contestant.clock(self)
        return lambda number: seconds(max(number, 2_000))

    monkeypatch.setattr(Thinc, "prepares", False)
    monkeypatch.setattr(Thinc, "clock", many)
    pace = Pace(0.01, 0.0, 1, 1, 0.0)
    with pytest.raises(FloatingPointError, match=r"^Thinc has come to"):
        measure([Instep, Limit, Thinc], Setting("float32", 1, 100), 1, pace)


def test_contestants_have_arrays_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    class Spy(Instep):
        def __init__(self, p: NDArray[Any], g: NDArray[Any], threads: int) -> None:
            given.extend([p, g])
            super().__init__(p, g, threads)

    class Other(Spy):
        name = "other"

    measure([Spy, Other], Setting("float64", 1, 100), 1, PACE)
    assert len(given) == 4
    for i, one in enumerate(given):
        for other in given[:i]:
            assert not np.shares_memory(one, other)


def test_threads_are_set_for_each_library(torch: Any) -> None:
    import numba
    import numexpr

    for threads in (2, 1):
        for kind in (Instep, Limit, TorchFused, Numba, NumExpr):
            p, g = draw(10, "float32")
            kind(p, g, threads)
            if kind in (Instep, Limit):
                assert instep.get_num_threads() == threads
        assert torch.threads == threads
        assert numexpr.get_num_threads() == threads
    numba.set_num_threads(1)
    p, g = draw(10, "float32")
    alone, together = (Numba(p, g, threads).adam for threads in (1, 2))
    assert not alone.targetoptions["parallel"]
    assert together.targetoptions["parallel"]
    assert numba.get_num_threads() == min(2, numba.config.NUMBA_NUM_THREADS)


def test_threads_are_as_before_in_the_end() -> None:
    instep.set_num_threads(5)
    contestants(["float32"])
    measure([Instep, Limit], Setting("float32", 3, 100), 3, PACE)
    assert instep.get_num_threads() == 5


def test_jax_is_given_its_arrays() -> None:
    p, g = draw(1000, "float32")
    contestant = JaxOptax(p, g, threads=2)
    before, moments = contestant.p, contestant.state[0]
    contestant.step()
    for (array,) in (before, moments.mu, moments.nu):
        assert array.is_deleted()
    assert not contestant.g[0].is_deleted()


# That turns and statistics are right


def test_turns_alternate_and_are_filled_with_steps() -> None:
    turns: list[tuple[str, int]] = []

    def clock_of(name: str, seconds: float) -> Callable[[int], float]:
        def spent(number: int) -> float:
            turns.append((name, number))
            return seconds * number

        return spent

    pauses: list[int] = []
    seconds = take_turns(
        {"quick": clock_of("quick", 0.001), "slow": clock_of("slow", 0.1)},
        turn_seconds=0.0095,
        total_seconds=0.45,
        least_rounds=2,
        most_rounds=5,
        before_turn=lambda: pauses.append(len(turns)),
    )
    assert turns[:4] == [("quick", 1), ("quick", 1), ("slow", 1), ("slow", 1)]
    # A round lasts 0.11 s, so four fit.
    assert turns[4:] == [("quick", 10), ("slow", 1), ("slow", 1), ("quick", 10)] * 2
    assert pauses == list(range(4, 12))
    assert seconds == {
        "quick": pytest.approx([0.001] * 4),
        "slow": pytest.approx([0.1] * 4),
    }


@pytest.mark.parametrize(("total", "rounds"), [(0.0, 3), (0.05, 5), (9.0, 7)])
def test_rounds_are_as_many_as_fit_within_bounds(total: float, rounds: int) -> None:
    found = take_turns(
        {"one": lambda number: 0.01 * number},
        turn_seconds=0.01,
        total_seconds=total,
        least_rounds=3,
        most_rounds=7,
    )
    assert len(found["one"]) == rounds


def test_steps_are_as_many_as_fit_with_the_work_between_them() -> None:
    numbers: list[int] = []

    def spent(number: int) -> float:
        numbers.append(number)
        return 0.001 * number

    found = take_turns(
        {"one": spent},
        turn_seconds=0.095,
        total_seconds=0.35,
        least_rounds=1,
        most_rounds=9,
        untimed_seconds=0.009,
    )
    assert numbers == [1, 1, 10, 10, 10]
    assert found == {"one": pytest.approx([0.001] * 3)}


def test_work_between_steps_is_done_and_not_timed() -> None:
    done: list[str] = []

    def step(number: int) -> float:
        done.append(f"step {number}")
        return 0.25

    assert clock_after(lambda: done.append("work"), step)(3) == 0.75
    assert done == ["work", "step 1"] * 3


def test_products_are_done_on_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    class Spy(Faked):
        def clock(self) -> Callable[[int], float]:
            seen.append(("clock", measuring.blas_threads()))
            return super().clock()

    def product() -> Callable[[], object]:
        return lambda: seen.append(("product", measuring.blas_threads()))

    monkeypatch.setattr(measuring, "_product", product)
    before = measuring.blas_threads()
    for count in (1, before):
        seen.clear()
        (result,) = measure([Spy], Setting("float32", 1, 100, count), 1, PACE)
        assert seen[0] == ("clock", count)
        # 5 times to see how long it takes, twice for a first step, and once before each step.
        assert seen[1:] == [("product", count)] * (5 + 2 + len(seen[8:]))
        assert len(seen[8:]) >= result.rounds
    seen.clear()
    measure([Spy], Setting("float32", 1, 100), 1, PACE)
    assert seen == [("clock", before)]
    assert measuring.blas_threads() == before


def test_products_are_what_numpy_says() -> None:
    multiply = measuring._product()
    assert (multiply() == np.full((384, 384), 384.0)).all()


def test_clock_times_that_many_steps() -> None:
    steps = []
    assert clock(lambda: steps.append(1))(5) > 0
    assert len(steps) == 5


def test_thinc_is_timed_without_the_filling_of_its_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, g = draw(10, "float32")
    contestant = Thinc(p, g, threads=1)
    now = 0.0

    def take(seconds: float) -> Callable[..., None]:
        def taken(*_: object) -> None:
            nonlocal now
            now += seconds

        return taken

    monkeypatch.setattr(sys.modules["instep.bench.contestants"], "perf_counter", lambda: now)
    monkeypatch.setattr(np, "copyto", take(100.0))
    monkeypatch.setattr(contestant, "step", take(1.0))
    assert contestant.clock()(3) == 3.0
    assert now == 303.0


class Faked(Instep):
    """A contestant with a clock of its own: 1, 4, 9, ... microseconds a step."""

    name = "faked"

    def clock(self) -> Callable[[int], float]:
        calls = iter(range(-1, 100))  # two calls to find out how long one takes

        def spent(number: int) -> float:
            return 1e-6 * number * max(next(calls), 1) ** 2

        return spent


def test_result_is_the_median_of_the_rounds() -> None:
    pace = Pace(1e-6, 0.0, least_rounds=5, most_rounds=9, pause_seconds=0.0)
    (result,) = measure([Faked], Setting("float64", 1, 200), 1, pace)
    assert (result.contestant, result.rounds) == ("faked", 5)
    assert result.seconds == pytest.approx(9e-6)
    assert result.ns_per_element == pytest.approx(45.0)
    # Four arrays read and three written.
    assert result.gigabytes_per_second == pytest.approx(7 * 8 * 200 / 9e-6 / 1e9)


def test_there_is_a_pause_before_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    measure([Faked], Setting("float32", 1, 100), 1, Pace(1e-6, 0.0, 3, 3, 0.25))
    assert pauses == [0.25] * 3


def test_where_large_arrays_lie_is_drawn_several_times() -> None:
    """Contestants are made anew, in either order, and all of their rounds count."""
    made: list[str] = []

    class First(Faked):
        name = "first"

        def clock(self) -> Callable[[int], float]:
            made.append(self.name)
            return super().clock()

    class Second(First):
        name = "second"

    kinds, pace = [First, Second], Pace(1e-6, 0.0, 6, 9, 0.0)
    for size, makings in (((4 << 20) // 4 - 1, 1), ((4 << 20) // 4, 4)):
        made.clear()
        first, second = measure(kinds, Setting("float32", 1, size), 1, pace)
        assert made == (2 * ["first", "second", "second", "first"])[: 2 * makings]
        assert (first.contestant, second.contestant) == ("first", "second")
        assert first.rounds == second.rounds == (6 if makings == 1 else 4 * 2)


@pytest.mark.parametrize(
    ("largest", "wanted"),
    [
        (100, [100]),
        (250, [100, 250]),
        (300, [100, 300]),
        (1_000, [100, 300, 1_000]),
        (
            50_000_000,
            [n * 10**k for k in range(2, 7) for n in (1, 3)] + [10**7, 3 * 10**7, 5 * 10**7],
        ),
    ],
)
def test_sizes(largest: int, wanted: list[int]) -> None:
    assert sizes(largest) == wanted


# Who takes part


def test_missing_and_broken_peers_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TooOld(TorchFused):
        name = "too old"

        def step(self) -> None:
            raise RuntimeError("fused is not for the CPU")

    monkeypatch.setitem(sys.modules, "numexpr", None)
    monkeypatch.setattr(measuring, "PEERS", (TooOld, NumExpr, Thinc))
    able, missing = contestants(["float32", "float64"])
    assert able == [*OURS, Thinc]
    assert list(missing) == ["too old", "numexpr"]
    assert missing["too old"] == "RuntimeError: fused is not for the CPU"
    assert "numexpr" in missing["numexpr"]


def test_an_error_of_our_own_is_none_of_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(Instep, "step", broken)
    with pytest.raises(ValueError, match="ours"):
        contestants(["float32"])


def test_who_is_measured_where() -> None:
    def names(dtype: str, threads: int) -> set[str]:
        setting = Setting(dtype, threads, 100)
        return {kind.name for kind in measuring.taking_part(EVERY, setting, all_threads=4)}

    everyone = {kind.name for kind in EVERY}
    assert names("float32", 4) == everyone
    assert names("float32", 1) == everyone - {"JAX, optax"}
    assert names("float64", 4) == everyone - {"Thinc"}


# The command


THREADS = 2


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return what was printed, and the folder with the files."""
    folder = tmp_path_factory.mktemp("[red]bench")
    done = without(
        ["torch"],
        *("bench", "--quick", "--max-size", "300"),
        *("--out", str(folder / "bench.png"), "--json", str(folder / "bench.json")),
        # Whatever this process may use of the machine at this moment.
        environment={"INSTEP_NUM_THREADS": str(THREADS)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, folder


def test_missing_peers_are_named_in_the_output(quick_run: tuple[str, Path]) -> None:
    output, folder = quick_run
    saved = json.loads((folder / "bench.json").read_text())
    assert list(saved["missing"]) == ["torch, fused", "torch, foreach"]
    for name, reason in saved["missing"].items():
        assert f"Missing: {name} ({reason})\n" in output
    assert "pip install 'instep[peers]'" in output


def test_every_installed_contestant_is_in_the_json(quick_run: tuple[str, Path]) -> None:
    saved = json.loads((quick_run[1] / "bench.json").read_text())
    found: dict[tuple[str, int, int, int, bool], list[str]] = {}
    for result in saved["results"]:
        names = ("dtype", "threads", "arrays", "size", "in_dicts")
        found.setdefault(tuple(result[name] for name in names), []).append(result["contestant"])
        assert result["seconds"] > 0
        assert 2 <= result["rounds"] <= 5
        elements = result["arrays"] * result["size"]
        assert result["ns_per_element"] == pytest.approx(1e9 * result["seconds"] / elements)
    able = [kind for kind in EVERY if not issubclass(kind, Torch)]
    wanted = {
        (dtype, threads, arrays, size, False): [
            kind.name
            for kind in able
            if dtype in kind.dtypes
            and (kind is not JaxOptax or threads == THREADS)
            and (kind is not Limit or arrays == 1)
        ]
        for arrays, counts, sizes in ((1, (1, THREADS), (100, 300)), (148, (1,), (8,)))
        for dtype in ("float32", "float64")
        for threads in counts
        for size in sizes
    }
    assert found == {**wanted, ("float64", 1, 1, 33, True): ["instep", "NumPy"]}
    machine = saved["machine"]
    assert machine["instep"] == instep.config()
    assert list(machine["versions"]) == [
        *("instep", "numpy", "numba", "numexpr", "jax", "optax", "thinc")
    ]
    assert machine["cpu"]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables' rows; the first, if it is empty, as in the row above."""
    found = []
    size = ""
    for line in text.splitlines():
        if match := re.match(
            r" *([\d,]*)  +(\D\S*(?: \S+)*?)  +([\d.,]+) +([\d.]+) +([\d.]+)"
            r" +(\d+%)? *(fastest)? *$",
            line,
        ):
            size = match[1] or size
            found.append([size, *(cell or "" for cell in match.groups()[1:])])
    return found


def test_tables_show_the_json(quick_run: tuple[str, Path]) -> None:
    output, folder = quick_run
    results = json.loads((folder / "bench.json").read_text())["results"]
    shown = rows(output)
    assert len(shown) == len(results)
    by_place = {
        (r["dtype"], r["threads"], r["arrays"], r["size"], r["contestant"]): r["seconds"]
        for r in results
    }
    for result, (size, name, ns, gigabytes, ratio, share, fastest) in zip(
        results, shown, strict=True
    ):
        place = result["dtype"], result["threads"], result["arrays"], result["size"]
        assert (size, name) == (str(result["size"]), result["contestant"])
        assert float(ns.replace(",", "")) == pytest.approx(result["ns_per_element"], rel=0.006)
        assert gigabytes == f"{result['gigabytes_per_second']:.1f}"
        assert ratio == f"{result['seconds'] / by_place[(*place, 'instep')]:.2f}"
        times = {key[-1]: time for key, time in by_place.items() if key[:-1] == place}
        limit = times.pop("limit", None)
        assert share == (f"{limit / result['seconds']:.0%}" if limit else "")
        assert fastest == ("fastest" if name == min(times, key=times.__getitem__) else "")
    for words in (
        "float32, 1 thread\n",
        "float64, 1 thread\n",
        "float32, 1 thread, a list of 148 arrays of 8\n",
        "float64, 1 thread, the course's dict loop, 33 weights\n",
    ):
        assert words in re.sub(r" +\n", "\n", output)
    assert "JAX, optax: its threads can't be chosen" in output
    assert "\x1b" not in output


def test_files_are_written_and_named(quick_run: tuple[str, Path]) -> None:
    output, folder = quick_run
    assert output.endswith(
        f"Time per element by size: {folder / 'bench.png'}\nAll medians: {folder / 'bench.json'}\n"
    )
    width, height = size_of_png(folder / "bench.png")
    assert width > height > 500


def test_every_contestant_has_a_look() -> None:
    assert list(report.STYLES) == [kind.name for kind in EVERY]
    assert len(set(report.STYLES.values())) == len(EVERY)


def some_results() -> list[Result]:
    return [
        Result(Setting(dtype, threads, size), kind.name, 3, 1e-9 * size * (i + threads))
        for dtype in ("float32", "float64")
        for threads in (1, 2)
        for size in (100, 1000)
        for i, kind in enumerate(EVERY, start=1)
        if dtype in kind.dtypes
    ]


def test_picture_has_a_line_for_each_contestant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    results = some_results()
    machine = report.machine(OURS)
    report.draw(results, machine, tmp_path / "bench.png")
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == [
        *("float32, 1 thread", "float32, 2 threads", "float64, 1 thread", "float64, 2 threads")
    ]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        dtype, threads = axes.get_title().split()[0].rstrip(","), int(axes.get_title().split()[1])
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert list(lines) == [kind.name for kind in EVERY if dtype in kind.dtypes]
        for name, line in lines.items():
            wanted = [
                (r.setting.size, r.ns_per_element)
                for r in results
                if (r.setting.dtype, r.setting.threads, r.contestant) == (dtype, threads, name)
            ]
            np.testing.assert_array_equal(line.get_xydata(), wanted)
    assert [axes.get_xlabel() for axes in figure.axes[2:]] == ["elements of the array"] * 2
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["nanoseconds per element"] * 2
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {kind.name for kind in EVERY}


@pytest.mark.parametrize(
    ("number", "text"),
    [(1234.4, "1,234"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")],
)
def test_numbers_have_three_digits(number: float, text: str) -> None:
    assert report._three_digits(number) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-size", "99"], "argument --max-size: 99 is less than 100"),
        (["--max-size", "1e6"], "argument --max-size: 1e6 is not a whole number of 1 or more"),
        (["--threads", "0"], "argument --threads: 0 is not a whole number of 1 or more"),
        (["--between", "sleep"], "argument --between: invalid choice: 'sleep'"),
        (["--dtype", "float16"], "argument --dtype: invalid choice: 'float16'"),
        (["--out", "no/such/bench.png"], "argument --out: there is no folder no/such"),
        (["--json", "."], "argument --json: . is a folder; wanted the name of a file"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["bench", *arguments])
    assert raised.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace("\\", "/")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "dtypes", "threads", "largest", "pace", "between"),
    [
        ([], ["float32", "float64"], None, 10_000_000, bench.CAREFUL, "nothing"),
        (["--quick"], ["float32", "float64"], None, 1_000, bench.QUICK, "nothing"),
        (
            ["--quick", "--max-size", "500", "--between", "matmul"],
            ["float32", "float64"],
            None,
            500,
            bench.QUICK,
            "matmul",
        ),
        (
            ["--dtype", "float64", "--threads", "2", "3", "--max-size", "50000000"],
            ["float64"],
            [2, 3],
            50_000_000,
            bench.CAREFUL,
            "nothing",
        ),
    ],
)
def test_arguments_arrive(
    arguments: list[str],
    dtypes: list[str],
    threads: list[int] | None,
    largest: int,
    pace: Pace,
    between: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    calls = []
    monkeypatch.setattr(bench, "run", lambda *given: calls.append(given))
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 0
    assert calls == [(dtypes, threads, largest, pace, Path("instep-bench.png"), None, between)]


def test_threads_and_dtypes_are_measured_as_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = []

    def recorded(_able: object, setting: Setting, all_threads: int, pace: Pace) -> list[Result]:
        measured.append(setting)
        return [Result(setting, name, 1, 1e-6) for name in ("instep", "limit")]

    monkeypatch.setattr(bench, "measure", recorded)
    monkeypatch.setattr(measuring, "PEERS", ())
    bench.run(["float64"], [3, 2], 300, PACE, tmp_path / "bench.png", None)
    wanted = [Setting("float64", n, size) for n in (3, 2) for size in (100, 300)]
    wanted.append(Setting("float64", 1, 8, arrays=148))
    assert measured == [*wanted, Setting("float64", 1, 33, in_dicts=True)]


def test_products_are_on_one_thread_and_on_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def recorded(_able: object, setting: Setting, all_threads: int, pace: Pace) -> list[Result]:
        measured.append(setting)
        return [Result(setting, name, 1, 1e-6) for name in ("instep", "limit")]

    monkeypatch.setattr(bench, "measure", recorded)
    monkeypatch.setattr(bench, "blas_threads", lambda: 3)
    monkeypatch.setattr(measuring, "PEERS", ())
    out, json_out = tmp_path / "bench.png", tmp_path / "bench.json"
    bench.run(["float64"], [2], 300, PACE, out, json_out, "matmul")
    assert measured == [Setting("float64", 2, n, blas) for blas in (1, 3) for n in (100, 300)]
    found = [result["blas_threads"] for result in json.loads(json_out.read_text())["results"]]
    assert found == [1] * 4 + [3] * 4
    output = capsys.readouterr().out
    for count in (1, 3):
        assert f"float64, 2 threads, after a product on {count}" in output


def test_too_little_memory_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1.5e9))
    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setattr(measuring, "PEERS", ())
    # Four contestants of four arrays, and eight more: 24 of 80 MB.
    out = ["--out", str(tmp_path / "bench.png")]
    assert main(["bench", *out, "--max-size", "10000001"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "10,000,001 elements take 1.9 GB of memory, and 1.5 GB are free: choose a smaller "
        "--max-size, or one --dtype\n"
    )


@pytest.mark.parametrize("module", ["cpuinfo", "matplotlib", "psutil", "rich", "threadpoolctl"])
def test_a_missing_extra_is_named(module: str) -> None:
    done = without([module], "bench", "--quick")
    message = f"The bench needs {module}: pip install 'instep[bench]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_a_missing_module_of_our_own_is_not_taken_for_an_extra() -> None:
    done = without(["instep.bench.peers"], "bench", "--quick")
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of instep.bench.peers halted" in done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--out", "The picture can't be written to /proc/file: "),
        ("--json", "The picture or the JSON can't be written to instep-bench.png or /proc/file: "),
    ],
)
def test_a_file_that_cannot_be_written_is_said_first(
    option: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", option, "/proc/file"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.out == ""


def test_an_interrupt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure", interrupted)
    monkeypatch.setattr(measuring, "PEERS", ())
    assert main(["bench", "--quick", "--out", str(tmp_path / "bench.png")]) == 130


def test_storages_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Peer, "is_installed", lambda peer: peer == PEERS_OF_STORAGES[0])
    assert main(["bench", "--storage", "--quick", "--threads", "1", "2"]) == 0
    text = capsys.readouterr().out
    assert "A step of Adam on 1,000 elements, median of 2, all taking turns." in text
    assert "Not installed: torch, bitsandbytes." in text
    for storage in (*storages.STORAGES, PEERS_OF_STORAGES[0]):
        lines = [line for line in text.splitlines() if line.startswith(storage.name + "  ")]
        assert len(lines) == 2, storage.name
        for line in lines:
            moved, nanoseconds, ratio = line.split()[-3:]
            assert int(moved) == storage.bytes
            assert float(nanoseconds) > 0
            assert float(ratio) > 0
    assert "1 thread " in text
    assert "2 threads " in text
    # It only prints.
    assert list(tmp_path.iterdir()) == []


def test_peers_of_storages_are_seen_if_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[Peer.__module__]
    for installed, wanted in (((), 0), (("torch",), 2), (("torch", "bitsandbytes"), 3)):
        monkeypatch.setattr(module, "find_spec", lambda name, own=installed: name in own or None)
        assert sum(peer.is_installed() for peer in PEERS_OF_STORAGES) == wanted


def test_peers_of_storages_step_on_so_many_threads_and_not_too_often(torch: Any) -> None:
    steps = []
    kind = type("Slow", (Peer,), {"step": lambda *_: lambda: steps.append(1)})
    slow = kind("slow", 16, "bitsandbytes", most=3)
    found = storages.measure([slow, PEERS_OF_STORAGES[0]], 10, 2, 5)
    assert (len(steps), len(found["slow"]), len(found["torch, fused"])) == (4, 3, 5)
    assert torch.threads == 2


@pytest.mark.parametrize("more", [["--json", "a.json"], ["--between", "matmul"]])
def test_storages_are_only_printed(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["bench", "--storage", *more])
    assert raised.value.code == 2
    assert "--storage only prints" in capsys.readouterr().err


def test_bytes_are_those_of_the_arrays() -> None:
    for storage in storages.STORAGES:
        p = np.ones(10).astype(storage.dtype)
        opt = instep.Adam({"p": p}, **storage.options)
        g = p.astype(storage.gradient or storage.dtype)
        opt.step({"p": g})
        # All is read and written, but for the gradient, which is read.
        arrays = [array for array in (p, *opt.state["p"].values()) if array.size == p.size]
        assert sum(2 * array.itemsize for array in arrays) + g.itemsize == storage.bytes


@pytest.mark.parametrize("command", ["bench", "demo"])
def test_storages_need_ml_dtypes(command: str, tmp_path: Path) -> None:
    out = str(tmp_path / "picture.png")
    done = without(["ml_dtypes"], command, "--storage", "--quick", "--out", out)
    assert done.returncode == 2
    assert "pip install 'instep[bfloat16]'" in done.stderr
