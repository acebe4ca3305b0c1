"""What ranks of MPI do in `test_mpi.py`: `mpiexec -n 2 python tests/mpi_steps.py NAME`."""

import functools
import os
import signal
import sys
from typing import Any

import instep
import numpy as np
import pytest
from instep.mpi import Sharded
from mpi4py import MPI

COMM = MPI.COMM_WORLD
PIECE = 32_768

Params = dict[str, np.ndarray]


def params() -> Params:
    random = np.random.default_rng(0)
    return {
        "W": random.standard_normal((500, 700)).astype(np.float32),
        "b": random.standard_normal(11).astype(np.float32),
        "V": np.asfortranarray(random.standard_normal((300, 401))),
        "strided": random.standard_normal((200, 2, 1000)).astype(np.float32)[:, 1, ::2],
    }


def grads(rank: int, step: int) -> Params:
    random = np.random.default_rng((rank, step))
    return {n: random.standard_normal(p.shape).astype(p.dtype) for n, p in params().items()}


def same_bits() -> None:
    """Compare with one process that sums the gradients of all ranks in their order."""
    asked: list[dict[str, Any]] = [
        {},
        {"max_norm": 1.0, "grad_scale": 1 / COMM.size},
        {"max_array_norm": 0.5},
    ]
    for options in asked:
        for bucket_bytes in (PIECE, 1 << 20, 16 << 20):
            own, wanted = params(), params()
            opt = Sharded(instep.AdamW, own, bucket_bytes=bucket_bytes, lr=0.01, average=0.9)
            one = instep.AdamW(wanted, lr=0.01, average=0.9)
            for step in range(3):
                result = opt.step(grads(COMM.rank, step), **options)
                every = [grads(rank, step) for rank in range(COMM.size)]
                summed = {n: functools.reduce(np.add, [g[n] for g in every]) for n in own}
                assert one.step(summed, **options) == result
            for name, array in own.items():
                assert array.tobytes() == wanted[name].tobytes(), name
                axes = (1, 0) if name == "V" else tuple(range(array.ndim))
                start, stop = opt.owned[name]
                for state, whole in one.state[name].items():
                    flat = whole.transpose(axes).reshape(-1)[start:stop]
                    assert opt.state[name][state].tobytes() == flat.tobytes(), (name, state)


def halves() -> None:
    """Compare 16 bits with one process, also of a group that is added, and a file of all ranks."""
    random = np.random.default_rng(1)
    numbers = [random.standard_normal(shape) for shape in ((300, 401), (70_000,))]
    first, second = ((x * 2**10).astype(np.uint16).T for x in numbers)
    options: dict[str, Any] = {"bits": "bfloat16", "state_dtype": "bfloat16", "seed": 5}

    def given(rank: int, step: int) -> list[Any]:
        random = np.random.default_rng((rank, step))
        arrays = (first, second)[: 1 + (step > 1)]
        return [random.standard_normal(a.shape).astype(np.float32) for a in arrays]

    own, wanted = ([first.copy("K"), second.copy()] for _ in range(2))
    opt = Sharded(instep.Adam, [{"params": own[0]}], bucket_bytes=PIECE, **options)
    one = instep.Adam([{"params": wanted[0]}], **options)
    for step in range(4):
        if step == 2:
            opt.add_param_group({"params": own[1], "lr": 0.1})
            one.add_param_group({"params": wanted[1], "lr": 0.1})
        every = [given(rank, step) for rank in range(COMM.size)]
        result = opt.step(given(COMM.rank, step), max_norm=1.0)
        assert (
            one.step([functools.reduce(np.add, g) for g in zip(*every, strict=True)], max_norm=1.0)
            == result
        )
    for array, other in zip(own, wanted, strict=True):
        assert array.tobytes() == other.tobytes()
    opt.save(sys.argv[2], params=True)
    COMM.Barrier()
    two = [np.zeros_like(array) for array in own]
    again = instep.Adam([{"params": array} for array in two], **options)
    again.param_groups[1]["lr"] = 0.1
    again.load(sys.argv[2])
    for name, states in one.state.items():
        for state, array in states.items():
            assert again.state[name][state].tobytes() == array.tobytes(), (name, state)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(two, own, strict=True))


def errors() -> None:
    """Have each rank be wrong in turn."""
    own = params()
    opt = Sharded(instep.Adam, own)
    before = {name: array.tobytes() for name, array in own.items()}
    for bad in range(COMM.size):
        given = grads(COMM.rank, 0)
        if COMM.rank == bad:
            given["W"] = given["W"].astype(np.float64)
        with pytest.raises(TypeError, match=f"rank {bad}: "):
            opt.step(given)
        given = grads(COMM.rank, 0)
        if COMM.rank == bad:
            given["V"][0, 0] = np.nan
        with pytest.raises(FloatingPointError, match=f"rank {bad}: "):
            opt.step(given, nonfinite="raise")
        assert opt.step(given, nonfinite="skip").skipped
    assert opt.t == 0
    assert all(own[name].tobytes() == bits for name, bits in before.items())


def killed() -> None:
    """Have the last rank die in the middle of a step."""
    opt = Sharded(instep.Adam, params(), bucket_bytes=PIECE)
    opt.step(grads(COMM.rank, 0))
    if COMM.rank == COMM.size - 1:
        received = opt.comm.all_to_all

        def die(*buffers: object) -> object:
            if buffers[0][0].size > 24:  # type: ignore[index]
                os.kill(os.getpid(), signal.SIGKILL)
            return received(*buffers)  # type: ignore[arg-type]

        opt.comm.all_to_all = die  # type: ignore[assignment]
    opt.step(grads(COMM.rank, 1))
    print("the step was done")


def killed_saving() -> None:
    """Have the last rank die in the middle of a save."""
    opt = Sharded(instep.Adam, params())
    opt.step(grads(COMM.rank, 0))
    opt.save(sys.argv[2], params=True)
    opt.step(grads(COMM.rank, 1))
    if COMM.rank == COMM.size - 1:
        pwrite, calls = os.pwrite, []

        def die(*arguments: Any) -> int:
            calls.append(arguments)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return pwrite(*arguments)

        os.pwrite = die
    opt.save(sys.argv[2], params=True)
    print("all was saved")


def loads() -> None:
    """Go on from the file of `killed_saving`, as two ranks do that were not killed."""
    own = params()
    for array in own.values():
        array[...] = 7
    opt = Sharded(instep.Adam, own)
    opt.load(sys.argv[2])
    wanted = params()
    one = instep.Adam(wanted)
    one.step({n: grads(0, 0)[n] + grads(1, 0)[n] for n in wanted})
    for step in range(1, 4):
        summed = {n: grads(0, step)[n] + grads(1, step)[n] for n in wanted}
        one.step(summed)
        opt.step(summed if COMM.rank == 0 else {n: np.zeros_like(g) for n, g in summed.items()})
    for name, array in own.items():
        assert array.tobytes() == wanted[name].tobytes(), name


def raises() -> None:
    """Have one rank raise outside of a step: `python -m mpi4py` ends them all."""
    if COMM.rank == 0:
        raise ValueError("this rank's own business")
    opt = Sharded(instep.Adam, params())
    opt.step(grads(COMM.rank, 0))


if __name__ == "__main__":
    calls = [same_bits, halves, errors, killed, killed_saving, loads, raises]
    {call.__name__: call for call in calls}[sys.argv[1]]()
    print("done")
