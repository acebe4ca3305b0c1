"""`instep.sklearn` against scikit-learn itself: whole models, to the bit, and who did the steps."""

import copy
import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import instep.sklearn
import joblib
import numpy as np
import pytest
import scipy.sparse
from bits import Array, assert_same_bits
from instep.sklearn import accelerate, patch, patched, step_counts, unpatch
from sklearn import neural_network
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import _stochastic_optimizers as optimizers
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

Kind: TypeAlias = type[Any]

DTYPES = [np.float32, np.float64]
PAIRS = [
    (neural_network.MLPClassifier, instep.sklearn.MLPClassifier),
    (neural_network.MLPRegressor, instep.sklearn.MLPRegressor),
]

# A few epochs are no failure to converge.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"beta_1": 0.83, "beta_2": 0.97, "epsilon": 3e-6, "learning_rate_init": 0.013},
    "adam, betas of 0": {"beta_1": 0, "beta_2": 0.0, "epsilon": 1e-3, "learning_rate_init": 1e-2},
    "adam, early stopping": {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 2},
    "nesterov": {"solver": "sgd", "momentum": 0.83, "learning_rate_init": 0.03},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.7},
    "momentum 0": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1},
    "momentum 1": {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
    "no nesterov, 1": {"solver": "sgd", "momentum": 1, "nesterovs_momentum": False},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "adaptive": {
        **{"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5},
        **{"n_iter_no_change": 1, "max_iter": 30, "tol": 0.01},
    },
    "sgd, early stopping": {"solver": "sgd", "early_stopping": True, "max_iter": 20},
}


@pytest.fixture(autouse=True)
def nothing_stays_patched() -> Iterator[None]:
    yield
    unpatch()
    assert not is_patched()


def is_patched() -> bool:
    return any("_optimizer" in vars(kind) for kind in neural_network.MLPClassifier.__mro__)


def data(kind: Kind, dtype: Any = np.float64, samples: int = 90) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    X = rng.standard_normal((samples, 11))
    y = X @ rng.standard_normal((11, 3))
    X = X.astype(dtype)
    return (X, y.argmax(axis=1)) if "Classifier" in kind.__name__ else (X, y.astype(dtype))


def model(kind: Kind, **options: Any) -> Any:
    options = {"hidden_layer_sizes": (13, 7), "batch_size": 16, "max_iter": 6, **options}
    return kind(random_state=3, **options)


def assert_same(ours: Any, theirs: Any, what: str = "model") -> None:
    """Fail if two models differ in anything that they keep, the optimizer's state included."""
    if isinstance(theirs, np.ndarray):
        if theirs.dtype.kind == "f":
            assert_same_bits(ours, theirs, what)
        else:
            np.testing.assert_array_equal(ours, theirs, what)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), what
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{what}[{index}]")
    elif isinstance(theirs, np.random.RandomState):
        assert_same(ours.get_state(), theirs.get_state(), what)
    elif hasattr(theirs, "__dict__"):
        assert vars(ours).keys() == vars(theirs).keys(), what
        for name, value in vars(theirs).items():
            assert_same(vars(ours)[name], value, f"{what}.{name}")
    else:
        assert type(ours) is type(theirs), what
        assert ours == theirs or ours != ours, what


