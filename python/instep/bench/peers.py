"""Other libraries' Adam, an adapter each. A library is imported when its adapter is made."""

import math
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from instep.bench.contestants import BETA1, BETA2, EPS, LR, Arrays, Contestant, joined, listed

__all__ = ["PEERS", "JaxOptax", "NumExpr", "Numba", "Thinc", "TorchForeach", "TorchFused"]

Array = NDArray[Any]


class Torch(Contestant):
    """`torch.optim.Adam` on tensors that lie in the arrays' own memory.

    Written after torch's documentation, and tried with a stand-in only.
    """

    packages = ("torch",)
    takes_lists = True
    eps_mode = "outside"
    options: ClassVar[dict[str, bool]]

    def __init__(self, p: Arrays, g: Arrays, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.p = [torch.from_numpy(array).requires_grad_() for array in listed(p)]
        for tensor, gradient in zip(self.p, listed(g), strict=True):
            tensor.grad = torch.from_numpy(gradient)
        self.opt = torch.optim.Adam(self.p, lr=LR, betas=(BETA1, BETA2), eps=EPS, **self.options)

    def step(self) -> None:
        self.opt.step()

    def arrays(self) -> tuple[Array, Array, Array]:
        states = [self.opt.state[tensor] for tensor in self.p]
        p = joined([tensor.detach().numpy() for tensor in self.p])
        m, v = (joined([s[name].numpy() for s in states]) for name in ("exp_avg", "exp_avg_sq"))
        return p, m, v


class TorchFused(Torch):
    """One pass over each tensor."""

    name = "torch, fused"
    options: ClassVar = {"fused": True}


class TorchForeach(Torch):
    """One pass over all tensors for each operation."""

    name = "torch, foreach"
    options: ClassVar = {"foreach": True}


class Compiled(Contestant):
    """For code that takes numbers: counts steps, and rounds the numbers to the dtype."""

    eps_mode = "scaled"

    def __init__(self, p: Array, g: Array, threads: int) -> None:
        self.p, self.g, self.m, self.v = p, g, np.zeros_like(p), np.zeros_like(p)
        self.t = 0

    def numbers(self) -> tuple[Any, ...]:
        """Return ``beta1, 1 - beta1, beta2, 1 - beta2, a, eps`` of the next step."""
        self.t += 1
        root = math.sqrt(1 - BETA2**self.t)
        a = LR * root / (1 - BETA1**self.t)
        numbers = (BETA1, 1 - BETA1, BETA2, 1 - BETA2, a, EPS * root)
        return tuple(map(self.p.dtype.type, numbers))

    def arrays(self) -> tuple[Array, Array, Array]:
        return self.p, self.m, self.v


@cache
def _by_numba(parallel: bool) -> Any:
    """Compile the loop."""
    import numba

    indices = numba.prange if parallel else range

    # Without NumPy's rules for a division by zero there is a branch, and no packed code.
    @numba.njit(parallel=parallel, fastmath=False, error_model="numpy")  # type: ignore[untyped-decorator]
    def adam(
        p: Any, g: Any, m: Any, v: Any, b1: Any, r1: Any, b2: Any, r2: Any, a: Any, eps: Any
    ) -> None:
        for i in indices(p.size):
            m[i] = b1 * m[i] + r1 * g[i]
            v[i] = b2 * v[i] + r2 * (g[i] * g[i])
            p[i] -= a * m[i] / (np.sqrt(v[i]) + eps)

    return adam


class Numba(Compiled):
    """A loop that numba compiles: for one thread without its parallel loops."""

    name = "numba"
    packages = ("numba",)

    def __init__(self, p: Array, g: Array, threads: int) -> None:
        import numba

        super().__init__(p, g, threads)
        if threads > 1:
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        self.adam = _by_numba(threads > 1)

    def step(self) -> None:
        self.adam(self.p, self.g, self.m, self.v, *self.numbers())


class NumExpr(Compiled):
    """An expression for each array, computed block by block, in place."""

    name = "numexpr"
    packages = ("numexpr",)

    def __init__(self, p: Array, g: Array, threads: int) -> None:
        import numexpr

        super().__init__(p, g, threads)
        numexpr.set_num_threads(threads)
        self.evaluate = numexpr.evaluate

    def step(self) -> None:
        p, g, m, v = self.p, self.g, self.m, self.v
        b1, r1, b2, r2, a, eps = self.numbers()
        names = {"p": p, "g": g, "m": m, "v": v}
        self.evaluate("b1*m + r1*g", {**names, "b1": b1, "r1": r1}, {}, out=m)
        self.evaluate("b2*v + r2*(g*g)", {**names, "b2": b2, "r2": r2}, {}, out=v)
        self.evaluate("p - a*m/(sqrt(v) + eps)", {**names, "a": a, "eps": eps}, {}, out=p)


class JaxOptax(Contestant):
    """`optax.adam` compiled as one function, which is given the memory of its arguments."""

    name = "JAX, optax"
    packages = ("jax", "optax")
    needs_all_threads = True
    takes_lists = True
    eps_mode = "outside"

    def __init__(self, p: Arrays, g: Arrays, threads: int) -> None:
        import jax
        import optax

        jax.config.update("jax_enable_x64", True)
        cpu = jax.devices("cpu")[0]
        rule = optax.adam(LR, BETA1, BETA2, EPS)

        def update(p: Any, state: Any, g: Any) -> Any:
            updates, state = rule.update(g, state, p)
            return optax.apply_updates(p, updates), state

        # Copies: an array of JAX's own can be given away, one that lies in NumPy's memory can't.
        copied = [[jax.numpy.array(a, copy=True) for a in listed(arrays)] for arrays in (p, g)]
        self.p, self.g = jax.device_put(copied, cpu)
        self.state = jax.device_put(rule.init(self.p), cpu)
        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.wait = jax.block_until_ready

    def step(self) -> None:
        self.p, self.state = self.wait(self.update(self.p, self.state, self.g))

    def arrays(self) -> tuple[Array, Array, Array]:
        moments = self.state[0]
        lists = (self.p, moments.mu, moments.nu)
        p, m, v = (joined([np.asarray(a) for a in arrays]) for arrays in lists)
        return p, m, v


class Thinc(Contestant):
    """`NumpyOps.adam`: float32, and on one thread always.

    A step clears the gradient, which is therefore filled anew before each, with the clock stopped.
    """

    name = "Thinc"
    packages = ("thinc",)
    dtypes = ("float32",)
    prepares = True
    eps_mode = "hat"

    def __init__(self, p: Array, g: Array, threads: int) -> None:
        from thinc.api import NumpyOps

        self.p, self.g, self.m, self.v = p, g, np.zeros_like(p), np.zeros_like(p)
        self.kept = g.copy()
        self.adam = NumpyOps().adam
        self.t = 0

    def step(self) -> None:
        self.t += 1
        a = LR * math.sqrt(1 - BETA2**self.t) / (1 - BETA1**self.t)
        self.adam(self.p, self.g, self.m, self.v, BETA1, BETA2, EPS, a)

    def arrays(self) -> tuple[Array, Array, Array]:
        return self.p, self.m, self.v

    def prepare(self) -> None:
        np.copyto(self.g, self.kept)


PEERS: tuple[type[Contestant], ...] = (TorchFused, TorchForeach, Numba, NumExpr, JaxOptax, Thinc)
