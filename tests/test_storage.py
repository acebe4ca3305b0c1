"""Parameters and states that are stored in fewer bytes: to the bit as `instep.codecs` says."""

import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import instep
import instep.interop
import ml_dtypes
import numpy as np
import pytest
from bits import LAYOUTS, Array, assert_same_bits
from instep import codecs, reference
from levels import LEVELS, use_level
from optimizer_model import MODES, mode_name
from stored_steps import (
    BFLOAT16,
    CODED,
    COMBINATIONS,
    FLOAT16,
    FLOAT32,
    UINT16,
    Combination,
    Model,
    assert_like_model,
    assert_only_rows_are_stepped,
    assert_threads_change_no_bit,
    load,
    state_bytes,
    store,
)

EVERY = {**COMBINATIONS, **CODED}

HARD = np.array(
    [
        *(0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x3F808000, 0x3F818000),
        *(0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F8000, 0x7F800000, 0xFF800000),
        *(0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF80FFFF),
    ],
    np.uint32,
).view(np.float32)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have all steps use the instructions of one level."""
    return use_level(request.param, monkeypatch)


def numbers(rng: np.random.Generator, shape: Any) -> Array:
    """Return ordinary numbers, and now and then some that are hard."""
    found: Array = np.asarray(rng.standard_normal(shape), np.float32)
    places = rng.random(shape) < 0.03
    found[places] = rng.choice(HARD, places.sum())
    return found


# The noise


def test_noise_is_the_formula_in_integers() -> None:
    def mix(z: int) -> int:
        z %= 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    for seed, t, stream in ((0, 1, 0), (7, 3, 8 * 0xFFFFFFFF + 5), (2**64 - 1, 2**40, 1)):
        places = [0, 1, 255, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 12345]
        found = codecs.noise(seed, t, stream, np.array(places))
        for i, x in zip(places, found, strict=True):
            k = mix(mix(mix(mix(seed + 0x9E3779B97F4A7C15) + t) + stream) + (i >> 32))
            wanted = ((i % 2**32) ^ k % 2**32) * 0x21F0AAAD % 2**32
            wanted ^= wanted >> 15
            wanted = (wanted + (k >> 32)) * 0xD35A2D97 % 2**32
            assert x == wanted ^ (wanted >> 15)


def test_the_mean_of_many_roundings_is_the_number() -> None:
    rng = np.random.default_rng(0)
    count = 100_000
    for x in [*rng.standard_normal(20), 1e-39, -3e38, 2.0**-130]:
        x32 = np.float32(x)
        random = codecs.noise(3, 1, codecs.stream("W", 0), np.arange(count))
        rounded = codecs.from_bfloat16(codecs.to_bfloat16(np.full(count, x32), random))
        values = np.unique(rounded).astype(float)
        assert len(values) <= 2
        step = np.ptp(values) if len(values) == 2 else 0.0
        # A mean of so many has half a step over its root as its error; this is five times that.
        error = abs(rounded.mean(dtype=float) - float(x32))
        assert error <= 2.5 * step / math.sqrt(count) + abs(float(x32)) * 1e-12


@pytest.mark.parametrize("shift", [0, 16])
def test_each_bit_of_the_noise_is_fair(shift: int) -> None:
    count = 200_000
    for seed, t, name in ((0, 1, "W"), (1, 1, "W"), (0, 2, "W"), (0, 1, "b")):
        x = codecs.noise(seed, t, codecs.stream(name, 2), np.arange(count)) << np.uint32(shift)
        counts = np.array([(x >> np.uint32(bit) & 1).sum() for bit in range(16, 32)])
        squares = (counts - count / 2) ** 2 / (count / 4)
        # Chi-squared of 16 degrees: more than 45 comes once in 6,000 times.
        assert squares.sum() < 45
        words = np.bincount(x >> np.uint32(24), minlength=256)
        assert ((words - count / 256) ** 2 / (count / 256)).sum() < 350  # of 255 degrees


def test_noise_is_not_correlated() -> None:
    """Not over lags, steps, roles, names, seeds, nor between the halves of a number."""
    count = 200_000
    places = np.arange(count)

    def uniform(seed: int, t: int, name: str, role: int, shift: int = 0) -> Array:
        x = codecs.noise(seed, t, codecs.stream(name, role), places) << np.uint32(shift)
        return (x >> np.uint32(16)) / 2**16 - 0.5

    x = uniform(0, 1, "W", 0)
    others = {
        "step": uniform(0, 2, "W", 0),
        "role": uniform(0, 1, "W", 2),
        "name": uniform(0, 1, "V", 0),
        "seed": uniform(1, 1, "W", 0),
        "half": uniform(0, 1, "W", 0, 16),
    }
    others |= {f"lag {lag}": np.roll(x, lag) for lag in (1, 2, 3, 15, 16, 17, 256, 1024, 4096)}
    for what, y in others.items():
        correlation = (x * y).mean() * 12 * math.sqrt(count)
        assert abs(correlation) < 4.5, what


# The codecs


def test_from_bfloat16_is_that_of_ml_dtypes() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    assert_same_bits(codecs.from_bfloat16(bits), bits.view(ml_dtypes.bfloat16).astype(np.float32))


def test_to_bfloat16_takes_one_of_the_two_next_to_it() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([HARD, rng.integers(0, 2**32, 50_000, np.uint32).view(np.float32)])
    down = codecs.to_bfloat16(x, np.zeros(x.shape, np.uint32))
    up = codecs.to_bfloat16(x, np.full(x.shape, 0xFFFFFFFF, np.uint32))
    nan = np.isnan(x)
    assert np.isnan(codecs.from_bfloat16(down[nan])).all()
    assert np.isnan(codecs.from_bfloat16(up[nan])).all()
    assert_same_bits(codecs.from_bfloat16(down)[~nan], _cut(x)[~nan])
    exact = _cut(x) == x
    assert (up[exact & ~nan] == down[exact & ~nan]).all()
    assert (up[~exact & ~nan] == down[~exact & ~nan] + 1).all()
    # With the tie in between, and even ones going down, it is the rounding of ml_dtypes.
    even = 0x7FFF + ((x.view(np.uint32) >> 16) & 1)
    nearest = codecs.to_bfloat16(x, (even << 16).astype(np.uint32))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.astype(ml_dtypes.bfloat16)
    assert_same_bits(nearest.view(ml_dtypes.bfloat16)[~nan], wanted[~nan])


def _cut(x: Array) -> Array:
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def test_split_loses_nothing_and_its_upper_half_is_the_nearest() -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([HARD, rng.integers(0, 2**32, 50_000, np.uint32).view(np.float32)])
    high, low = codecs.to_split(x)
    assert_same_bits(codecs.from_split(high, low), x)
    upper = codecs.from_bfloat16(high)
    assert (np.isnan(upper) == np.isnan(x)).all()
    finite = np.isfinite(x) & np.isfinite(upper)
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    error = abs(upper[finite].astype(float) - x[finite])
    assert (error == abs(nearest[finite].astype(float) - x[finite])).all()


# Steps


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_recipe_has_the_bits_of_the_mirror(name: str, level: str) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(3)
    lengths = [0, 1, 2, 3, 31, 32, 33, 64, 255, 600]
    for number, (rule, mode) in enumerate(MODES):
        n = lengths[number % len(lengths)]
        W = store(numbers(rng, n), dtype)
        around = {"maximize": number % 3 == 0, "weight_decay": 0.03 * (number % 2)}
        opt = rule({"W": W}, **{**mode, **around}, **options, seed=number)
        model = Model(opt)
        for kind in (dtype, FLOAT32):
            g = store(numbers(rng, n), kind)
            model.step(g, scale=0.7)
            opt.step({"W": g}, grad_scale=0.7)
            try:
                assert_like_model(model)
            except AssertionError as error:
                raise AssertionError(f"{mode_name(rule, mode)}, {n} elements: {error}") from None


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_length_has_the_bits_of_the_mirror(name: str, level: str) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(4)
    params = {
        f"p{n}": store(numbers(rng, n), dtype) for n in range(0, 601, 1 + 6 * (level != LEVELS[-1]))
    }
    opt = instep.AdamW(params, lr=0.01, seed=2**64 - 1, **options)
    models = {key: Model(opt, key) for key in params}
    for kind in (dtype, FLOAT32):
        grads = {key: store(numbers(rng, p.size), kind) for key, p in params.items()}
        for key, model in models.items():
            model.step(grads[key])
        opt.step(grads)
        for model in models.values():
            assert_like_model(model)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_threads_change_no_bit(name: str) -> None:
    dtype, options = COMBINATIONS[name]
    start = np.random.default_rng(5).standard_normal(300_007).astype(np.float32)
    assert_threads_change_no_bit(start, dtype, options, (1, 2, 3, 4))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_layouts_change_no_bit(name: str) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(6)
    for shape in ((7, 5), (3, 65, 4), (129, 3), (2, 1, 300)):
        start = numbers(rng, shape)
        grads = [numbers(rng, shape) for _ in range(2)]
        for number, layout in enumerate(LAYOUTS):
            W = layout(shape, dtype)
            W[...] = store(start, dtype)
            opt = instep.Adan({"W": W}, lr=0.01, weight_decay=0.1, **options)
            model = Model(opt)
            for t, numbers_of_g in enumerate(grads):
                g = LAYOUTS[(number + t) % len(LAYOUTS)](shape, dtype)
                g[...] = store(numbers_of_g, dtype)
                model.step(g)
                opt.step({"W": g})
            assert_like_model(model)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_options_around_a_step(name: str) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(7)
    n = 1000
    W = store(numbers(rng, n), dtype)
    opt = instep.SGD({"W": W}, lr=0.1, momentum=0.9, weight_decay=0.02, **options)
    model = Model(opt)
    for kind in (dtype, FLOAT32):
        for max_norm, max_value in ((None, 0.5), (0.9, None), (None, None)):
            ordinary = rng.standard_normal(n).astype(np.float32)
            g = store(ordinary, kind)
            norm = instep.reference.gradient_norm(load(g)) * 0.5
            factor = 1.0
            if max_norm is not None:
                factor = min(1.0, max_norm / (norm + 1e-6))
            model.step(g, scale=0.5 * factor, max_value=max_value)
            result = opt.step({"W": g}, grad_scale=0.5, max_norm=max_norm, max_value=max_value)
            assert result.grad_norm == (None if max_norm is None else norm)
            assert_like_model(model)
    g = store(np.full(n, np.nan, np.float32), dtype)
    g[1:] = 0
    before = W.tobytes()
    opt.zero_grads = True
    assert opt.step({"W": g}, nonfinite="skip").skipped
    assert W.tobytes() == before
    assert not np.ascontiguousarray(g).view(np.uint8).any()
    g = store(rng.standard_normal(n).astype(np.float32), dtype)
    model.step(g)
    opt.step({"W": g})
    assert_like_model(model)
    assert not np.ascontiguousarray(g).view(np.uint8).any()


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 1e-46])
def test_zeros_keep_their_signs_unless_weights_decay_be_it_by_what_rounds_to_nothing(
    name: str, momentum: float, decay: float, level: str
) -> None:
    if momentum == 0 and COMBINATIONS[name][0] == FLOAT32:
        momentum = 0.9  # states in fewer bytes are all that there is
    dtype, options = COMBINATIONS[name]
    zeros = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf], np.float32)
    W, g = (store(each.ravel(), dtype) for each in np.meshgrid(zeros, zeros))
    opt = instep.SGD({"W": W}, lr=0.5, momentum=momentum, weight_decay=decay, **options)
    model = Model(opt)
    for grads in (g, np.copy(g[::-1]), g):
        model.step(grads)
        opt.step({"W": grads})
        assert_like_model(model)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_rows_are_stepped_and_no_others(name: str) -> None:
    assert_only_rows_are_stepped(*COMBINATIONS[name], (9, 40))


AVERAGED = [name for name, (dtype, _) in COMBINATIONS.items() if dtype != FLOAT16]


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_are_of_the_numbers_before_they_are_rounded(name: str, tmp_path: Path) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(17)
    # More than a piece of the swap, in two orders of memory.
    W = store(numbers(rng, (301, 250)), dtype)
    W = W if name != "everything" else np.asfortranarray(W)
    opt = instep.Adam({"W": W}, lr=0.1, average=0.75, **options)
    model = Model(opt)
    average = np.copy(model.p)
    for _ in range(3):
        g = store(rng.standard_normal(W.shape).astype(np.float32), dtype)
        model.step(g)
        opt.step({"W": g})
        with np.errstate(all="ignore"):
            average = reference.average(average, model.before_storing, decay=0.75)
        assert_like_model(model)
        assert opt.averages["W"].dtype == np.float32
        assert_same_bits(np.ascontiguousarray(opt.averages["W"]), average)
    opt.save(tmp_path / "run", params=True)
    before = W.tobytes("C")
    for _ in range(2):
        with opt.averaged():
            within = codecs.to_split(average)[0] if dtype != FLOAT32 else average
            assert np.ascontiguousarray(W).view(within.dtype).tobytes() == within.tobytes()
            if dtype != FLOAT32:
                kept = np.ascontiguousarray(opt.averages["W"]).view(np.uint32) >> 16
                assert kept.astype(np.uint16).tobytes() == before
                with pytest.raises(RuntimeError, match=r"decoded was called within averaged\(\)"):
                    opt.decoded("W")
            with pytest.raises(RuntimeError, match=r"step was called within averaged\(\)"):
                opt.step({"W": g})
        assert W.tobytes("C") == before
        assert_same_bits(np.ascontiguousarray(opt.averages["W"]), average)
    other = instep.Adam({"W": np.zeros_like(W)}, lr=0.1, average=0.75, **options)
    other.load(tmp_path / "run")
    assert_same_bits(np.ascontiguousarray(other.averages["W"]), average)


@pytest.mark.parametrize("name", ["parameters", "split"])
def test_averaged_gives_every_number_back(name: str) -> None:
    dtype, options = COMBINATIONS[name]
    bits = np.random.default_rng(18).integers(0, 2**32, 100_000, np.uint32)
    average = np.concatenate([HARD, bits.view(np.float32)])
    W = np.arange(len(average), dtype=np.uint32).astype(np.uint16).view(dtype)
    opt = instep.Adam({"W": W}, average=0.5, **options)
    before = W.tobytes()
    opt.averages["W"][...] = average
    with opt.averaged():
        assert W.tobytes() == codecs.to_split(average)[0].tobytes()
    assert W.tobytes() == before
    assert_same_bits(opt.averages["W"], average)


def test_rows_move_the_averages_of_their_own() -> None:
    for dtype in (FLOAT32, BFLOAT16):
        W = store(np.ones((4, 70), np.float32), dtype)
        opt = instep.SGD({"W": W}, lr=0.5, average=0.5)
        values = store(np.ones((2, 70), np.float32), dtype)
        opt.step({"W": instep.Rows(np.array([3, 1]), values)})
        wanted = np.ones((4, 70), np.float32)
        wanted[[1, 3]] = 0.75
        assert_same_bits(opt.averages["W"], wanted)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_runs_of_other_orders_have_the_bits_of_the_mirror(name: str, level: str) -> None:
    """Of arrays in Fortran's order and those between, with inner axes long and short."""
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(19)
    for shape, axes in (
        ((65, 33), (1, 0)),
        ((64, 7), (1, 0)),
        ((63, 9), (1, 0)),
        ((5, 131, 3), (0, 2, 1)),
        ((67, 4, 3), (2, 1, 0)),
        ((130, 3, 5), (1, 2, 0)),
    ):
        start = numbers(rng, shape)

        def ordered(array: Array, axes: tuple[int, ...] = axes) -> Array:
            stored = store(array.transpose(axes), dtype)
            return stored.transpose(np.argsort(axes))

        W = ordered(start)
        opt = instep.Adan({"W": W}, lr=0.01, weight_decay=0.1, zero_grads=True, **options)
        model = Model(opt)
        for t in range(3):
            # The gradient of the last step is in another order.
            g = ordered(numbers(rng, shape)) if t < 2 else store(numbers(rng, shape), dtype)
            model.step(g)
            opt.step({"W": g}, grad_scale=1.0)
            assert not np.ascontiguousarray(g).view(np.uint8).any()
        assert_like_model(model)