class Counted:
    """How many steps were done within a block, and by whom."""

    def __enter__(self) -> "Counted":
        self._before = step_counts()
        return self

    def __exit__(self, *_: object) -> None:
        after = step_counts()
        self.native, self.host = (b - a for a, b in zip(self._before, after, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_every_solver_to_the_bit(host: Kind, kind: Kind, options: Any, dtype: type) -> None:
    X, y = data(kind, dtype)
    theirs = model(host, **options).fit(X, y)
    batches = -(-len(X) * (9 if options.get("early_stopping") else 10) // 10 // 16)
    with Counted() as subclassed:
        ours = model(kind, **options).fit(X, y)
    with patched(), Counted() as counted:
        of_patch = model(host, **options).fit(X, y)
    for fitted, count in ((ours, subclassed), (of_patch, counted)):
        assert_same(fitted, theirs)
        assert {array.dtype for array in fitted.coefs_} == {np.dtype(dtype)}
        assert count.host == 0
        assert count.native == batches * theirs.n_iter_ > 0
    if options.get("learning_rate") == "adaptive":
        assert theirs._optimizer.learning_rate < 0.2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("case", ["sparse", "weights", "weights, early", "fortran", "one batch"])
@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_what_fit_takes(host: Kind, kind: Kind, case: str, solver: str, dtype: type) -> None:
    X, y = data(kind, dtype)
    options: dict[str, Any] = {"solver": solver}
    given: dict[str, Any] = {}
    if case == "sparse":
        X[X < 0.5] = 0
        X = scipy.sparse.csr_matrix(X)
    elif case == "fortran":
        X = np.asfortranarray(X)
    elif case == "one batch":
        options["batch_size"] = 90
    else:
        given["sample_weight"] = np.random.default_rng(1).random(len(y)).astype(dtype) + dtype(0.5)
        options["early_stopping"] = "early" in case
    theirs = model(host, **options).fit(X, y, **given)
    with Counted() as counted:
        ours = model(kind, **options).fit(X, y, **given)
    assert_same(ours, theirs)
    assert counted.native > 0
    assert counted.host == 0


@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_weights_of_float64_promote_float32(host: Kind, kind: Kind) -> None:
    X, y = data(kind, np.float32)
    weights = np.linspace(0.5, 2, len(y))
    theirs = model(host).fit(X, y, sample_weight=weights)
    with Counted() as counted:
        ours = model(kind).fit(X, y, sample_weight=weights)
    assert_same(ours, theirs)
    assert (counted.native, counted.host) == (0, 36)


def after_partial_fits(estimator: Any, X: Array, y: Array, times: int = 3) -> Any:
    classes = {"classes": np.unique(y)} if "Classifier" in type(estimator).__name__ else {}
    for _ in range(times):
        estimator.partial_fit(X, y, **classes)
    return estimator


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(("host", "kind"), PAIRS)
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_a_model_goes_on(how: str, host: Kind, kind: Kind, solver: str, dtype: type) -> None:
    X, y = data(kind, dtype)
    options = {"solver": solver, "warm_start": how == "warm_start", "max_iter": 3}
    pair = model(kind, **options), model(host, **options)
    with Counted() as counted:
        for estimator in pair:
            if how == "partial_fit":
                after_partial_fits(estimator, X, y)
            else:
                estimator.fit(X, y).fit(X[::-1], y[::-1])
    assert_same(*pair)
    assert (counted.native, counted.host) == (18 if how == "partial_fit" else 36, 0)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("first", DTYPES)
@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_where_the_formula_promotes_the_host_steps(
    host: Kind, kind: Kind, first: type, solver: str
) -> None:
    """Then all goes on as it would there, and natively again when the dtypes agree."""
    X, y = data(kind, first)
    other = X.astype(np.float64 if first is np.float32 else np.float32)
    pair = model(kind, solver=solver), model(host, solver=solver)
    with Counted() as counted:
        for estimator in pair:
            after_partial_fits(estimator, X, y, 1)
    assert (counted.native, counted.host) == (6, 0)
    with Counted() as counted:
        for estimator in pair:
            after_partial_fits(estimator, other, y, 2)
            after_partial_fits(estimator, X, y, 1)
    assert_same(*pair)
    # Parameters of float64 make float64 of a gradient for float32 data.
    assert (counted.host > 0) is (first is np.float32)
    assert counted.native + counted.host == 18


@pytest.mark.parametrize(
    "options",
    [
        {"beta_1": np.float64(0.8)},
        {"beta_2": np.float32(0.8)},
        {"epsilon": np.float64(1e-3)},
        {"learning_rate_init": np.float32(0.01)},
        {"solver": "sgd", "momentum": np.float64(0.8)},
        {"solver": "sgd", "momentum": np.float32(0.8)},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": np.float64(0.5)},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_that_are_numpy_s(options: dict[str, Any], dtype: type) -> None:
    """In float32 they make float64 of what the host computes."""
    (host, kind), *_ = PAIRS
    X, y = data(kind, dtype)
    theirs = model(host, **options).fit(X, y)
    with Counted() as counted:
        ours = model(kind, **options).fit(X, y)
    assert_same(ours, theirs)
    by_numpy = [value for value in options.values() if isinstance(value, np.generic)]
    if dtype is np.float64 and type(by_numpy[0]) is np.float64:
        assert counted.host == 0
    assert counted.native + counted.host == 36


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("solver", "jobs"), [("adam", 1), ("sgd", 1), ("adam", 2)])
def test_grid_search(solver: str, jobs: int, dtype: type) -> None:
    (host, kind), *_ = PAIRS
    X, y = data(kind, dtype)
    grid = {"alpha": [1e-4, 1e-1], "batch_size": [8, 32]}
    searches = [
        GridSearchCV(
            model(one, solver=solver, max_iter=2),
            grid,
            scoring=score_and_steps,
            refit="score",
            cv=2,
            n_jobs=n_jobs,
            error_score="raise",
        ).fit(X, y)
        for one, n_jobs in ((kind, jobs), (host, 1))
    ]
    assert_same(*(search.best_estimator_ for search in searches))
    ours, theirs = (search.cv_results_ for search in searches)
    assert_same(ours["mean_test_score"], theirs["mean_test_score"])
    assert (ours["mean_test_steps"] > 0).all()


def score_and_steps(estimator: Any, X: Array, y: Array) -> dict[str, float]:
    """The steps are those of the process that scores: a worker."""
    return {"score": estimator.score(X, y), "steps": step_counts().native}


@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_threads(host: Kind, kind: Kind) -> None:
    X, y = data(kind)
    theirs = model(host).fit(X, y)
    for one in (kind, host):
        with patched(), Counted() as counted:
            fitted = joblib.Parallel(n_jobs=4, backend="threading")(
                joblib.delayed(quietly_fit)(model(one), X, y) for _ in range(8)
            )
        for ours in fitted:
            assert_same(ours, theirs)
        assert (counted.native, counted.host) == (8 * 36, 0)


def quietly_fit(estimator: Any, X: Array, y: Array) -> Any:
    return estimator.fit(X, y)


def by_pickle(estimator: Any, folder: Path) -> Any:
    return pickle.loads(pickle.dumps(estimator))


def by_joblib(estimator: Any, folder: Path) -> Any:
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_deepcopy(estimator: Any, folder: Path) -> Any:
    return copy.deepcopy(estimator)


@pytest.mark.parametrize("copied", [by_pickle, by_joblib, by_deepcopy])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_a_copy_goes_on_like_the_original(
    host: Kind,
    kind: Kind,
    solver: str,
    dtype: type,
    copied: Callable[[Any, Path], Any],
    tmp_path: Path,
) -> None:
    X, y = data(kind, dtype)
    theirs = after_partial_fits(model(host, solver=solver), X, y)
    ours = after_partial_fits(model(kind, solver=solver), X, y)
    copies = [copied(ours, tmp_path)]
    assert type(copies[0]) is kind
    with patched():
        copies.append(copied(after_partial_fits(model(host, solver=solver), X, y), tmp_path))
        with Counted() as counted:
            for one in (*copies, ours):
                after_partial_fits(one, X, y)
    assert (counted.native, counted.host) == (3 * 18, 0)
    after_partial_fits(theirs, X, y)
    for one in (*copies, ours):
        assert_same(one, theirs)


def test_a_clone_starts_anew() -> None:
    (host, kind), *_ = PAIRS
    X, y = data(kind)
    ours = clone(model(kind).fit(X, y))
    assert not hasattr(ours, "_optimizer")
    assert_same(ours.fit(X, y), model(host).fit(X, y))


def test_read_only_arrays_are_refused_as_by_the_host(tmp_path: Path) -> None:
    """joblib maps a file's arrays into memory."""
    X, y = data(neural_network.MLPRegressor)
    errors = []
    for kind in (instep.sklearn.MLPRegressor, neural_network.MLPRegressor):
        joblib.dump(model(kind).partial_fit(X, y), tmp_path / "model")
        mapped = joblib.load(tmp_path / "model", mmap_mode="r")
        with pytest.raises(ValueError, match="read-only") as raised:
            mapped.partial_fit(X, y)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_the_optimizer_holds_no_parameters_and_is_the_host_s(solver: str) -> None:
    X, y = data(neural_network.MLPRegressor)
    with patched():
        fitted = model(neural_network.MLPRegressor, solver=solver).fit(X, y)
        assert isinstance(fitted._optimizer, optimizers.BaseOptimizer)
    kept = vars(fitted)["_optimizer"]
    assert type(kept).__module__ == "sklearn.neural_network._stochastic_optimizers"
    arrays = [array for value in vars(kept).values() if type(value) is list for array in value]
    assert len(arrays) == (12 if solver == "adam" else 6)
    for array in arrays:
        assert not any(np.may_share_memory(array, p) for p in fitted.coefs_ + fitted.intercepts_)


def test_what_is_assigned_to_the_optimizer_stays() -> None:
    X, y = data(neural_network.MLPRegressor)
    pair = [
        model(kind, solver="sgd").partial_fit(X, y)
        for kind in (instep.sklearn.MLPRegressor, neural_network.MLPRegressor)
    ]
    for one in pair:
        one._optimizer.learning_rate = 0.02
        one.partial_fit(X, y)
        assert one._optimizer.learning_rate == 0.02
    assert_same(*pair)
    del pair[0]._optimizer
    with pytest.raises(AttributeError, match="'MLPRegressor' object has no attribute '_optimizer'"):
        _ = pair[0]._optimizer


def test_an_optimizer_of_someone_else_s_is_left_alone() -> None:
    class Frozen(optimizers.SGDOptimizer):  # type: ignore[misc]
        def update_params(self, params: list[Array], grads: list[Array]) -> None:
            pass

    X, y = data(neural_network.MLPRegressor)
    ours = model(instep.sklearn.MLPRegressor).partial_fit(X, y)
    ours._optimizer = Frozen(ours.coefs_ + ours.intercepts_)
    before = copy.deepcopy(ours.coefs_)
    ours.partial_fit(X, y)
    assert_same(ours.coefs_, before)


PICKLE = """
import pickle, sys
sys.modules["instep"] = None
estimator, X, y = pickle.load(sys.stdin.buffer)
estimator.partial_fit(X, y)
sys.stdout.buffer.write(pickle.dumps(estimator))
"""


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_patched_estimator_s_pickle_needs_no_instep(solver: str) -> None:
    X, y = data(neural_network.MLPRegressor)
    with patched(), Counted() as counted:
        ours = model(neural_network.MLPRegressor, solver=solver).partial_fit(X, y)
        pickled = pickle.dumps((ours, X, y))
    assert counted.native == 6
    assert b"instep" not in pickled
    done = subprocess.run(
        [sys.executable, "-c", PICKLE], input=pickled, capture_output=True, check=True
    )
    theirs = model(neural_network.MLPRegressor, solver=solver)
    assert_same(pickle.loads(done.stdout), theirs.partial_fit(X, y).partial_fit(X, y))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_accelerate_one_that_has_begun(host: Kind, kind: Kind, solver: str) -> None:
    X, y = data(kind)
    begun = after_partial_fits(model(host, solver=solver), X, y)
    assert accelerate(begun) is begun
    assert type(begun) is kind
    with Counted() as counted:
        after_partial_fits(begun, X, y)
    assert (counted.native, counted.host) == (18, 0)
    assert_same(begun, after_partial_fits(model(host, solver=solver), X, y, 6))
    assert accelerate(begun) is begun
    assert type(begun) is kind


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), neural_network.MLPRegressor()),
        type("Own", (neural_network.MLPRegressor,), {})(),
        neural_network.MLPRegressor,
        None,
    ],
)
def test_accelerate_refuses_what_it_does_not_know(estimator: Any) -> None:
    with pytest.raises(TypeError, match=r"^estimator is .*; wanted scikit-learn's MLPClassifier"):
        accelerate(estimator)


