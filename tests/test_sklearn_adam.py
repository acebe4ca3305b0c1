"""`eps_mode="hat_wide"` against scikit-learn's own Adam, to the bit."""

import instep
import numpy as np
import pytest
from bits import Array, assert_same_bits
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_adam_of_scikit_learn(dtype: type) -> None:
    """In float32 its rate, a NumPy scalar, makes float64 of the last part of a step."""
    rng = np.random.default_rng(0)
    params: list[Array] = [rng.standard_normal(shape).astype(dtype) for shape in ((37, 21), (21,))]
    theirs = [p.copy() for p in params]
    numbers = {"beta_1": 0.83, "beta_2": 0.97, "epsilon": 3e-6}
    sklearn = AdamOptimizer(theirs, learning_rate_init=0.013, **numbers)
    opt = instep.Adam(params, lr=0.013, betas=(0.83, 0.97), eps=3e-6, eps_mode="hat_wide")
    for step in range(300):
        grads: list[Array] = [
            (rng.standard_normal(p.shape) * 10.0 ** rng.integers(-6, 2, p.shape)).astype(dtype)
            for p in params
        ]
        sklearn.update_params(theirs, grads)
        opt.step(grads)
        states = {"m": sklearn.ms, "v": sklearn.vs}
        for i, p in enumerate(params):
            assert_same_bits(p, theirs[i], f"parameter {i}, step {step}")
            for name, arrays in states.items():
                assert_same_bits(opt.state[str(i)][name], arrays[i], f"{name} {i}, step {step}")


def test_the_wide_step_is_another_one_in_float32() -> None:
    """If the two modes did not differ, the test above would show nothing."""
    rng = np.random.default_rng(1)
    g = rng.standard_normal(10_000).astype(np.float32)
    params = [np.zeros_like(g), np.zeros_like(g)]
    for p, mode in zip(params, ("hat", "hat_wide"), strict=True):
        opt = instep.Adam(p, lr=0.013, eps_mode=mode)  # type: ignore[arg-type]
        for _ in range(5):
            opt.step(g)
    assert (params[0] != params[1]).mean() > 0.05
