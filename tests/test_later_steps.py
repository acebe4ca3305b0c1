"""Steps after the first: what was found of the arrays then is only used while it is so."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import instep
import numpy as np
import pytest
from instep import reference
from numpy.typing import NDArray

# NumPy 2.5 would rather not have it done.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")

Array = NDArray[Any]
LR, BETAS, EPS, DECAY = 0.01, (0.8, 0.95), 1e-6, 0.1


class Run:
    """An optimizer that has done two steps, and the same in NumPy."""

    def __init__(self, dtype: str = "float32", **options: Any) -> None:
        self.generator = np.random.default_rng(5)
        self.dtype = np.dtype(dtype)
        # Arrays of their own memory, so that they can be resized; and in one piece, so that they
        # lie in the order of their names.
        self.p = [self.draw(3, 4), self.draw(7), self.draw(2, 2, 5)]
        self.opt = instep.Adam(
            self.p, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY, eps_mode="hat", **options
        )
        self.model = [[p.copy(), np.zeros_like(p), np.zeros_like(p)] for p in self.p]
        for _ in range(2):
            self.step(self.grads())

    def draw(self, *shape: int) -> Array:
        return self.generator.standard_normal(shape).astype(self.dtype)

    def grads(self) -> list[Any]:
        return [self.draw(*p.shape) for p in self.p]

    def expect(self, grads: list[Any]) -> None:
        t = self.opt.t + 1
        for i, (g, arrays) in enumerate(zip(grads, self.model, strict=True)):
            if g is not None:
                p, m, v = arrays
                p, g = reference.prepare(p, np.array(g), scale=1.0, weight_decay=DECAY, shrink=1.0)
                p, m, v = reference.adam_hat(
                    p,
                    g,
                    m,
                    v,
                    lr=LR,
                    beta1=BETAS[0],
                    beta2=BETAS[1],
                    eps=EPS,
                    beta1_power=BETAS[0] ** t,
                    beta2_power=BETAS[1] ** t,
                )
                self.model[i] = [p, m, v]

    def step(self, grads: list[Any]) -> None:
        self.expect(grads)
        self.opt.step(grads)
        self.check()

    def check(self) -> None:
        for i, (p, m, v) in enumerate(self.model):
            state = self.opt.state[str(i)]
            for has, wanted in ((self.p[i], p), (state["m"], m), (state["v"], v)):
                assert has.tobytes() == wanted.tobytes()

    def refuse(self, grads: list[Any], error: type[Exception], match: str) -> None:
        """A step raises and changes nothing; the next one, with good gradients, works."""
        t = self.opt.t
        with pytest.raises(error, match=match):
            self.opt.step(grads)
        assert self.opt.t == t
        self.check()


@pytest.fixture(params=["float32", "float64"])
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


def strided(g: Array) -> Array:
    wide = np.zeros((*g.shape[:-1], 2 * g.shape[-1]), g.dtype)
    wide[..., ::2] = g
    return wide[..., ::2]


def misaligned(g: Array) -> Array:
    memory = np.zeros(g.nbytes + 1, np.uint8)
    array = memory[1:].view(g.dtype).reshape(g.shape)
    array[...] = g
    return array


ALIKE: dict[str, Callable[[Array], Array]] = {
    "a copy": np.copy,
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "reversed": lambda g: g[..., ::-1].copy()[..., ::-1],
    "misaligned": misaligned,
    "a subclass": lambda g: g.view(np.memmap),
}


@pytest.mark.parametrize("alike", ALIKE)
def test_gradients_of_other_layouts(run: Run, alike: str) -> None:
    for _ in range(2):
        run.step([ALIKE[alike](g) for g in run.grads()])
        run.step(run.grads())


def every(g: Array, k: int) -> Array:
    """Return the same numbers, with others between them."""
    wide = np.full((*g.shape[:-1], k * g.shape[-1]), np.nan, g.dtype)
    wide[..., ::k] = g
    return wide[..., ::k]


def test_gradients_with_other_strides(run: Run) -> None:
    for k in (2, 3, 2, 5):
        run.step([every(g, k) for g in run.grads()])


def test_a_parameter_with_other_strides(run: Run) -> None:
    memory = run.draw(21)
    run.p[1] = memory[:14:2]
    run.opt = instep.Adam(run.p, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY, eps_mode="hat")
    run.model = [[p.copy(), np.zeros_like(p), np.zeros_like(p)] for p in run.p]
    run.step(run.grads())
    run.p[1].strides = (3 * memory.itemsize,)
    run.model[1][0] = memory[::3].copy()
    others = np.arange(21) % 3 != 0
    before = memory[others].copy()
    run.step(run.grads())
    assert memory[others].tobytes() == before.tobytes()


def test_gradients_that_stay_and_gradients_that_move(run: Run) -> None:
    grads = run.grads()
    for i in (0, 1, 2, 0):
        run.step(grads)
        grads[i] = run.draw(*run.p[i].shape)
        run.step(grads)
        grads[i][...] *= 2
        run.step(grads)


def test_one_gradient_for_several_parameters() -> None:
    p = [np.ones(6), np.ones(6)]
    opt = instep.SGD(p, lr=0.5)
    both, other = np.full(6, 0.5), np.full(6, 0.25)
    opt.step([both, other])
    opt.step([both, both])
    opt.step([other, other])
    np.testing.assert_array_equal(p, [np.full(6, 0.375), np.full(6, 0.5)])


@pytest.mark.parametrize("without", [[0], [1], [2], [0, 2], [0, 1, 2]])
def test_gradients_that_are_none_for_a_while(run: Run, without: list[int]) -> None:
    for _ in range(2):
        grads = run.grads()
        for i in without:
            grads[i] = None
        run.step(grads)
        run.step(run.grads())
    # The same number of them, but others.
    run.step([None, *run.grads()[1:]])
    run.step([*run.grads()[:2], None])


@pytest.mark.parametrize("i", range(3))
def test_gradients_that_do_not_fit(run: Run, i: int) -> None:
    good = run.grads()

    def instead(g: Any) -> list[Any]:
        return [*good[:i], g, *good[i + 1 :]]

    other = "float64" if run.dtype == np.float32 else "float32"
    run.refuse(instead(good[i].astype(other)), TypeError, rf"grads\[{i}\] has dtype {other}")
    run.step(good)
    run.refuse(instead(good[i].astype(">f4")), TypeError, rf"grads\[{i}\] has dtype >f4")
    run.step(good)
    run.refuse(instead(good[i].ravel()[:-1]), ValueError, rf"grads\[{i}\] has shape")
    run.step(good)
    run.refuse(instead(good[i][None]), ValueError, rf"grads\[{i}\] has shape \(1, ")
    run.step(good)
    run.refuse(instead(good[i].tolist()), TypeError, rf"grads\[{i}\] is a list")
    run.step(good)
    run.refuse(instead(np.ma.masked_array(good[i])), TypeError, rf"grads\[{i}\] is a .*Masked")
    run.step(good)
    for shared in (run.p[i], run.opt.state[str(i)]["v"]):
        run.refuse(instead(shared), ValueError, "shares memory with")
        run.step(good)


def test_gradients_that_share_a_byte_with_a_parameter() -> None:
    """The first and the last, at both ends, among others that do not."""
    memory = np.zeros(60)
    p = [memory[20:26], memory[30:36]]
    opt = instep.Adam(p)
    opt.step([np.ones(6), np.ones(6)])
    for start in range(54):
        g = memory[start : start + 6]
        if all(abs(start - own) >= 6 for own in (20, 30)):
            opt.step([g, np.ones(6)])
            opt.step([np.ones(6), g])
        else:
            before = memory.copy()
            for grads in ([g, np.ones(6)], [np.ones(6), g]):
                with pytest.raises(ValueError, match="shares memory with"):
                    opt.step(grads)
            np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("i", range(3))
@pytest.mark.parametrize("state", [None, "m", "v"])
def test_an_array_that_was_made_read_only(run: Run, i: int, state: str | None) -> None:
    array = run.p[i] if state is None else run.opt.state[str(i)][state]
    array.flags.writeable = False
    run.refuse(run.grads(), ValueError, "is read-only")
    array.flags.writeable = True
    run.step(run.grads())


@pytest.mark.parametrize("state", [None, "m", "v"])
def test_an_array_of_another_shape(run: Run, state: str | None) -> None:
    array = run.p[0] if state is None else run.opt.state["0"][state]
    for shape in ((4, 3), (12,), (3, 4, 1)):
        array.shape = shape
        run.refuse(run.grads(), ValueError, "has shape")
    array.shape = (3, 4)
    run.step(run.grads())


def test_all_arrays_of_another_shape(run: Run) -> None:
    """No fault, if the gradient has it too."""
    arrays = [run.p[0], *run.opt.state["0"].values()]
    for array in (*arrays, *run.model[0]):
        array.shape = (6, 2)
    run.step(run.grads())
    for array in (*arrays, *run.model[0]):
        array.shape = (3, 4)
    run.step(run.grads())


@pytest.mark.parametrize("state", [None, "m", "v"])
def test_an_array_of_another_dtype(run: Run, state: str | None) -> None:
    array: Any = run.p[1] if state is None else run.opt.state["1"][state]
    array.dtype = np.dtype(f"i{run.dtype.itemsize}")
    run.refuse(run.grads(), TypeError, "has dtype")
    array.dtype = run.dtype
    run.step(run.grads())


@pytest.mark.parametrize("state", [None, "m", "v"])
def test_an_array_that_was_resized(run: Run, state: str | None) -> None:
    array = run.p[1] if state is None else run.opt.state["1"][state]
    array.resize(100_000, refcheck=False)
    grads = run.grads()
    grads[1] = run.draw(7)
    with pytest.raises(ValueError, match="has shape"):
        run.opt.step(grads)
    assert run.opt.t == 2
    # Most likely elsewhere than it was.
    array.resize(7, refcheck=False)
    run.step(run.grads())


def test_an_average_that_was_made_read_only() -> None:
    run = Run(average=0.9)
    run.opt.averages[2].flags.writeable = False
    run.refuse(run.grads(), ValueError, r'averages\["2"\] is read-only')
    run.opt.averages[2].flags.writeable = True
    run.step(run.grads())


def test_gradients_that_are_cleared_from_some_step_on(run: Run) -> None:
    grads = run.grads()
    run.step(grads)
    run.opt.zero_grads = True
    run.step(grads)
    assert not any(g.any() for g in grads)
    run.opt.zero_grads = False
    grads = run.grads()
    run.step(grads)
    assert all(g.all() for g in grads)


def test_gradients_that_are_to_be_cleared_and_can_not() -> None:
    run = Run(zero_grads=True)
    grads = run.grads()
    grads[1].flags.writeable = False
    run.refuse(grads, ValueError, r"grads\[1\] is read-only")
    grads[1].flags.writeable = True
    run.step(grads)
    both = run.draw(27)
    grads = [both[:12].reshape(3, 4), both[11:18], run.draw(2, 2, 5)]
    run.refuse(grads, ValueError, "shares memory with")
    run.step(run.grads())


def test_rows_between_other_steps() -> None:
    table = np.ones((5, 2))
    opt = instep.SGD(table, lr=0.5)
    for _ in range(2):
        opt.step(np.full((5, 2), 0.25))
        opt.step(instep.Rows(np.array([1, 3, 1]), np.full((3, 2), 0.5)))
    wanted = np.full((5, 2), 0.75)
    wanted[1] -= 1.0
    wanted[3] -= 0.5
    np.testing.assert_array_equal(table, wanted)


def test_rows_that_are_cleared_and_share_memory_with_each_other() -> None:
    table, index = np.ones((3000, 4)), np.arange(3000)
    opt = instep.SGD(table, lr=0.5, zero_grads=True)
    opt.step(instep.Rows(index, np.ones((3000, 4))))
    shared = np.lib.stride_tricks.as_strided(np.ones(4), (3000, 4), (0, 8))
    with pytest.raises(ValueError, match="share"):
        opt.step(instep.Rows(index, shared))
    np.testing.assert_array_equal(table, np.full((3000, 4), 0.5))
    opt.step(instep.Rows(index, np.ones((3000, 4))))
    np.testing.assert_array_equal(table, np.zeros((3000, 4)))


def test_rows_that_come_twice_from_the_memory_of_the_parameter() -> None:
    table = np.ones((5, 2))
    opt = instep.SGD(table, lr=0.5)
    opt.step(instep.Rows(np.array([1, 1]), np.ones((2, 2))))
    before = table.copy()
    with pytest.raises(ValueError, match="shares memory with"):
        opt.step(instep.Rows(np.array([2, 2]), table[3:5]))
    np.testing.assert_array_equal(table, before)


def test_a_group_that_is_added(run: Run) -> None:
    p, q = np.ones(4), np.ones(4)
    opt = instep.SGD([{"params": [p]}], lr=0.5)
    opt.step([[np.ones(4)]])
    opt.add_param_group({"params": [q]})
    opt.step([[np.ones(4)], [np.ones(4)]])
    assert (opt.t, p[0], q[0]) == (2, 0.0, 0.5)


def decayed_by(opt: instep.Optimizer, p: Array) -> float:
    """What momentum was, from the steps of a gradient that is 1 once, then 0."""
    opt.t, opt.state["params"]["m"][...] = 0, 1.0
    opt.step(np.zeros_like(p))
    return float(opt.state["params"]["m"][0])


@pytest.mark.parametrize("betas", [[0.5, 0.9], np.array([0.5, 0.9])])
def test_options_that_are_changed_in_place(betas: Any) -> None:
    p = np.ones(3)
    opt = instep.Adam(p, betas=betas)
    for beta1 in (0.5, 0.25, 0.75, 0.75, 0.5):
        betas[0] = beta1
        assert decayed_by(opt, p) == beta1
    opt.param_groups[0]["betas"] = type(betas)(betas) if isinstance(betas, list) else betas.copy()
    assert decayed_by(opt, p) == 0.5
    betas[0] = 0.25
    assert decayed_by(opt, p) == 0.5


def test_options_that_are_replaced_between_steps() -> None:
    p = np.ones(3)
    opt = instep.Adam(p, betas=(0.5, 0.9))
    options = opt.param_groups[0]
    for beta1 in (0.5, 0.25, 0.75, 0.75, 0.5):
        options["betas"] = (beta1, 0.9)
        assert decayed_by(opt, p) == beta1
        for name, bad in (("betas", (1.0, 0.9)), ("eps", -1.0), ("weight_decay", np.nan)):
            good, options[name] = options[name], bad
            for _ in range(2):
                with pytest.raises(ValueError, match=name):
                    opt.step(np.zeros(3))
            options[name] = good
        assert decayed_by(opt, p) == beta1


def test_parameters_that_are_replaced_among_the_options() -> None:
    """The optimizer holds the arrays that it was made with, and says so."""
    p = np.ones(3)
    opt = instep.SGD([p, p.copy()], lr=0.5)
    opt.step([np.ones(3), np.ones(3)])
    kept = opt.param_groups[0]["params"]
    opt.param_groups[0]["params"] = [np.zeros(3), np.zeros(3)]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"param_groups\[0\]\['params'\] was replaced"):
            opt.step([np.ones(3), np.ones(3)])
    opt.param_groups[0]["params"] = kept
    opt.step([np.ones(3), np.ones(3)])
    np.testing.assert_array_equal(p, np.zeros(3))


def test_a_learning_rate_that_steps_the_optimizer() -> None:
    """The inner step is done, the outer is not: it was prepared for another number."""
    p = np.zeros(3)
    opt = instep.SGD(p, lr=0.5)

    def lr(_: int) -> float:
        opt.param_groups[0]["lr"] = 0.5
        opt.step(-np.ones(3))
        return 0.25

    opt.step(-np.ones(3))
    opt.param_groups[0]["lr"] = lr
    with pytest.raises(RuntimeError, match="step 2 was prepared, and step 3 is next"):
        opt.step(-np.ones(3))
    assert opt.t == 2
    assert (p == 1.0).all()
    opt.step(-np.ones(3))
    assert (p == 1.5).all()


def test_a_number_of_steps_that_is_too_large() -> None:
    opt = instep.SGD(np.ones(3))
    opt.t = 2**53 - 1
    for t in (2**53, 2**64, 2**100):
        with pytest.raises(ValueError, match=f"t is {t}; wanted less than {2**53}"):
            opt.t = t
    assert opt.t == 2**53 - 1


class Owned(np.ndarray[Any, Any]):
    owner: instep.Optimizer


def test_an_optimizer_in_a_cycle_is_collected() -> None:
    p = np.ones(3).view(Owned)
    p.owner = instep.Adam([p, np.ones(3)])
    p.owner.step([np.ones(3), np.ones(3)])
    gone = weakref.ref(p)
    del p
    gc.collect()
    assert gone() is None