def test_threads_cut_runs_of_other_orders_anywhere() -> None:
    start = np.random.default_rng(20).standard_normal((1009, 307)).astype(np.float32)
    options = {"state_dtype": "bfloat16"}
    assert_threads_change_no_bit(start, BFLOAT16, options, (1, 3), order="F")


@pytest.mark.parametrize("name", ["everything", "codes"])
def test_groups_and_order_change_no_bit(name: str) -> None:
    dtype, options = EVERY[name]
    rng = np.random.default_rng(9)
    start = {key: rng.standard_normal(300).astype(np.float32) for key in "abc"}

    def run(order: str, **groups: Any) -> dict[str, bytes]:
        params = {key: store(start[key], dtype) for key in order}
        opt = instep.Adam(params, lr=0.01, **options, **groups)
        for t in range(3):
            opt.step({key: store(start[key] * t, dtype) for key in order})
        return {key: params[key].tobytes() + opt.state[key]["m"].tobytes() for key in start}

    assert run("abc") == run("cab") == run("bca", groups={"a": {"lr": 0.01}})


def test_a_seed_and_a_name_change_bits() -> None:
    def run(name: str, seed: int) -> bytes:
        W = np.ones(1000, BFLOAT16)
        instep.SGD({name: W}, lr=1e-4, seed=seed).step({name: np.ones(1000, BFLOAT16)})
        return W.tobytes()

    assert run("W", 0) == run("W", 0)
    assert len({run("W", 0), run("W", 1), run("V", 0)}) == 3


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_part_of_an_array_has_the_bits_of_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(14)
    start = rng.standard_normal((40, 25)).astype(np.float32)
    grads = [store(rng.standard_normal((40, 25)).astype(np.float32), dtype) for _ in range(3)]

    def run(first: int, rows: slice, layout: Any = np.ascontiguousarray) -> list[Array]:
        monkeypatch.setattr("instep.storage.Stored.first", first)
        W = layout(store(start[rows], dtype))
        opt = instep.Adagrad({"W": W}, initial_accumulator_value=0.1, **options)
        for g in grads:
            opt.step({"W": g[rows]})
        return list(opt.decoded("W").values())

    for layout in (np.ascontiguousarray, np.asfortranarray):
        parts = [run(25 * at, slice(at, to), layout) for at, to in ((0, 7), (7, 40))]
        for whole, *pieces in zip(run(0, slice(40)), *parts, strict=True):
            assert_same_bits(np.concatenate(pieces), whole)


