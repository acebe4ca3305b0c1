"""States in 8 bits: blocks of codes with an exponent each, to the bit as `instep.codecs` says."""

import math
from pathlib import Path
from typing import Any

import instep
import instep.interop
import numpy as np
import pytest
from bits import LAYOUTS, Array, assert_same_bits
from instep import codecs
from instep.disk import Streamed
from levels import LEVELS, use_level
from optimizer_model import CODED_RULES, MODES, mode_name
from stored_steps import (
    BFLOAT16,
    CODED,
    FLOAT16,
    FLOAT32,
    Model,
    assert_like_model,
    assert_only_rows_are_stepped,
    assert_threads_change_no_bit,
    load,
    state_bytes,
    store,
)

HARD = np.array(
    [
        *(0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x3F700000, 0x3F700001),
        *(0x3F6FFFFF, 0x3F808001, 0x7F6FFFFF, 0xFF700000, 0x7F700001, 0x7F800000, 0xFFC00001),
        0x00100000,
    ],
    np.uint32,
).view(np.float32)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have all steps use the instructions of one level."""
    return use_level(request.param, monkeypatch)


def numbers(rng: np.random.Generator, shape: Any, hard: float = 0.003) -> Array:
    """Return numbers of many sizes, and now and then some that are hard."""
    sizes = np.exp2(rng.integers(-30, 3, shape))
    found: Array = np.asarray(rng.standard_normal(shape) * sizes, np.float32)
    places = rng.random(shape) < hard
    found[places] = rng.choice(HARD, places.sum())
    return found


# The codecs


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_the_formula_in_integers(signed: bool) -> None:
    rng = np.random.default_rng(0)
    span, most = (15, 127) if signed else (31, 255)
    for n in (0, 1, 255, 256, 257, 700):
        x = numbers(rng, n, 0.05)
        random = rng.integers(0, 2**32, n, np.uint32)
        codes, exponents = codecs.to_codes(x, random, signed=signed)
        back = codecs.from_codes(codes, exponents, signed=signed)
        assert codes.dtype == exponents.dtype == np.uint8
        assert len(exponents) == math.ceil(n / 256)
        bits = [int(each) for each in x.view(np.uint32)]
        for i in range(n):
            block = [each % 2**31 for each in bits[i // 256 * 256 : i // 256 * 256 + 256]]
            E = min((max(block) + 0xFFFFF) >> 23, 255)
            assert exponents[i // 256] == E
            q = (bits[i] % 2**31 - (E - span) * 2**23 + (int(random[i]) >> 12)) >> 20
            q = min(max(q, 0), most)
            if signed:
                assert codes[i] == q + 128 * (bits[i] >> 31)
            else:
                q = max(q, bits[i] % 2**31 != 0)
                assert codes[i] == q
            if E == 255:
                assert np.isnan(back[i])
                continue
            # A float of 3 bits of fraction, unless it is too small for one of float32.
            exponent = E - span + q // 8
            magnitude = math.ldexp(1 + q % 8 / 8, exponent - 127) if q else 0.0
            if exponent > 0:
                assert abs(back[i]) == magnitude
            assert math.copysign(1, back[i]) == (-1 if signed and bits[i] >> 31 else 1)


@pytest.mark.parametrize("signed", [True, False])
def test_what_was_decoded_is_stored_as_it_is(signed: bool) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, 5000).astype(np.uint8)
    exponents = rng.integers(40, 250, 20).astype(np.uint8)
    # So that each block has its largest.
    codes[::256] = 0x7F if signed else 0xFF
    x = codecs.from_codes(codes, exponents, signed=signed)
    random = rng.integers(0, 2**32, 5000, np.uint32)
    again, others = codecs.to_codes(x, random, signed=signed)
    assert (again == codes).all()
    assert (others == exponents).all()


def test_the_mean_of_many_roundings_is_the_number() -> None:
    count = 100_096
    x = np.full(count, 0.0371, np.float32)
    x[::256] = 1.7
    for signed in (True, False):
        random = codecs.noise(3, 1, codecs.stream("W", 2), np.arange(count))
        codes, exponents = codecs.to_codes(x, random, signed=signed)
        back = np.delete(codecs.from_codes(codes, exponents, signed=signed), slice(None, None, 256))
        values = np.unique(back).astype(float)
        assert len(values) == 2
        assert abs(back.mean(dtype=float) - 0.0371) < 2.5 * np.ptp(values) / math.sqrt(count)


def test_no_square_becomes_zero_and_blocks_with_nan_are_nan() -> None:
    x = np.full(600, 1e-30, np.float32)
    x[[0, 300]] = 1.0, np.inf
    codes, exponents = codecs.to_codes(x, np.zeros(600, np.uint32), signed=False)
    back = codecs.from_codes(codes, exponents, signed=False)
    assert (back[:256] > 0).all()
    assert np.isnan(back[256:512]).all()
    assert (back[512:] > 0).all()


# Steps


@pytest.mark.parametrize("name", CODED)
def test_every_recipe_has_the_bits_of_the_mirror(name: str, level: str) -> None:
    dtype, options = CODED[name]
    rng = np.random.default_rng(3)
    lengths = [0, 1, 31, 255, 256, 257, 513, 600]
    done = 0
    for number, (rule, mode) in enumerate(MODES):
        W = store(numbers(rng, lengths[number % len(lengths)]), dtype)
        around = {"maximize": number % 3 == 0, "weight_decay": 0.03 * (number % 2)}
        if rule.__name__ not in CODED_RULES or mode.get("centered"):
            with pytest.raises(TypeError, match=r"state_dtype is '8bit', which .* does not"):
                rule({"W": W}, **mode, **options)
            continue
        opt = rule({"W": W}, **{**mode, **around}, **options, seed=number)
        model = Model(opt)
        done += 1
        for _ in range(2):
            g = store(numbers(rng, W.size), dtype)
            model.step(g, scale=0.7)
            opt.step({"W": g}, grad_scale=0.7)
            try:
                assert_like_model(model)
            except AssertionError as error:
                raise AssertionError(f"{mode_name(rule, mode)}, {W.size}: {error}") from None
    assert done > 20


def test_the_exponent_of_a_block_is_the_least_that_its_largest_number_has(level: str) -> None:
    """The largest code is of 0x...700000: what is above might round up to what has none."""
    edges = np.array([0x3F6FFFFF, 0x3F700000, 0x3F700001, 0x3FF00000, 0x3FF00001], np.uint32)
    g = np.full(5 * 256, 0.01, np.float32)
    g[100::256] = edges.view(np.float32)
    # Its states are the gradient itself, after one step.
    opt = instep.Adamax({"W": np.zeros_like(g)}, betas=(0.0, 0.999), state_dtype="8bit")
    model = Model(opt)
    model.step(g)
    opt.step({"W": g})
    assert_like_model(model)
    for state in ("m_scale", "u_scale"):
        assert opt.state["W"][state].tolist() == [126, 126, 127, 127, 128]


@pytest.mark.parametrize("name", CODED)
def test_every_length_has_the_bits_of_the_mirror(name: str) -> None:
    dtype, options = CODED[name]
    rng = np.random.default_rng(4)
    lengths = [*range(0, 601, 7), 255, 256, 257, 511, 512, 513]
    params = {f"p{n}": store(numbers(rng, n), dtype) for n in lengths}
    opt = instep.AdamW(params, lr=0.01, seed=2**64 - 1, **options)
    models = {key: Model(opt, key) for key in params}
    for _ in range(2):
        grads = {key: store(numbers(rng, p.size), dtype) for key, p in params.items()}
        for key, model in models.items():
            model.step(grads[key])
        opt.step(grads)
        for model in models.values():
            assert_like_model(model)


@pytest.mark.parametrize("name", ["codes", "split and codes"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_threads_change_no_bit(name: str, order: Any) -> None:
    dtype, options = CODED[name]
    start = np.random.default_rng(5).standard_normal((1001, 300)).astype(np.float32)
    counts = (1, 2, 3, 4) if order == "C" else (1, 3)
    assert_threads_change_no_bit(start, dtype, options, counts, order=order)


@pytest.mark.parametrize("name", CODED)
def test_layouts_change_no_bit(name: str) -> None:
    dtype, options = CODED[name]
    rng = np.random.default_rng(6)
    for shape in ((7, 5), (3, 65, 4), (129, 3), (2, 1, 300)):
        start = numbers(rng, shape)
        grads = [numbers(rng, shape) for _ in range(2)]
        found = []
        for number, layout in enumerate(LAYOUTS):
            W = layout(shape, dtype)
            W[...] = store(start, dtype)
            opt = instep.Adam({"W": W}, lr=0.01, weight_decay=0.1, **options)
            model = Model(opt)
            for t, numbers_of_g in enumerate(grads):
                g = LAYOUTS[(number + t) % len(LAYOUTS)](shape, dtype)
                g[...] = store(numbers_of_g, dtype)
                model.step(g)
                opt.step({"W": g})
            assert_like_model(model)
            assert opt.state["W"]["m"].flags.c_contiguous
            found.append(state_bytes(opt))
        assert all(each == found[0] for each in found)


@pytest.mark.parametrize("name", CODED)
def test_options_around_a_step(name: str) -> None:
    dtype, options = CODED[name]
    rng = np.random.default_rng(7)
    n = 1000
    W = store(rng.standard_normal(n).astype(np.float32), dtype)
    averaged: dict[str, Any] = {} if dtype == FLOAT16 else {"average": 0.75}
    opt = instep.SGD({"W": W}, lr=0.1, momentum=0.9, weight_decay=0.02, **averaged, **options)
    model = Model(opt)
    average = np.copy(model.p)
    for kind in (dtype, FLOAT32):
        for max_norm, max_value in ((None, 0.5), (0.9, None), (None, None)):
            g = store(rng.standard_normal(n).astype(np.float32), kind)
            norm = instep.reference.gradient_norm(load(g)) * 0.5
            factor = 1.0 if max_norm is None else min(1.0, max_norm / (norm + 1e-6))
            model.step(g, scale=0.5 * factor, max_value=max_value)
            result = opt.step({"W": g}, grad_scale=0.5, max_norm=max_norm, max_value=max_value)
            assert result.grad_norm == (None if max_norm is None else norm)
            assert_like_model(model)
            average = instep.reference.average(average, model.before_storing, decay=0.75)
            if averaged:
                assert_same_bits(opt.averages["W"], average)
    g = store(np.full(n, np.nan, np.float32), dtype)
    g[1:] = 0
    before, states = W.tobytes(), state_bytes(opt)
    opt.zero_grads = True
    assert opt.step({"W": g}, nonfinite="skip").skipped
    assert (W.tobytes(), state_bytes(opt)) == (before, states)
    assert not g.view(np.uint8).any()
    if averaged:
        with opt.averaged():
            assert W.tobytes() != before
        assert W.tobytes() == before


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_whole_blocks_are_stepped_and_no_others(name: str, order: Any) -> None:
    assert_only_rows_are_stepped(*CODED[name], (9, 2, 256), order=order)


def test_rows_of_parts_of_blocks_are_refused() -> None:
    W = np.ones((9, 40), np.float32)
    opt = instep.Adam({"W": W}, state_dtype="8bit")
    with pytest.raises(ValueError, match=r"grads.*Rows of 40 elements, and states in 8 bits have"):
        opt.step({"W": instep.Rows(np.array([1]), np.ones((1, 40), np.float32))})
    assert (W == 1).all()
    assert opt.t == 0


# What is kept, copied and refused


def test_the_state_shows_what_there_is() -> None:
    W = np.asfortranarray(np.ones((20, 30), BFLOAT16))
    opt = instep.Adam({"W": W}, master="split", state_dtype="8bit", amsgrad=True)
    opt.step({"W": W.copy()})
    found = {key: (str(array.dtype), array.shape) for key, array in opt.state["W"].items()}
    assert found == {
        "m": ("uint8", (20, 30)),
        "v": ("uint8", (20, 30)),
        "v_max": ("uint8", (20, 30)),
        "p_low": ("int16", (20, 30)),
        "m_scale": ("uint8", (3,)),
        "v_scale": ("uint8", (3,)),
        "v_max_scale": ("uint8", (3,)),
    }
    decoded = opt.decoded("W")
    assert {key: array.dtype for key, array in decoded.items()} == dict.fromkeys(
        ("p", "m", "v", "v_max"), np.float32
    )
    assert (decoded["v"] > 0).all()


def test_a_part_of_an_array_has_the_bits_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(14)
    start = rng.standard_normal((40, 128)).astype(np.float32)

    def run(first: int, rows: slice) -> list[Array]:
        monkeypatch.setattr("instep.storage.Stored.first", first)
        W = start[rows].copy()
        opt = instep.Adam({"W": W}, state_dtype="8bit")
        for t in range(3):
            opt.step({"W": start[rows] * t})
        return list(opt.decoded("W").values())

    parts = [run(128 * at, slice(at, to)) for at, to in ((0, 6), (6, 40))]
    for whole, *pieces in zip(run(0, slice(40)), *parts, strict=True):
        assert_same_bits(np.concatenate(pieces), whole)
    with pytest.raises(ValueError, match=r"the storage is .* which does not exist"):
        run(128, slice(1, 40))
    # On after 2**32 places, where these start anew.
    monkeypatch.setattr("instep.storage.Stored.first", 2**32 - 512)
    opt = instep.Adam({"W": start.copy()}, state_dtype="8bit")
    model = Model(opt, first=2**32 - 512)
    for t in range(2):
        model.step(start * t)
        opt.step({"W": start * t})
    assert_like_model(model)


def test_what_is_not_built_is_refused() -> None:
    W = np.ones(3, np.float32)

    @instep.rule
    def lion(p: Any, g: Any, m: Any, *, lr: float = 0.1) -> Any:
        m = m + g
        return p - lr * m, m

    for make in (lion, instep.Adagrad, instep.Adan):
        with pytest.raises(TypeError, match=r"state_dtype is '8bit', which \w+ does not have"):
            make({"W": W}, state_dtype="8bit")
    with pytest.raises(TypeError, match='any of those of 32 or 16 bits, state_dtype="8bit"'):
        instep.Adam({"W": np.ones(3)}, state_dtype="8bit")
    opt = instep.Adam({"W": W}, state_dtype="8bit", eps_mode="outside")
    with pytest.raises(TypeError, match="states in 8 bits, which torch does not"):
        instep.interop.to_torch_state_dict(opt)
    with pytest.raises(ValueError, match=r"storage\['state_dtype'\] is '8bit'; wanted 'float32'"):
        instep.Adam({"W": W}, eps_mode="outside").load_state_dict(opt.state_dict())


@pytest.mark.parametrize("which", ["m", "m_scale"])
def test_arrays_that_changed_are_refused(which: str) -> None:
    W = np.ones(700, np.float32)
    opt = instep.Adam({"W": W}, state_dtype="8bit")
    opt.step({"W": W.copy()})
    before = W.tobytes()
    opt.state["W"][which].flags.writeable = False
    with pytest.raises(ValueError, match=rf'state\["W"\]\["{which}"\] is '):
        opt.step({"W": W.copy()})
    assert (W.tobytes(), opt.t) == (before, 1)


def test_exponents_that_a_gradient_has_are_refused() -> None:
    params = {"W": np.ones(256 * 40, np.float32), "b": np.ones(10, np.float32)}
    opt = instep.Adam(params, state_dtype="8bit")
    grads = {"W": params["W"].copy(), "b": np.ones(10, np.float32)}
    opt.step(grads)
    before = state_bytes(opt)
    grads["b"] = opt.state["W"]["m_scale"].view(np.float32)
    with pytest.raises(ValueError, match=r"shares memory with"):
        opt.step(grads)
    assert (state_bytes(opt), opt.t) == (before, 1)


def test_parts_are_refused(tmp_path: Path) -> None:
    params = {"W": np.ones(300, np.float32)}
    with pytest.raises(TypeError, match="state_dtype is '8bit', which is not built for states in"):
        Streamed(instep.Adam, params, folder=tmp_path / "run", state_dtype="8bit")
    Streamed(instep.Adam, params, folder=tmp_path / "run").close()
