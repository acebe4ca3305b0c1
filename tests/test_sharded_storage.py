"""Optimizers in 16 bits whose state is split over ranks, against one process."""

import functools
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from instep.sharded import Sharded
from mixed_params import PIECE, Params, drawn
from ranks import ThreadRank, run
from stored_steps import COMBINATIONS, FLOAT16, FLOAT32, load, store
from test_sharded import in_order

STEPS = 3

P_NORM, G_NORM = instep.norm("p"), instep.norm("g")


@instep.rule
def trust(p, g, m, *, lr=0.1, pn=P_NORM, gn=G_NORM):  # type: ignore[no-untyped-def]
    m = 0.9 * m + g
    return p - lr * pn / (gn + 1.0) * m, m


def make_stored(dtype: Any) -> Params:
    """Return parameters in all orders of memory: places are counted in C order, in all of them."""
    odd = np.zeros(1 + 90 * 100 * dtype.itemsize, np.uint8)[1:].view(dtype)
    params = {
        "W": store(drawn(0, (110, 333)), dtype),
        "b": store(drawn(1, (7,)), dtype),
        "F": np.asfortranarray(store(drawn(2, (200, 201)), dtype)),
        "T": np.ascontiguousarray(store(drawn(3, (30, 40, 31)), dtype).transpose(1, 2, 0)),
        "long": store(drawn(4, (PIECE + 5,)), dtype),
        "strided": np.zeros((50, 2, 3, 300), dtype).transpose(3, 1, 0, 2)[::-1, 1],
        "odd": odd.reshape((90, 100), order="F"),
        "one": store(drawn(6, (1, 1)), dtype),
    }
    params["T"] = params["T"].transpose(2, 0, 1)
    for name in ("strided", "odd"):
        params[name][...] = store(drawn(5, params[name].shape), dtype)
    return params


def make_grads(dtype: Any, rank: int, step: int) -> Params:
    """Return gradients, some of them in float32."""
    kinds = (dtype, FLOAT32)
    return {
        name: np.array(
            store(drawn(1000 * step + 10 * rank + i, p.shape), kinds[(i + step) % 2]), order="F"
        )
        for i, (name, p) in enumerate(make_stored(dtype).items())
    }


def summed(dtype: Any, size: int, step: int) -> Params:
    """Return the sums over the ranks as float32, in their order."""
    every = [make_grads(dtype, rank, step) for rank in range(size)]
    return {n: functools.reduce(np.add, [load(grads[n]) for grads in every]) for n in every[0]}


def alike(array: Array, like: Array, first: int, last: int) -> Array:
    """Return a part of a whole array as a rank has it."""
    return np.ascontiguousarray(in_order(array, like)[first:last])


