"""One file for parameters, state and the program's own: what is put back, and what is refused."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from forged_files import Arrays, forge, make, mutated, parts_of, photograph, save
from instep import Optimizer, checkpoint, safetensors
from numpy.typing import NDArray


def run(*words: object) -> str:
    script = Path(__file__).parent / "resumed_runs.py"
    done = subprocess.run(
        [sys.executable, script, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_at_random_goes_on_as_if_nothing_was(
    seed: int, tmp_path: Path
) -> None:
    assert "killed 25 times" in run(tmp_path, "random", seed)


def test_a_save_that_is_killed_at_any_line_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    assert re.match(r"killed at \d\d+ lines", run(tmp_path, "lines"))


# Parameters


def arrays_of(dtype: Any = np.float64) -> Arrays:
    random = np.random.default_rng(5)
    base = random.standard_normal((6, 8)).astype(dtype)
    return {
        "W": np.asfortranarray(base),
        "strided": base.copy()[::2, ::-3],
        "0": np.array(0.5, dtype),
        "empty": np.zeros((0, 3), dtype),
        "a\\b/\udc80": base.copy()[0],
    }


def train(opt: Optimizer, params: Arrays, first: int, last: int) -> None:
    for t in range(first, last + 1):
        random = np.random.default_rng(t)
        noise = {k: random.standard_normal(p.shape).astype(p.dtype) for k, p in params.items()}
        opt.step({k: np.asarray(params[k] + noise[k]) for k in params})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_are_put_back_in_place_to_the_bit(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "run"
    params = arrays_of(dtype)
    opt = instep.Adam(params, lr=0.1, average=0.9)
    train(opt, params, 1, 3)
    opt.save(path, params=True)

    others = arrays_of(dtype)
    other = instep.Adam(others, average=0.5)
    train(other, others, 5, 9)
    arrays = dict(others)
    assert other.load(path) is None
    assert all(others[name] is array for name, array in arrays.items())
    assert photograph(other) == photograph(opt)
    for name, array in params.items():
        assert others[name].tobytes() == array.tobytes()
    train(opt, params, 4, 8)
    train(other, others, 4, 8)
    assert photograph(other) == photograph(opt)


def test_no_bit_of_a_nan_is_lost(tmp_path: Path) -> None:
    payloads = np.array([0x7FA00001, 0xFF800001, 0x7FC00000, 0x80000000], np.uint32)
    opt = instep.SGD(payloads.view(np.float32))
    opt.save(tmp_path / "run", params=True)
    p = np.zeros(4, np.float32)
    instep.SGD(p).load(tmp_path / "run")
    assert (p.view(np.uint32) == payloads).all()


def test_other_tools_find_the_parameters(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    opt = instep.SGD({"W": np.arange(6.0).reshape(2, 3).T})
    opt.save(tmp_path / "run", params=True)
    found = load_file(tmp_path / "run")
    assert list(found) == ["params/W"]
    np.testing.assert_array_equal(found["params/W"], opt.param_groups[0]["params"]["W"])


def test_the_parameters_stay_where_they_are_not_saved_or_not_wanted(tmp_path: Path) -> None:
    path = tmp_path / "run"
    params = arrays_of()
    opt = instep.Adam(params)
    train(opt, params, 1, 3)
    others = arrays_of()
    other = instep.Adam(others)
    before = [array.tobytes() for array in others.values()]
    opt.save(path)
    other.load(path)
    assert (other.t, [array.tobytes() for array in others.values()]) == (3, before)
    train(other, others, 4, 4)
    before = [array.tobytes() for array in others.values()]
    opt.save(path, params=True)
    other.load(path, params=False)
    assert (other.t, [array.tobytes() for array in others.values()]) == (3, before)
    other.load(path)
    assert [array.tobytes() for array in others.values()] != before


def test_frozen_parameters_and_groups_are_put_back_too(tmp_path: Path) -> None:
    def make() -> instep.AdamW:
        groups: list[Any] = [{"params": [np.ones(2), np.full(3, 2.0)]}, {"params": np.zeros(2)}]
        return instep.AdamW(groups, lr=0.1, freeze=lambda name, array: name == "0.1")

    opt, other = make(), make()
    opt.step([[np.ones(2), None], np.ones(2)])
    opt.param_groups[0]["params"][1][...] = 7.0
    opt.save(tmp_path / "run", params=True)
    other.load(tmp_path / "run")
    assert photograph(other) == photograph(opt)


def refuses(opt: Optimizer, path: Path, match: str) -> None:
    before, content = photograph(opt), path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(match)) as caught:
        opt.load(path)
    assert str(path) in str(caught.value)
    assert photograph(opt) == before
    assert path.read_bytes() == content


def test_parameters_that_do_not_go_with_the_optimizer(tmp_path: Path) -> None:
    """Without state, only the parameters can tell."""
    path = tmp_path / "run"

    def sgd(**params: NDArray[Any]) -> instep.SGD:
        return instep.SGD(params)

    sgd(a=np.ones(3), b=np.ones(2)).save(path, params=True)
    refuses(sgd(a=np.ones(3), c=np.ones(2)), path, "lacks 'c' and has the unknown 'b'")
    refuses(sgd(a=np.ones(3), b=np.ones(3)), path, 'params["b"] has shape (2,); wanted (3,)')
    single = np.ones(2, np.float32)
    refuses(sgd(a=np.ones(3), b=single), path, 'params["b"] has dtype float64; wanted float32')
    fixed = np.ones(2)
    opt = sgd(a=np.zeros(3), b=fixed)
    fixed.flags.writeable = False
    refuses(opt, path, 'params["b"] of the optimizer is read-only')
    opt.load(path, params=False)
    whole = np.zeros(4)
    refuses(sgd(a=whole[:3], b=whole[2:]), path, 'params["b"] of the optimizer shares memory with')


def test_parameters_that_the_tree_does_not_hold_any_more(tmp_path: Path) -> None:
    path = tmp_path / "run"
    params = {"a": np.ones(2), "b": np.ones(2)}
    opt = instep.SGD(params, lr=0.5)
    opt.save(path, params=True)
    params["b"] = params["b"] - 1
    match = 'params["b"] is no longer the array that the optimizer steps; assign in place'
    refuses(opt, path, match)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=re.escape(match)):
        opt.save(path, params=True)
    assert path.read_bytes() == content
    opt.save(path)
    opt.load(path)


def test_a_file_that_lacks_one_of_the_parameters(tmp_path: Path) -> None:
    opt = instep.SGD({"a": np.zeros(2), "b": np.zeros(2)})
    path = tmp_path / "run"
    checkpoint.write(path, opt.state_dict(), {"a": np.ones(2)})
    refuses(opt, path, "params lacks 'b'")
    checkpoint.write(path, opt.state_dict(), {name: np.ones(2) for name in "abc"})
    refuses(opt, path, "has content that instep does not write")


def test_a_file_is_of_one_step_though_another_thread_steps_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    p = np.zeros(1000)
    opt = instep.SGD(p, lr=1.0, momentum=0.5, momentum_mode="ema")
    grad = np.full_like(p, -1.0)
    opt.step(grad)
    write = safetensors.write
    calls = []

    def late(file: Any, arrays: Arrays, texts: dict[str, str]) -> None:
        calls.append(json.loads(texts["t"]))
        if len(calls) == 1:
            opt.step(grad)
        write(file, arrays, texts)

    monkeypatch.setattr(safetensors, "write", late)
    opt.save(path, params=True, extra="mine")
    assert calls == [1, 2]  # first the arrays themselves, which were changed, then a copy
    own = np.zeros_like(p)
    other = instep.SGD(own, lr=1.0, momentum=0.5, momentum_mode="ema")
    assert other.load(path) == "mine"
    assert (own == 0.5 + 0.75).all()
    assert photograph(other) == photograph(opt)


def test_flags_are_flags(tmp_path: Path) -> None:
    opt = instep.SGD(np.ones(1))
    for call in (opt.save, opt.load):
        with pytest.raises(TypeError, match=r"params is 'no' \(str\); wanted True or False"):
            call(tmp_path / "run", params="no")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# What the program saves too


@pytest.mark.parametrize(
    "extra",
    [
        None,
        0,
        False,
        "",
        [],
        {},
        [None, True, -1, 1.5, "é\udc80\0", {"a": [[], {}]}],
        {"random": np.random.default_rng(3).bit_generator.state},
        {"large": 2**4000, "small": 5e-324, "zero": -0.0},
        json.loads("[" * 99 + '"deep"' + "]" * 99),
        {"history": [0.1 * i for i in range(10_000)]},
    ],
)
def test_extra_comes_back_as_it_was(extra: Any, tmp_path: Path) -> None:
    path = tmp_path / "run"
    opt = instep.SGD(np.ones(1))
    opt.save(path, extra=extra)
    found = opt.load(path)
    assert found == extra
    assert json.dumps(found) == json.dumps(extra)
    opt.save(path)
    assert opt.load(path) is None


def test_what_json_has_no_word_for_becomes_what_is_like_it(tmp_path: Path) -> None:
    opt = instep.SGD(np.ones(1))
    opt.save(tmp_path / "run", extra={"pair": (1, 2), "loss": np.float64(0.5)})
    assert opt.load(tmp_path / "run") == {"pair": [1, 2], "loss": 0.5}


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("extra", "error", "match"),
    [
        (
            {"a": [1, {"b": np.float32(1)}]},
            TypeError,
            "extra['a'][1]['b'] is a float32; wanted None",
        ),
        (np.ones(2), TypeError, "list or dict of such: pass extra.tolist()"),
        ({"n": np.int64(1)}, TypeError, "of such: pass extra['n'].tolist()"),
        ({"s": {1, 2}}, TypeError, "extra['s'] is a set; wanted None, a bool, an int, a float, a"),
        ({"s": {1, 2}}, TypeError, "of such: pass sorted(extra['s'])"),
        ({"a": {1: 2}}, TypeError, "extra['a'] has the key 1, an int; wanted a str"),
        ([b"x"], TypeError, "extra[0] is a bytes; wanted"),
        (
            {"best": math.inf},
            ValueError,
            "extra['best'] is inf, which JSON does not have; wanted a",
        ),
        ([math.nan], ValueError, "extra[0] is nan, which JSON does not have"),
        ({"n": 2**8192}, ValueError, "extra['n'] has 8,193 bits; wanted 8,192 at most"),
        (LOOP, ValueError, "extra is nested more than 100 times, or holds itself"),
        (["x" * 10**6] * 20, ValueError, "extra takes 20,000,080 bytes as JSON; wanted 16,777,216"),
    ],
)
def test_what_is_no_json_is_told_by_its_key(
    extra: Any, error: type[Exception], match: str, tmp_path: Path
) -> None:
    opt = instep.SGD(np.ones(1))
    with pytest.raises(error, match=re.escape(match)):
        opt.save(tmp_path / "run", extra=extra)
    assert list(tmp_path.iterdir()) == []


# Files that were made by hand, with a right checksum


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "run")
    return tmp_path / "run"


def test_a_forged_file_that_is_right_loads(saved: Path) -> None:
    wanted = make()
    wanted.load(saved)
    forge(saved, *parts_of(saved))
    opt = make()
    assert opt.load(saved) == {"epoch": 3}
    assert photograph(opt) == photograph(wanted)


DEEP = "[" * 5000 + "]" * 5000
NESTED = "[" * 120 + "]" * 120


@pytest.mark.parametrize("key", ["format", "rule", "t", "average", "groups", "extra", "kind"])
@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        "[" * 10**6,
        NESTED,
        "NaN",
        "[Infinity]",
        "1e999",
        "9" * 5000,
        '{"a": 1, "a": 2}',
        "",
        "x",
    ],
    ids=lambda text: text[:12],
)
def test_texts_that_instep_never_writes(key: str, text: str, saved: Path) -> None:
    arrays, texts = parts_of(saved)
    forge(saved, arrays, {**texts, key: text})
    refuses(make(), saved, "instep")


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        (("options", "maximize"), 0.5, "groups[0]['options']['maximize'] is 0.5"),
        (("options", "maximize"), 1, "groups[0]['options']['maximize'] is 1; wanted a value like"),
        (("options", "eps"), 10**400, "groups[0]['options']['eps'] is 1000"),
        (("options", "eps"), True, "groups[0]['options']['eps'] is True (bool); wanted a number"),
        (("options", "betas"), [0.9, 10**400], "groups[0]['options']['betas'][1] is 1000"),
        (("options", "lr"), [0.1], "groups[0]['options']['lr'] is [0.1] (list); wanted a number"),
        (("options",), [], "groups[0]['options'] is a list; wanted a dict"),
        (("names",), ["b", "b"], "groups has the name 'b' twice"),
        (("names",), ["b", "W"], "groups has the name 'W' twice"),
        (("names",), [], "has content that instep does not write"),
        (("names",), "b", "groups[0]['names'] is 'b'; wanted a list of str"),
        (("recipe",), "adam_hat", "groups[0]['recipe'] is 'adam_hat'; its options are those of"),
        (("carried",), {}, "groups[0]['carried'] lacks 'mu_product'"),
        (("carried",), None, None),
        (("carried",), [], "groups[0]['carried'] is a list; wanted a dict"),
        (("carried", "mu_product"), "0.5", "groups[0]['carried']['mu_product'] is '0.5' (str)"),
        (("carried", "mu_product"), 1.5, "groups[0]: mu_product is 1.5; wanted 0 <= mu_product <="),
        (("carried", "mu_product"), -0.5, "groups[0]['carried']['mu_product'] is -0.5; wanted"),
        (("carried", "mu_product"), 10**400, "groups[0]['carried']['mu_product'] is 1000"),
        (("carried", "more"), 1.0, "groups[0]['carried'] has the unknown 'more'"),
        (("more",), 1.0, "groups[0] has the unknown 'more'"),
    ],
)
def test_groups_that_instep_never_writes(
    where: tuple[str, ...], value: Any, match: str | None, saved: Path
) -> None:
    arrays, texts = parts_of(saved)
    groups = json.loads(texts["groups"])
    part = groups[0]
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    forge(saved, arrays, {**texts, "groups": json.dumps(groups)})
    if match is None:
        make().load(saved)
    else:
        refuses(make(), saved, match)


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_files_load_or_are_refused_and_change_nothing(seed: int, saved: Path) -> None:
    arrays, texts = parts_of(saved)
    whole = make()
    whole.load(saved)
    random = np.random.default_rng(seed)
    refused = 0
    for _ in range(150):
        new = {key: json.loads(text) for key, text in texts.items()}
        for _ in range(random.integers(1, 3)):
            key = list(new)[random.integers(len(new))]
            new[key] = mutated(new[key], random)
        new_arrays = dict(arrays)
        if random.integers(4) == 0:
            names = list(new_arrays)
            name, other = (names[i] for i in random.integers(len(names), size=2))
            new_arrays[name] = new_arrays[other].T.astype(random.choice(["f4", "f8"]), "C")
        forge(saved, new_arrays, {key: json.dumps(value) for key, value in new.items()})
        opt = make()
        before = photograph(opt)
        try:
            opt.load(saved)
        except ValueError as error:
            caught = str(error)
        else:
            caught = ""
        if caught:
            refused += 1
            assert str(saved) in caught
            assert photograph(opt) == before
        else:
            assert [a[:3] for a in photograph(opt)[0]] == [a[:3] for a in photograph(whole)[0]]
            opt.step({"W": np.ones((2, 2)), "b": np.ones(3)})
    assert 50 < refused < 150
