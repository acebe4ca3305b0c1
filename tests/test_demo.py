import subprocess
import sys
from pathlib import Path

import instep
import numpy as np
import pytest
from command_line import size_of_png, without
from instep import demo
from instep.__main__ import main
from instep.demo import digits, network, storages, training, updates_numpy
from sklearn.datasets import load_digits

SMALL = ["demo", "--epochs", "1", "--hidden", "4"]
STEPS = 23  # of one epoch: 1,437 examples in mini-batches of 64
RULES = ["gradient descent", "momentum", "RMSprop", "Adam"]


def row(text: str, rule: str) -> list[str]:
    """Return the cells of a rule's row: its last line, the progress bar being before."""
    lines = [
        line for line in text.splitlines() if line.startswith(f"{rule} ") and "epochs" not in line
    ]
    assert len(lines) == 1
    return lines[0].removeprefix(rule).split()


def test_quick_demo_prints_its_table_and_draws_its_picture(tmp_path: Path) -> None:
    out = tmp_path / "[red]curves.png"
    command = [sys.executable, "-W", "error", "-m", "instep", "demo", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for rule in RULES:
        loss, accuracy, numpy_ms, _, instep_ms, _, speed_up, identical = row(done.stdout, rule)
        assert float(loss) < 1
        assert float(accuracy.removesuffix("%")) > 85
        # All three are rounded to a tenth.
        ratio = float(speed_up.removesuffix("x"))
        assert (ratio - 0.05) * (float(instep_ms) - 0.05) <= float(numpy_ms) + 0.05
        assert (ratio + 0.05) * (float(instep_ms) + 0.05) >= float(numpy_ms) - 0.05
        assert identical == "yes"
    assert done.stdout.count(" 5/5 epochs") == len(RULES)
    assert "identical to the bit" in done.stdout
    assert done.stdout.endswith(f"{out}\n")
    assert "\x1b" not in done.stdout
    width, height = size_of_png(out)
    assert width > height > 500


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_dtype_gives_identical_bits(
    dtype: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--quick", "--hidden", "16", "8", "--dtype", dtype]) == 0
    text = capsys.readouterr().out
    assert f"64-16-8-10 network on 1,437 digits, {dtype}" in text
    assert [row(text, rule)[-1] for rule in RULES] == ["yes"] * 4
    size_of_png(tmp_path / "instep-demo.png")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", training.RULES, ids=lambda rule: rule.name)
def test_both_runs_stay_in_the_dtype(rule: training.Rule, dtype: str) -> None:
    pair = training.train_twice(rule, digits.load(dtype), [4], epochs=1)
    for run in (pair.numpy, pair.instep):
        for arrays in (run.parameters, *run.state.values()):
            assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("array", ['parameters["W1"]', 'v["db2"]', 's["dW2"]'])
def test_one_bit_of_difference_fails(
    array: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    correct = instep.update_parameters_with_adam

    def off_by_one_ulp_at_the_end(parameters, grads, v, s, t, **hypers):  # type: ignore[no-untyped-def]
        updated = correct(parameters, grads, v, s, t, **hypers)
        if t == STEPS:
            one = eval(array, {"parameters": parameters, "v": v, "s": s})
            one.flat[-1] = np.nextafter(one.flat[-1], 1)
        return updated

    monkeypatch.setattr(instep, "update_parameters_with_adam", off_by_one_ulp_at_the_end)
    assert main([*SMALL, "--out", str(tmp_path / "curves.png")]) == 1
    text = capsys.readouterr().out
    assert [row(text, rule)[-1] for rule in RULES] == ["yes", "yes", "yes", "NO"]
    assert f"Adam: different bits in {array}\n" in text
    assert "identical to the bit" not in text
    size_of_png(tmp_path / "curves.png")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("host", ["cs231n", "dlfs", "nnfs", "sklearn"])
def test_each_host_gives_identical_bits(
    host: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curves.png"
    assert main([*SMALL, "--host", host, "--dtype", dtype, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"in the format of {demo.HOST_NAMES[host]}.\n" in text
    assert text.count(" 1/1 epochs") == text.count(" yes") == len(demo.rules_of(host))
    size_of_png(out)


@pytest.mark.parametrize(
    ("host", "rule", "array"),
    [
        ("cs231n", "adam", 'configs["W1"]["v"]'),
        ("dlfs", "Adam", 'optimizer.m["b2"]'),
        ("nnfs", "Adam", "layers[1].bias_cache"),
        ("sklearn", "nesterov", "optimizer.velocities[3]"),
    ],
)
def test_one_bit_in_a_host_s_state_is_seen(host: str, rule: str, array: str) -> None:
    (found,) = (r for r in demo.rules_of(host) if r.name == rule)
    pair = training.train_twice(found, digits.load("float64"), [4], epochs=1)
    assert pair.differing == []
    one = eval(array, {}, pair.instep.state)
    one.flat[-1] = np.nextafter(one.flat[-1], 1)
    assert training.differing_arrays(pair.numpy, pair.instep) == [array]
    assert training.differing_arrays(pair.instep, pair.numpy) == [array]


def test_different_losses_are_both_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        instep, "update_parameters_with_gd", lambda parameters, *_, **__: parameters
    )
    assert main([*SMALL, "--out", str(tmp_path / "curves.png")]) == 1
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if "NO" in line)
    assert lines[first].startswith("gradient descent ")
    numpy_loss, instep_loss = lines[first].split()[2], lines[first + 1].split()[0]
    assert float(numpy_loss) < float(instep_loss)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: 0 is not a whole number of 1 or more"),
        (["--epochs", "two"], "argument --epochs: two is not a whole number of 1 or more"),
        (["--hidden", "16", "0"], "argument --hidden: 0 is not a whole number of 1 or more"),
        (["--hidden"], "argument --hidden: expected at least one argument"),
        (["--host", "keras"], "argument --host: invalid choice: 'keras'"),
        (["--dtype", "float16"], "argument --dtype: invalid choice: 'float16'"),
        (["--out", "no/such/curves.png"], "argument --out: there is no folder no/such"),
        (["--out", "."], "argument --out: . is a folder; wanted the name of a file"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["demo", *arguments])
    assert raised.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace("\\", "/")
    assert captured.out == ""


@pytest.mark.parametrize("module", ["matplotlib", "rich", "threadpoolctl"])
def test_a_missing_extra_is_named(module: str) -> None:
    done = without([module], *SMALL)
    message = f"The demo needs {module}: pip install 'instep[demo]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_scikit_learn_is_needed_for_its_rules_only() -> None:
    done = without(["sklearn"], *SMALL, "--host", "sklearn")
    message = "The demo needs sklearn: pip install 'instep[sklearn]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_a_missing_module_of_our_own_is_not_taken_for_an_extra() -> None:
    done = without(["instep.demo.network"], *SMALL)
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of instep.demo.network halted" in done.stderr


def test_info_needs_no_extra() -> None:
    done = without(["matplotlib", "rich", "threadpoolctl"], "info")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"version        {instep.__version__}\n")


def test_digits_are_those_of_scikit_learn() -> None:
    pixels, labels = load_digits(return_X_y=True)
    data = digits.load("float64")
    for got, wanted in (
        (np.hstack([data.X_train, data.X_held_out]), pixels.T / 16),
        (np.hstack([data.Y_train, data.Y_held_out]), np.eye(10)[labels].T),
    ):
        np.testing.assert_array_equal(np.sort(got, axis=1), np.sort(wanted, axis=1))
    # The first 0, 2 and 4 are held out, pixel by pixel.
    np.testing.assert_array_equal(data.X_held_out[:, :3], pixels[[0, 2, 4]].T / 16)


def test_digits_are_scaled_and_split_by_class() -> None:
    data = digits.load("float32")
    assert data.X_train.shape == (64, 1437)
    assert data.X_held_out.shape == (64, 360)
    assert {part.dtype for part in data} == {np.dtype("float32")}
    assert data.X_train.min() == 0
    assert data.X_train.max() == 1
    # But for one digit of a class.
    np.testing.assert_allclose(
        data.Y_train.mean(axis=1), data.Y_held_out.mean(axis=1), atol=1 / 360
    )
    for again, part in zip(digits.load("float32"), data, strict=True):
        np.testing.assert_array_equal(again, part)


def test_gradients_are_those_of_the_loss() -> None:
    parameters = network.initialize_parameters_he([5, 4, 3], "float64", seed=1)
    random = np.random.RandomState(2)
    X, Y = random.rand(5, 7), np.eye(3)[:, random.randint(3, size=7)]

    def loss() -> float:
        return network.backward(parameters, network.forward(parameters, X), Y)[0]

    _, grads = network.backward(parameters, network.forward(parameters, X), Y)
    for key, array in parameters.items():
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + 1e-6
            above = loss()
            array[place] = kept - 1e-6
            below = loss()
            array[place] = kept
            assert grads["d" + key][place] == pytest.approx((above - below) / 2e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("rule", "accuracy"),
    list(zip(training.RULES, [0.93, 0.95, 0.95, 0.95], strict=True)),
    ids=RULES,
)
def test_each_rule_learns(rule: training.Rule, accuracy: float) -> None:
    pair = training.train_twice(rule, digits.load("float64"), [128, 64], epochs=10)
    assert pair.instep.losses[-1] < pair.instep.losses[0] / 5
    assert pair.instep.accuracy > accuracy
    assert pair.differing == []


def test_neither_run_always_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    step = training.Run.step

    def recorded(run: training.Run, *arguments) -> float:  # type: ignore[no-untyped-def]
        order.append(run.code)
        return step(run, *arguments)

    monkeypatch.setattr(training.Run, "step", recorded)
    training.train_twice(training.RULES[0], digits.load("float64"), [4], epochs=1)
    assert order[:4] == [updates_numpy, instep, instep, updates_numpy]
    assert len(order) == 2 * STEPS


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.0, -0.0, False),
        (np.nan, np.nan, True),
        (1.0, np.nextafter(1, 2), False),
        (1.0, 1.0, True),
    ],
)
def test_comparison_is_to_the_bit(one: float, other: float, same: bool) -> None:
    runs = [
        training.Run(instep, {"W1": np.array([[value]])}, {"v": {"dW1": np.array([[value]])}})
        for value in (one, other)
    ]
    assert training.differing_arrays(*runs) == ([] if same else ['parameters["W1"]', 'v["dW1"]'])