@pytest.mark.parametrize("name", ["parameters", "everything"])
def test_places_go_on_after_32_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype, options = COMBINATIONS[name]
    first = 2**32 - 301
    monkeypatch.setattr("instep.storage.Stored.first", first)
    start = np.random.default_rng(15).standard_normal(1000).astype(np.float32)
    for gradient in (dtype, FLOAT32):
        opt = instep.Adam({"W": store(start, dtype)}, lr=0.01, **options)
        model = Model(opt, first=first)
        for t in range(2):
            g = store(start * t, gradient)
            model.step(g)
            opt.step({"W": g})
        assert_like_model(model)
    strided = np.zeros((100, 20), dtype)[:, ::2]
    opt = instep.Adam({"W": strided}, lr=0.01, **options)
    with pytest.raises(ValueError, match=r"has 2\*\*32 elements or more"):
        opt.step({"W": np.zeros((100, 10), dtype)})


def test_own_rules_take_storages() -> None:
    @instep.rule
    def own(p: Any, g: Any, m: Any, *, lr: float = 0.1, beta: float = 0.9) -> Any:
        m = beta * m + g
        return p - lr * m, m

    rng = np.random.default_rng(10)
    for dtype, options in COMBINATIONS.values():
        start = rng.standard_normal(700).astype(np.float32)
        ours, theirs = store(start, dtype), store(start, dtype)
        one = own({"W": ours}, **options)
        other = instep.SGD({"W": theirs}, lr=0.1, momentum=0.9, **options)
        for _ in range(3):
            g = store(rng.standard_normal(700).astype(np.float32), dtype)
            one.step({"W": g})
            other.step({"W": g})
        assert ours.tobytes() == theirs.tobytes()


