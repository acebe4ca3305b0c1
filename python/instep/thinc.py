"""Thinc's Adam, with its steps done by instep: for Thinc and for spaCy's training configs.

.. code-block:: ini

   [training.optimizer]
   @optimizers = "instep.Adam.v1"

instead of ``"Adam.v1"``. Thinc finds it wherever instep is installed. In Python, write
``from instep.thinc import Adam`` instead of ``from thinc.api import Adam``. Arguments, defaults,
schedules and attributes are Thinc's: clipping by the norm, L2 penalties and weight decay, moving
averages, and gradients that are set to zero. The formulas are Thinc's too. The last bits can be
different, because in Thinc the BLAS fuses some of the operations.

Thinc's own code steps what instep does not take: arrays on a GPU, and those that are not
contiguous.

It needs the extra: ``pip install 'instep[thinc]'``.
"""

from typing import Any, TypeAlias

import numpy as np
from thinc import optimizers as host
from thinc.backends import get_array_ops
from thinc.config import registry
from thinc.optimizers import ADAM_DEFAULTS
from thinc.types import FloatsXd

from instep._instep import Recipe

__all__ = ["Adam", "Optimizer"]

# What a parameter is called: the number of a model, and a name.
Key: TypeAlias = tuple[int, str]


class Optimizer(host.Optimizer):  # type: ignore[misc]
    """`thinc.optimizers.Optimizer`, whose steps of Adam are done by instep where it can.

    See Also
    --------
    Adam : Makes one.

    Notes
    -----
    ``m = beta1*m + (1-beta1)*g``, ``v = beta2*v + (1-beta2)*g**2``,
    ``w = w - (a*m) / (sqrt(v) + eps)`` with
    ``a = learn_rate*sqrt(1 - beta2**t)/(1 - beta1**t)``, where ``t`` counts the steps of that key.
    Before that, a gradient whose norm is at least ``grad_clip`` is multiplied by
    ``grad_clip / norm``. ``w = w - learn_rate*L2*w`` comes after the step, or ``g = g + L2*w``
    before everything. Source: Thinc, ``thinc/optimizers.py``.
    """

    __slots__ = ()

    def __call__(
        self, key: Key, weights: FloatsXd, gradient: FloatsXd, *, lr_scale: float = 1.0
    ) -> tuple[FloatsXd, FloatsXd]:
        """Do a step of one parameter, in place.

        Parameters
        ----------
        key : tuple of int and str
            What the parameter is called: usually the number of a model, and a name.
        weights : ndarray
            The parameter, float32. **Written in place.**
        gradient : ndarray
            Its gradient, float32, of the same shape. **Set to zero.**
        lr_scale : float, default 1.0
            The learning rate is multiplied by it.

        Returns
        -------
        weights, gradient : ndarray
            The arrays themselves.
        """
        beta1, beta2 = self._now("b1", key), self._now("b2", key)
        if self.use_radam or not (0 < beta1 < 1 and 0 < beta2 < 1 and _fits(weights, gradient)):
            return super().__call__(key, weights, gradient, lr_scale=lr_scale)  # type: ignore[no-any-return]

        self.nr_update[key] += 1
        t = self.nr_update[key]
        ops = get_array_ops(weights)
        for moments in (self.mom1, self.mom2):
            if key not in moments:
                moments[key] = ops.alloc1f(weights.size)
        lr = lr_scale * self._now("learn_rate", key)
        penalty = self._now("L2", key)
        if penalty and not self.L2_is_weight_decay:
            gradient += penalty * weights
        scale = 1.0
        if clip := self._now("grad_clip", key):
            norm = float(np.linalg.norm(gradient))
            scale = clip / norm if norm >= clip else 1.0
        rounded = (float(np.float32(beta)) for beta in (beta1, beta2))
        hypers = (lr, *rounded, self._now("eps", key), beta1**t, beta2**t)
        one, other = (moments[key].reshape(weights.shape) for moments in (self.mom1, self.mom2))
        around = (scale, 0.0, 1.0)
        _ADAM.step(hypers, (weights,), (gradient,), ((one,), (other,)), _describe, around)
        gradient.fill(0)
        if penalty and self.L2_is_weight_decay:
            # weights -= rate*weights: the gradient is 0, and the weights are added to it.
            rate = lr * penalty
            _DESCENT.step((rate,), (weights,), (gradient,), (), _describe, (1.0, 1.0, 1.0))
        if self.averages is not None:
            if key not in self.averages:
                self.averages[key] = ops.alloc(weights.shape, dtype="float32")
            # average -= rest*(average - weights)
            rest = 1 - min((1.0 + t) / (10.0 + t), 0.9999)
            average = (self.averages[key],)
            _DESCENT.step((rest,), average, (weights,), (), _describe, (-1.0, 1.0, 1.0))
        return weights, gradient

    def _now(self, name: str, key: Key) -> Any:
        """Return the current number: from Thinc 9 on, attributes are schedules."""
        value = getattr(self, name)
        if not callable(value):
            return value
        return value(self.step, key=key, last_score=self.last_score)