def test_comparison_sees_another_dtype() -> None:
    runs = [training.Run(instep, {"W1": np.zeros((1, 1), dtype)}, {}) for dtype in ("f4", "f8")]
    assert training.differing_arrays(*runs) == ['parameters["W1"]']


@pytest.mark.parametrize("out", ["/proc/curves.png", "/dev/full"])
def test_a_picture_that_cannot_be_written_is_no_difference(
    out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--out", out]) == 2
    assert f"The picture can't be written to {out}" in capsys.readouterr().err


def test_an_interrupt_is_no_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("instep.demo.run", interrupted)
    assert main([*SMALL, "--out", str(tmp_path / "curves.png")]) == 130


def test_storages_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "storages.png"
    arguments = ["--storage", "--hidden", "8", "--epochs", "1", "--quick", "--out", str(out)]
    assert main(["demo", *arguments]) == 0
    text = capsys.readouterr().out
    assert "Training a 64-8-10 network on 1,437 digits with AdamW, 1 epochs, 1 seeds" in text
    rows = [
        next(line for line in text.splitlines() if line.startswith(storage.name + "  "))
        for storage in storages.STORAGES
    ]
    assert [row.split()[-4] for row in rows] == [
        *("12", "10", "6", "10", "12", "8", "6", "8", "6", "4", "14")
    ]
    size_of_png(out)


def test_rounding_to_nearest_loses_what_rounding_by_chance_keeps() -> None:
    data = digits.load("float32")
    last = {
        storage.name: storages.train(storage, data, [16], 8, seed=1).losses[-1]
        for storage in storages.STORAGES
    }
    plain = last.pop("float32")
    more = {name: loss - plain for name, loss in last.items()}
    worst = max(abs(loss) for name, loss in more.items() if "nearest" not in name)
    assert worst < 0.01 < more["bfloat16 to nearest"] < more["bfloat16 to nearest"] + 1
    assert more["all bfloat16 to nearest"] > 0.01