# What is kept, copied and refused


def test_the_state_shows_what_there_is() -> None:
    W = np.ones((2, 3), BFLOAT16)
    opt = instep.Adam({"W": W}, master="split", state_dtype="bfloat16")
    dtypes = {key: str(array.dtype) for key, array in opt.state["W"].items()}
    assert dtypes == {"m": "bfloat16", "v": "bfloat16", "p_low": "int16"}
    assert {key: str(array.dtype) for key, array in opt.decoded("W").items()} == {
        "p": "float32",
        "m": "float32",
        "v": "float32",
    }
    mixed = {"W": np.ones(2, BFLOAT16), "b": np.ones(2, np.float32), "c": np.ones(2)}
    both = instep.Adam(mixed, master="split")
    assert list(both.state["b"]) == list(both.state["c"]) == ["m", "v"]
    assert list(both.state["W"]) == ["m", "v", "p_low"]
    with pytest.raises(KeyError, match="name is 'V'; wanted one of 'W'"):
        opt.decoded("V")


def test_states_start_as_the_rule_says() -> None:
    W = store(np.full(1000, 1.7, np.float32), BFLOAT16)
    opt = instep.Adagrad({"W": W}, initial_accumulator_value=0.1, state_dtype="bfloat16")
    start = opt.decoded("W")[next(iter(opt.state["W"]))]
    assert len(np.unique(start)) == 2
    assert abs(start.mean(dtype=float) - 0.1) < 2e-5
    free = instep.AdamWScheduleFree({"W": W}, state_dtype="bfloat16")
    assert (free.decoded("W")["z"] == load(W)).all()
    W = store(np.full(5, -0.0, np.float32), BFLOAT16)
    free = instep.AdamWScheduleFree({"W": W}, state_dtype="bfloat16")
    assert free.state["W"]["z"].tobytes() == W.tobytes()


