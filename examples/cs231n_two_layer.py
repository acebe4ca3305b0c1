"""CS231n's two-layer network, trained twice: with the course's update rules and with instep's.

The model and the loop of its Solver are as in the course: a dict of parameters, a config for each,
and ``next_w, next_config = update_rule(w, dw, config)``. Only the module of the rules changes. The
data are scikit-learn's digits.

    pip install 'instep[demo]'
    python examples/cs231n_two_layer.py
"""

import sys
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
from instep.course import cs231n
from instep.demo import updates_cs231n
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

Array = NDArray[Any]


class TwoLayerNet:
    """Affine, ReLU, affine, softmax."""

    def __init__(self, inputs: int, hidden: int, classes: int, reg: float = 1e-3) -> None:
        rng = np.random.default_rng(0)
        self.reg = reg
        self.params = {
            "W1": 0.05 * rng.standard_normal((inputs, hidden)),
            "b1": np.zeros(hidden),
            "W2": 0.05 * rng.standard_normal((hidden, classes)),
            "b2": np.zeros(classes),
        }

    def scores(self, X: Array) -> tuple[Array, Array]:
        """Return what the hidden layer makes of the inputs, and the scores."""
        hidden = np.maximum(X @ self.params["W1"] + self.params["b1"], 0)
        return hidden, hidden @ self.params["W2"] + self.params["b2"]

    def loss(self, X: Array, y: Array) -> tuple[float, dict[str, Array]]:
        """Return the loss and the gradients."""
        hidden, scores = self.scores(X)
        scores = scores - scores.max(axis=1, keepdims=True)
        probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        W1, W2 = self.params["W1"], self.params["W2"]
        loss = -np.log(probabilities[rows, y]).mean()
        loss += 0.5 * self.reg * ((W1 * W1).sum() + (W2 * W2).sum())
        probabilities[rows, y] -= 1
        dscores = probabilities / len(y)
        dhidden = dscores @ W2.T * (hidden > 0)
        return float(loss), {
            "W1": X.T @ dhidden + self.reg * W1,
            "b1": dhidden.sum(axis=0),
            "W2": hidden.T @ dscores + self.reg * W2,
            "b2": dscores.sum(axis=0),
        }


class Solver:
    """The course's training loop, in short; it keeps the time that the updates take."""

    def __init__(
        self, model: TwoLayerNet, data: tuple[Array, Array], rules: ModuleType, rule: str
    ) -> None:
        self.model = model
        self.X, self.y = data
        self.update_rule = getattr(rules, rule)
        self.optim_configs: dict[str, dict[str, Any]] = {p: {} for p in model.params}
        self.rng = np.random.default_rng(1)
        self.step_times: list[float] = []

    def step(self) -> float:
        """Do one mini-batch, and return its loss."""
        batch = self.rng.choice(len(self.y), 64)
        loss, grads = self.model.loss(self.X[batch], self.y[batch])
        start = perf_counter()
        for p, w in self.model.params.items():
            next_w, next_config = self.update_rule(w, grads[p], self.optim_configs[p])
            self.model.params[p] = next_w
            self.optim_configs[p] = next_config
        self.step_times.append(perf_counter() - start)
        return loss


def main(steps: int = 150) -> int:
    """Train, and print what came of it; the status is 1 if the two nets differ in a bit."""
    pixels, labels = load_digits(return_X_y=True)
    data = pixels / 16, labels
    status = 0
    for rule in ("sgd", "sgd_momentum", "rmsprop", "adam"):
        course, instep = (
            Solver(TwoLayerNet(64, 512, 10), data, rules, rule)
            for rules in (updates_cs231n, cs231n)
        )
        # Threads of NumPy's matrix products would go on spinning during the updates.
        with threadpool_limits(1):
            for step in range(steps):
                # In turns, so that both see the same machine.
                for solver in (course, instep) if step % 2 else (instep, course):
                    loss = solver.step()
        nets = course.model.params, instep.model.params
        identical = all(nets[0][p].tobytes() == nets[1][p].tobytes() for p in nets[0])
        status = status if identical else 1
        accuracy = (instep.model.scores(data[0])[1].argmax(axis=1) == labels).mean()
        speed_up = np.median(course.step_times) / np.median(instep.step_times)
        print(
            f"{rule:12}  loss {loss:.3f}, accuracy {accuracy:.1%}: updates {speed_up:.1f} times as "
            f"fast, {'bit-for-bit identical' if identical else 'NOT the same bits'}"
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
