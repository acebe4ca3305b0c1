"""Optimizers in 16 bits whose states are in files, against the same in memory."""

from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from instep.disk import Streamed
from mixed_params import Params, drawn
from stored_steps import COMBINATIONS, FLOAT16, store
from test_sharded_storage import make_grads, make_stored, trust


def with_wide_ones(dtype: Any, options: dict[str, Any]) -> Params:
    """Return parameters of which some are float32 or float64: they share chunks with the others."""
    wide = {"float32": drawn(6, (3, 5)), "float64": drawn(7, (9, 5), np.float64)}
    if "state_dtype" in options:
        # Which states of float64 don't have.
        del wide["float64"]
    return {**make_stored(dtype), **wide, "b2": store(drawn(8, (11,)), dtype)}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_16_bits_have_those_of_memory(name: str, tmp_path: Path) -> None:
    dtype, options = COMBINATIONS[name]
    more: dict[str, Any] = {} if dtype == FLOAT16 else {"average": 0.5}
    rules: list[tuple[Any, dict[str, Any]]] = [
        (instep.Adagrad, {"initial_accumulator_value": 0.1, **more}),
        (instep.AdamW, {"weight_decay": 0.1, "seed": 2**40 + 1}),
    ]
    if "master" not in options:
        rules.append((trust, {}))
    for number, (rule, own_options) in enumerate(rules):
        own_options |= options
        own, theirs = with_wide_ones(dtype, options), with_wide_ones(dtype, options)
        one = rule(own, lr=0.01, **own_options)
        how: dict[str, Any] = {"folder": tmp_path / f"{number}", "lr": 0.01, **own_options}
        two = Streamed(rule, theirs, chunk=1 if number else 1 << 20, **how)
        for step in range(3):
            if step == 1:
                two.close()
                theirs = {n: np.zeros_like(p) for n, p in own.items()}
                theirs["strided"] = with_wide_ones(dtype, options)["strided"]
                two = Streamed(rule, theirs, **how)
            grads = {**make_grads(dtype, 0, step), "b2": drawn(step, (11,))}
            for key in {"float32", "float64"} & own.keys():
                grads[key] = np.sin(step + own[key])
            asked: dict[str, Any] = {"max_norm": 1.0} if step else {}
            assert two.step(grads, **asked) == one.step(grads, **asked)
        state = two.state
        for key, array in own.items():
            assert_same_bits(theirs[key], array, key)
            assert state[key].keys() == one.state[key].keys()
            for which, whole in one.state[key].items():
                assert state[key][which].dtype == whole.dtype
                assert_same_bits(np.asarray(state[key][which]), whole, f"{key} {which}")
        if one.average is not None:
            for key, average in two.averages.items():
                assert_same_bits(np.asarray(average), one.averages[key], key)
            with one.averaged(), two.averaged():
                for key, array in own.items():
                    assert_same_bits(theirs[key], array, key)
            for key, array in own.items():
                assert_same_bits(theirs[key], array, key)
        two.close()


def test_files_have_as_many_bytes_as_their_numbers(tmp_path: Path) -> None:
    """No file is as wide as the widest."""
    params = {"W": np.zeros(1 << 20, np.uint16)}
    options: dict[str, Any] = {"bits": "bfloat16", "state_dtype": "bfloat16", "master": "split"}
    with Streamed(instep.Adam, params, folder=tmp_path, **options):
        sizes = {path.stat().st_size for path in tmp_path.glob("*.[01]")}
    assert len(list(tmp_path.glob("*.[01]"))) == 8
    assert sizes == {2 << 20}


def test_norms_of_numbers_in_the_folder_are_refused(tmp_path: Path) -> None:
    params = {"W": np.ones(5, np.float16)}
    with Streamed(trust, params, folder=tmp_path, master="float32") as opt:
        with pytest.raises(TypeError, match="the rule asks for norms of parameters"):
            opt.step({"W": np.ones(5, np.float16)})
        assert (params["W"] == 1).all()