@pytest.mark.parametrize("name", EVERY)
def test_a_run_that_is_saved_and_goes_on_never_stopped(name: str, tmp_path: Path) -> None:
    dtype, options = EVERY[name]
    rng = np.random.default_rng(13)
    start = rng.standard_normal((20, 35)).astype(np.float32)
    grads = [store(rng.standard_normal((20, 35)).astype(np.float32), dtype) for _ in range(6)]

    def make(seed: int) -> tuple[Array, instep.Optimizer]:
        W = store(start, dtype)
        return W, instep.NAdam({"W": W}, lr=0.01, seed=seed, **options)

    W, opt = make(5)
    for g in grads:
        opt.step({"W": g})
    straight = W.tobytes(), state_bytes(opt)
    W, opt = make(5)
    for g in grads[:3]:
        opt.step({"W": g})
    opt.save(tmp_path / "run", params=True)
    saved, kept = opt.state_dict(), W.copy()
    others = [copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))]
    for way in ("file", "dict", 0, 1):
        if isinstance(way, int):
            opt = others[way]
            W = opt.param_groups[0]["params"]["W"]
        else:
            W, opt = make(6)
            opt.step({"W": grads[5]})
            if way == "file":
                opt.load(tmp_path / "run")
            else:
                opt.load_state_dict(saved)
                W[...] = kept
        for g in grads[3:]:
            opt.step({"W": g})
        assert (W.tobytes(), state_bytes(opt)) == straight, way


