"""Averages in the place of parameters: whatever happens meanwhile, nothing is lost."""

from collections.abc import Callable
from typing import Any

import instep
import numpy as np
import pytest
from bits import assert_same_bits
from numpy.typing import NDArray

# NumPy 2.5 would rather not have it done.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")

Array = NDArray[Any]


class Two:
    """An optimizer of two arrays, whose parameters and averages are known."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.params = {"A": rng.standard_normal(300), "B": rng.standard_normal((2, 2))}
        self.opt = instep.Adam(self.params, lr=0.1, average=0.5)
        for _ in range(3):
            self.opt.step({name: rng.standard_normal(p.shape) for name, p in self.params.items()})
        self.own = {name: p.copy() for name, p in self.params.items()}
        self.averages = {name: a.copy() for name, a in self.opt.averages.items()}

    def check(self, *, inside: bool) -> None:
        """Compare to the bit, in whatever shape the arrays have now."""
        wanted = (self.averages, self.own) if inside else (self.own, self.averages)
        for name in self.params:
            pair = self.params[name], self.opt.averages[name]
            for has, which in zip(pair, wanted, strict=True):
                assert_same_bits(np.ravel(has), np.ravel(which[name]))


def reshape(two: Two) -> Callable[[], None]:
    two.params["B"].shape = (4,)
    return lambda: setattr(two.params["B"], "shape", (2, 2))


def lock_parameter(two: Two) -> Callable[[], None]:
    two.params["B"].flags.writeable = False
    return lambda: setattr(two.params["B"].flags, "writeable", True)


def lock_average(two: Two) -> Callable[[], None]:
    average = two.opt.averages["B"]
    average.flags.writeable = False
    return lambda: setattr(average.flags, "writeable", True)


BREAKS = {
    reshape: r'averages\["B"\] has shape \(2, 2\); wanted \(4,\), the shape of params\["B"\]',
    lock_parameter: r'params\["B"\] is read-only, and a step writes it',
    lock_average: r'averages\["B"\] is read-only, and a step writes it',
}


@pytest.mark.parametrize("spoil", BREAKS)
def test_what_cannot_be_entered_changes_nothing(spoil: Any) -> None:
    two = Two()
    mend = spoil(two)
    for _ in range(2):
        with pytest.raises(ValueError, match=BREAKS[spoil]), two.opt.averaged():
            raise AssertionError
        two.check(inside=False)
    mend()
    with two.opt.averaged():
        two.check(inside=True)
    two.check(inside=False)


@pytest.mark.parametrize("spoil", BREAKS)
def test_what_cannot_be_left_can_be_left_later(spoil: Any) -> None:
    two = Two()
    with (
        pytest.raises(ValueError, match=BREAKS[spoil] + r".*then call leave_averaged\(\)"),
        two.opt.averaged(),
    ):
        mend = spoil(two)
    two.check(inside=True)
    with pytest.raises(ValueError, match=r"leave_averaged\(\)"):
        two.opt.leave_averaged()
    with pytest.raises(RuntimeError, match=r"within averaged\(\)"):
        two.opt.step({name: np.ones(p.shape) for name, p in two.params.items()})
    mend()
    two.check(inside=True)
    two.opt.leave_averaged()
    two.check(inside=False)
    two.opt.leave_averaged()
    two.check(inside=False)
    two.opt.step({name: np.ones(p.shape) for name, p in two.params.items()})


def test_a_use_within_another_leaves_that_alone() -> None:
    two = Two()
    with two.opt.averaged():
        entered = pytest.raises(RuntimeError, match=r"averaged\(\) was entered within averaged\(\)")
        with entered, two.opt.averaged():
            raise AssertionError
        two.check(inside=True)
    two.check(inside=False)


def test_an_error_within_puts_the_parameters_back() -> None:
    two = Two()
    with pytest.raises(LookupError), two.opt.averaged():
        raise LookupError
    two.check(inside=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_layout_is_swapped(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((70, 90)).astype(dtype)
    params = [wide[:60:2, ::-3], wide[61:].T, np.asfortranarray(wide[:9]), np.array(1.0, dtype)]
    opt = instep.SGD(params, lr=0.1, average=0.9)
    opt.step([np.asarray(rng.standard_normal(p.shape), dtype) for p in params])
    own, averages = [p.copy() for p in params], [a.copy() for a in opt.averages]
    around = wide.copy()
    with opt.averaged():
        for p, average in zip(params, averages, strict=True):
            assert_same_bits(p, average)
        for average, kept in zip(opt.averages, own, strict=True):
            assert_same_bits(average, kept)
    for p, kept in zip(params, own, strict=True):
        assert_same_bits(p, kept)
    assert_same_bits(wide, around)
