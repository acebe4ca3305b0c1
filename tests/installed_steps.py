"""Steps of the course with the installed package, which needs NumPy alone, against the formulas.

Run as it is, on every platform that has a wheel: it prints the version of NumPy.
"""

import sys

import instep
import numpy as np

SHAPES = {"W1": (64, 65), "b1": (64, 1), "W2": (3, 64), "b2": (3, 1)}


def bits(arrays: dict[str, np.ndarray]) -> list[bytes]:
    return [array.tobytes() for array in arrays.values()]


def check(f: type[np.floating]) -> None:
    """Compare Adam with its formula, to the bit, and take a step of each other rule."""
    rng = np.random.default_rng(0)

    def draw() -> dict[str, np.ndarray]:
        return {key: rng.standard_normal(shape).astype(f) for key, shape in SHAPES.items()}

    parameters = draw()
    wanted = {key: p.copy() for key, p in parameters.items()}
    v, s = instep.initialize_adam(parameters)
    m = {key: np.zeros_like(p) for key, p in parameters.items()}
    q = {key: np.zeros_like(p) for key, p in parameters.items()}
    for t in range(1, 6):
        g = draw()
        grads = {"d" + key: array for key, array in g.items()}
        instep.update_parameters_with_adam(parameters, grads, v, s, t)
        c1, c2 = f(1 - np.power(0.9, t)), f(1 - np.power(0.999, t))
        for k in wanted:
            m[k] = f(0.9) * m[k] + f(1 - 0.9) * g[k]
            q[k] = f(0.999) * q[k] + f(1 - 0.999) * (g[k] * g[k])
            wanted[k] = wanted[k] - (f(0.01) * (m[k] / c1)) / np.sqrt(q[k] / c2 + f(1e-8))
    assert bits(parameters) == bits(wanted)
    assert bits(v) == bits(m)
    assert bits(s) == bits(q)
    parameters, _ = instep.update_parameters_with_momentum(parameters, grads, v, 0.9, 0.01)
    parameters, _ = instep.update_parameters_with_rmsprop(parameters, grads, s)
    parameters = instep.update_parameters_with_gd(parameters, grads, 0.01)
    assert all(p.dtype == f and np.isfinite(p).all() for p in parameters.values())


if __name__ == "__main__":
    for dtype in (np.float32, np.float64):
        check(dtype)
    sys.stdout.write(f"numpy {np.__version__}\n")
