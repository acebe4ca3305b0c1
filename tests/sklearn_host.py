"""Run scikit-learn's own tests of its perceptrons with instep's classes, or with its patch.

    python -m tests.sklearn_host subclass
    python -m tests.sklearn_host patch -k adam

What follows goes to pytest.
"""

import importlib
import os
import sys
from unittest.mock import patch

import instep.sklearn
import pytest
from sklearn import neural_network
from sklearn.neural_network import _stochastic_optimizers

TESTS = "sklearn.neural_network.tests."


class Plugin:
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = instep.sklearn.step_counts()
        terminalreporter.write_line(f"{counts.native} steps by instep, {counts.host} by the host")


def main(how: str, *options: str) -> int:
    if how == "patch":
        instep.sklearn.patch()
    elif how == "subclass":
        # Before the tests import them.
        for name in ("MLPClassifier", "MLPRegressor"):
            setattr(neural_network, name, getattr(instep.sklearn, name))
    else:
        raise SystemExit(f"{how} is neither subclass nor patch")
    # The tests of the optimizers make them by themselves: there, and nowhere else, they are ours.
    ours = {name: getattr(instep.sklearn, name) for name in ("AdamOptimizer", "SGDOptimizer")}
    with patch.multiple(_stochastic_optimizers, **ours):
        importlib.import_module(f"{TESTS}test_stochastic_optimizers")
    # Settings of this repository are not for them.
    arguments = ["-q", "-c", os.devnull, "--rootdir", os.sep, "--pyargs"]
    arguments += [f"{TESTS}test_mlp", f"{TESTS}test_stochastic_optimizers", *options]
    return pytest.main(arguments, [Plugin()])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