def _fits(weights: FloatsXd, gradient: FloatsXd) -> bool:
    """Return whether instep can step these."""
    return (
        type(weights) is type(gradient) is np.ndarray
        and weights.dtype == gradient.dtype == np.float32
        and weights.shape == gradient.shape
        and weights.size > 0
        and all(array.flags.c_contiguous and array.flags.writeable for array in (weights, gradient))
        and not np.may_share_memory(weights, gradient)
    )


def _describe(_group: int, role: int, _index: int) -> str:
    return ("weights", "gradient", "mom1", "mom2")[role]


@registry.optimizers("instep.Adam.v1")  # type: ignore[untyped-decorator]
def Adam(
    learn_rate: Any = ADAM_DEFAULTS["learn_rate"],
    *,
    L2: Any = ADAM_DEFAULTS["L2"],
    beta1: Any = ADAM_DEFAULTS["beta1"],
    beta2: Any = ADAM_DEFAULTS["beta2"],
    eps: Any = ADAM_DEFAULTS["eps"],
    grad_clip: Any = ADAM_DEFAULTS["grad_clip"],
    L2_is_weight_decay: bool = True,
    use_averages: bool = True,
) -> Optimizer:
    """Make an optimizer that does the steps of Thinc's ``Adam.v1``.

    Parameters
    ----------
    learn_rate : float, list, generator or Schedule, default 0.001
        The learning rate.
    L2 : float, list, generator or Schedule, default 0.0
        The weight decay or penalty.
    beta1, beta2 : float, list, generator or Schedule, default 0.9 and 0.999
        The decays of the averages of the gradient and of its square.
    eps : float, list, generator or Schedule, default 1e-8
        Added to the root.
    grad_clip : float, list, generator or Schedule, default 1.0
        The largest norm that a gradient may have; 0 for no limit.
    L2_is_weight_decay : bool, default True
        Whether `L2` shrinks the weights, or is a part of the gradient.
    use_averages : bool, default True
        Whether to keep moving averages of the weights, in ``averages``.

    Returns
    -------
    optimizer : Optimizer
        A `thinc.optimizers.Optimizer`.

    Raises
    ------
    ValueError
        An argument that is not a number or a schedule.

    Examples
    --------
    >>> import numpy as np
    >>> from instep.thinc import Adam
    >>> optimizer = Adam(0.1)
    >>> w, g = np.ones(3, "f"), np.array([0.5, -0.5, 0.0], "f")
    >>> w, g = optimizer((0, "W"), w, g)
    >>> w.round(3), g
    (array([0.9, 1.1, 1. ], dtype=float32), array([0., 0., 0.], dtype=float32))
    """
    return Optimizer(
        learn_rate,
        L2=L2,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        grad_clip=grad_clip,
        L2_is_weight_decay=L2_is_weight_decay,
        use_averages=use_averages,
    )


_ADAM = Recipe("adam_hat")
_DESCENT = Recipe("gradient_descent")
