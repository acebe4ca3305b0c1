"""The rules of scikit-learn's perceptrons: its own optimizers, and those of `instep.sklearn`."""

from types import ModuleType
from typing import Any

from sklearn.neural_network import _stochastic_optimizers

from instep import sklearn as instep_sklearn
from instep.course import Arrays
from instep.demo.training import Rule, State

__all__ = ["RULES"]


def _of_sklearn(name: str, optimizer: str, **options: Any) -> Rule:
    """Return a rule with one call for lists of all parameters and gradients."""

    def initialize(code: ModuleType, parameters: Arrays) -> State:
        return {"optimizer": getattr(code, optimizer)(list(parameters.values()), **options)}

    def update(code: ModuleType, parameters: Arrays, grads: Arrays, t: int, optimizer: Any) -> Any:
        of_params = [grads["d" + key] for key in parameters]
        optimizer.update_params(list(parameters.values()), of_params)
        return parameters, optimizer

    return Rule(name, initialize, update, (_stochastic_optimizers, instep_sklearn))


RULES = (
    _of_sklearn("sgd", "SGDOptimizer", learning_rate_init=0.1, momentum=0.0, nesterov=False),
    _of_sklearn("momentum", "SGDOptimizer", learning_rate_init=0.03, nesterov=False),
    _of_sklearn("nesterov", "SGDOptimizer", learning_rate_init=0.03),
    _of_sklearn("adam", "AdamOptimizer"),
)