@pytest.mark.parametrize("name", COMBINATIONS)
def test_16_bits_have_those_of_one_process(name: str, tmp_path: Path) -> None:
    """With files of every number of ranks, which load at another."""
    dtype, options = COMBINATIONS[name]
    asked: list[dict[str, Any]] = [{}, {"max_norm": 1.0}, {"max_array_norm": 0.5, "max_value": 0.1}]
    more: dict[str, Any] = {} if dtype == FLOAT16 else {"average": 0.5}
    # Its states begin with a number that bfloat16 has to round.
    rules: list[tuple[Any, dict[str, Any]]] = [
        (instep.Adagrad, {"initial_accumulator_value": 0.1, **more}),
        (instep.AdamW, {"weight_decay": 0.1, "seed": 2**40 + 1}),
        (trust, {}),
    ]
    for ranks in range(1, 5):
        rule, own_options = rules[ranks % 3]
        own_options |= options
        how: list[dict[str, Any]] = asked
        if rule is trust:
            how = [{}, {"max_norm": 1.0}, {"nonfinite": "skip"}]
        one_params = make_stored(dtype)
        one = rule(one_params, lr=0.01, **own_options)
        path, alone = tmp_path / f"shared{ranks}", tmp_path / f"alone{ranks}"

        def each(comm: ThreadRank, rule: Any = rule, o: Any = own_options, how: Any = how) -> Any:
            params = make_stored(dtype)
            opt = Sharded(rule, params, comm=comm, bucket_bytes=PIECE, lr=0.01, **o)
            results = [opt.step(make_grads(dtype, comm.rank, s), **how[s]) for s in range(STEPS)]
            opt.save(tmp_path / f"shared{comm.size}", params=True)
            kept = opt.state_dict()
            opt.load_state_dict(kept)
            if opt._own.average is not None:
                with opt.averaged():
                    within = {n: p.copy() for n, p in params.items()}
            else:
                within = {}
            return params, opt, results, within

        shares = run(ranks, each)
        wanted = [one.step(summed(dtype, ranks, s), **how[s]) for s in range(STEPS)]
        one.save(alone, params=True)
        assert path.read_bytes() == alone.read_bytes()
        for params, opt, results, within in shares:
            assert results == wanted
            for key, array in one_params.items():
                assert_same_bits(params[key], array, key)
                first, last = opt.owned[key]
                for state, whole in one.state[key].items():
                    part = alike(whole, array, first, last)
                    assert_same_bits(opt.state[key][state], part, f"{key} {state}")
                if one.average is not None:
                    part = alike(one.averages[key], array, first, last)
                    assert_same_bits(opt.averages[key], part, key)
            if within:
                with one.averaged():
                    for key, array in one_params.items():
                        assert_same_bits(within[key], array, key)

        def go_on(
            comm: ThreadRank, rule: Any = rule, o: Any = own_options, path: Any = path
        ) -> Any:
            params = make_stored(dtype)
            opt = Sharded(rule, params, comm=comm, bucket_bytes=1 << 20, lr=0.01, **o)
            opt.load(path)
            zeros = {n: np.zeros(p.shape, np.float32) for n, p in params.items()}
            opt.step(summed(dtype, 2, STEPS) if comm.rank == 0 else zeros)
            return params

        one.step(summed(dtype, 2, STEPS))
        for params in run(1 + ranks % 4, go_on):
            for key, array in one_params.items():
                assert_same_bits(params[key], array, key)


def test_gradients_of_other_dtypes_on_ranks_are_refused() -> None:
    def each(comm: ThreadRank) -> None:
        dtype, options = COMBINATIONS["parameters"]
        params = {"W": np.ones(3, dtype)}
        opt = Sharded(instep.SGD, params, comm=comm, bucket_bytes=1, **options)
        gradient = np.ones(3, np.float32 if comm.rank else dtype)
        said = r'grads\["W"\] differs: \'bfloat16\' on rank 0; \'float32\' on rank 1'
        with pytest.raises(ValueError, match=said):
            opt.step({"W": gradient})
        with pytest.raises(ValueError, match="master differs: None on rank 0; 'split' on rank 1"):
            Sharded(
                instep.SGD,
                {"W": np.ones(3, dtype)},
                comm=comm,
                bucket_bytes=1,
                master="split" if comm.rank else None,
            )

    run(2, each)


@pytest.mark.parametrize("name", ["bits", "parameters", "master"])
def test_what_is_not_finite_is_found_in_16_bits(name: str) -> None:
    dtype, options = COMBINATIONS[name]

    def each(comm: ThreadRank) -> None:
        params = {"W": store(np.ones((3, 5), np.float32), dtype)}
        opt = Sharded(instep.SGD, params, comm=comm, bucket_bytes=1, **options)
        numbers = np.ones((3, 5), np.float32)
        numbers[1, 1] = np.nan if comm.rank == 1 else 1
        with pytest.raises(FloatingPointError, match=r'rank 1: grads\["W"\] has'):
            opt.step({"W": store(numbers, dtype)}, nonfinite="raise")

    run(2, each)