def test_states_of_another_storage_are_refused() -> None:
    def make(**options: Any) -> instep.Optimizer:
        return instep.Adam({"W": np.ones(3, BFLOAT16)}, **options)

    saved = make(master="split").state_dict()
    assert (saved["format"], saved["storage"]) == (
        2,
        {"master": "split", "state_dtype": "float32", "bits": None, "seed": 0},
    )
    with pytest.raises(ValueError, match=r"storage\['master'\] is 'split'; wanted None"):
        make().load_state_dict(saved)
    with pytest.raises(ValueError, match=r"storage\['state_dtype'\] is 'float32'"):
        make(master="split", state_dtype="bfloat16").load_state_dict(saved)
    for seed, error in ((-1, ValueError), (2**64, ValueError), ("a", TypeError), (0.5, TypeError)):
        bad = {**saved, "storage": {**saved["storage"], "seed": seed}}
        with pytest.raises(error, match=r"storage\['seed'\] is"):
            make(master="split").load_state_dict(bad)
    with pytest.raises(ValueError, match="storage lacks 'seed'"):
        make(master="split").load_state_dict(
            {**saved, "storage": {"master": "split", "state_dtype": "float32", "bits": None}}
        )


def test_format_1_loads() -> None:
    opt = instep.Adam({"W": np.ones(3, np.float32)}, seed=4)
    opt.step({"W": np.ones(3, np.float32)})
    saved = opt.state_dict()
    del saved["storage"]
    saved["format"] = 1
    other = instep.Adam({"W": np.ones(3, np.float32)}, seed=4)
    other.load_state_dict(saved)
    assert other.t == 1
    assert other._stepper.seed == 4
    stored = instep.Adam({"W": np.ones(3, BFLOAT16)})
    stored.load_state_dict(saved)
    assert (stored.state["W"]["m"] == opt.state["W"]["m"]).all()
    with pytest.raises(ValueError, match="state_dtype"):
        instep.Adam({"W": np.ones(3, BFLOAT16)}, state_dtype="bfloat16").load_state_dict(saved)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_states_go_to_torch_and_back(name: str) -> None:
    dtype, options = COMBINATIONS[name]
    rng = np.random.default_rng(16)
    start = rng.standard_normal(100).astype(np.float32)
    W, other = store(start, dtype), store(start, dtype)
    opt = instep.Adam({"W": W}, eps_mode="outside", **options)
    for _ in range(3):
        opt.step({"W": store(start, dtype)})
    saved = instep.interop.to_torch_state_dict(opt)
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    decoded = opt.decoded("W")
    for theirs, ours in (("exp_avg", "m"), ("exp_avg_sq", "v")):
        assert_same_bits(saved["state"][0][theirs], decoded[ours])
    back = instep.Adam({"W": other}, eps_mode="outside", **options)
    instep.interop.from_torch_state_dict(back, saved)
    assert back.t == 3
    for state in ("m", "v"):
        assert_same_bits(back.decoded("W")[state], decoded[state])
    # As torch has them after steps in bfloat16: exact in states of either kind.
    bits = store(start, UINT16)
    for given in (bits, bits.view(BFLOAT16)):
        saved["state"][0] |= {"exp_avg": given, "exp_avg_sq": given}
        instep.interop.from_torch_state_dict(back, saved)
        assert_same_bits(back.decoded("W")["v"], load(bits))
    saved["state"][0] |= {"exp_avg": start}
    if "state_dtype" in options:
        with pytest.raises(TypeError, match="has dtype float32; wanted"):
            instep.interop.from_torch_state_dict(back, saved)
    else:
        instep.interop.from_torch_state_dict(back, saved)
        assert_same_bits(back.decoded("W")["m"], start)
    instep.interop.from_torch_state_dict(back, {**saved, "state": {}})
    assert not back.decoded("W")["m"].any()