def test_patch_and_unpatch() -> None:
    X, y = data(neural_network.MLPRegressor)
    own = type("Own", (neural_network.MLPRegressor,), {})
    estimator, of_subclass = model(neural_network.MLPRegressor), model(own)
    wanted = []
    for change, native in ((None, 0), (patch, 6), (patch, 6), (unpatch, 0), (unpatch, 0)):
        if change:
            change()
        for one in (estimator, of_subclass):
            with Counted() as counted:
                one.partial_fit(X, y)
            assert (counted.native, counted.host) == (native, 0)
        wanted.append(native)
    theirs = model(neural_network.MLPRegressor)
    assert_same(estimator, after_partial_fits(theirs, X, y, len(wanted)))
    assert_same(of_subclass, theirs)


def test_blocks_are_nested_and_overlap() -> None:
    with patched():
        with patched():
            assert is_patched()
            patch()
            unpatch()
            assert is_patched()
        assert is_patched()
        patch()
    assert is_patched()
    with patched():
        assert is_patched()
    assert is_patched()
    unpatch()
    assert not is_patched()
    with pytest.raises(ZeroDivisionError), patched():
        _ = 1 / 0
    assert not is_patched()

    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with patched():
            inside.set()
            assert done.wait(60)

    with patched():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(60)
    assert is_patched()
    done.set()
    thread.join()
    assert not is_patched()


def test_lbfgs_is_the_host_s() -> None:
    X, y = data(neural_network.MLPRegressor)
    pair = [model(kind, solver="lbfgs").fit(X, y) for kind in PAIRS[1]]
    assert_same(pair[1], pair[0])


@pytest.mark.parametrize(("host", "kind"), PAIRS)
def test_estimator_checks_as_the_host(host: Kind, kind: Kind) -> None:
    outcomes = []
    for one in (host, kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = check_estimator(one(max_iter=20), on_skip=None, on_fail=None)
        outcomes.append([(str(check["check_name"]), check["status"]) for check in done])
    assert outcomes[0] == outcomes[1]
    assert {status for _, status in outcomes[1]} <= {"passed", "skipped"}


@pytest.mark.parametrize("how", ["subclass", "patch"])
def test_the_host_s_own_tests(how: str) -> None:
    """As `make sklearn-host` runs them."""
    command = [sys.executable, "-m", "tests.sklearn_host", how, "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    native, host = map(int, re.findall(r"^(\d+) steps by instep, (\d+) by", done.stdout, re.M)[0])
    assert native > 10 * host > 0