def test_a_state_may_not_be_named_as_what_master_keeps() -> None:
    @instep.rule
    def own(p: Any, g: Any, p_low: Any, *, lr: float = 0.1) -> Any:
        p_low = p_low + g
        return p - lr * p_low, p_low

    own({"W": np.ones(3, BFLOAT16)})
    with pytest.raises(ValueError, match="a state named 'p_low', which master uses too"):
        own({"W": np.ones(3, BFLOAT16)}, master="split")


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        ("f4", {"master": "split"}, "master is 'split', and no parameter has 16 bits"),
        ("f8", {"state_dtype": "bfloat16"}, 'W"] has dtype float64 with master=None'),
        ("f2", {"state_dtype": "bfloat16"}, 'W"] has dtype float16 with master=None'),
        ("f2", {"master": "split"}, "W\"] has dtype float16 with master='split'"),
        (BFLOAT16, {"master": "float32"}, "W\"] has dtype bfloat16 with master='float32'"),
        ("u2", {}, 'W"] has dtype uint16; wanted float32 or float64'),
        ("f2", {}, 'W"] has dtype float16; wanted float32 or float64'),
        ("f4", {"master": "kahan"}, "master is 'kahan'; wanted one of None, 'split', 'float32'"),
        ("f4", {"state_dtype": "4bit"}, "state_dtype is '4bit'; wanted one of 'float32', "),
        ("f4", {"bits": "float8"}, "bits is 'float8'; wanted one of None, 'bfloat16'"),
        ("f4", {"seed": -1}, "seed is -1; wanted 0 or more"),
        ("f4", {"seed": 2**64}, "seed is 18446744073709551616; wanted less than 2**64"),
        (
            "f2",
            {"average": 0.9, "master": "float32"},
            'W"] has dtype float16, and average was given',
        ),
    ],
    ids=str,
)
def test_what_is_not_built_is_refused(dtype: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        instep.Adam({"W": np.ones(3, dtype)}, **options)
    assert message in str(caught.value)
    if "with master" in message:
        assert 'bfloat16 parameters, master="split"' in str(caught.value)


def test_arrays_of_other_dtypes_are_refused() -> None:
    W = np.ones(3, BFLOAT16)
    opt = instep.Adam({"W": W})
    before = W.tobytes()
    for dtype in ("f8", "f2", "u2", "i2", "i8"):
        with pytest.raises(TypeError, match=r"W.* has dtype .*; wanted bfloat16 or float32, as"):
            opt.step({"W": np.ones(3, dtype)})
    assert W.tobytes() == before
    assert opt.t == 0
    plain = instep.Adam({"W": np.ones(3, np.float32)})
    with pytest.raises(TypeError, match="has dtype bfloat16; wanted float32 or float64"):
        plain.step({"W": np.ones(3, BFLOAT16)})


def test_ml_dtypes_is_imported_only_for_its_arrays() -> None:
    code = """
import sys
sys.modules["ml_dtypes"] = None
import numpy as np, instep
instep.Adam(np.ones(3, np.float32)).step(np.ones(3, np.float32))
p = np.zeros(3, np.uint16)
opt = instep.Adam(p, bits="bfloat16", state_dtype="bfloat16")
opt.step(np.ones(3, np.float32))
assert opt.state["params"]["m"].dtype == np.uint16
try:
    instep.Adam(np.ones(3, np.float32), state_dtype="bfloat16")
except ImportError as error:
    assert "pip install 'instep[bfloat16]'" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_uint16_is_bfloat16_to_the_bit() -> None:
    rng = np.random.default_rng(12)
    start = rng.standard_normal(500).astype(np.float32)
    found = []
    kinds: list[Combination] = [(BFLOAT16, {}), (UINT16, {"bits": "bfloat16"})]
    for dtype, options in kinds:
        W = store(start, dtype)
        opt = instep.Adam({"W": W}, state_dtype="bfloat16", **options)
        opt.step({"W": store(start, dtype)})
        found.append([W.tobytes(), *(array.tobytes() for array in opt.state["W"].values())])
    assert found[0] == found[1]
