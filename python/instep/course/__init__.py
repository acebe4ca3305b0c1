"""The update rules of courses and books, in place, with the names that they have there.

`instep.course` itself has the functions of the deep-learning course. Each of three modules has the
rules of one more:

- `instep.course.cs231n`: Stanford's CS231n, ``rule(w, dw, config)``;
- `instep.course.dlfs`: the books *Deep Learning from Scratch*, ``optimizer.update(params, grads)``;
- `instep.course.nnfs`: *Neural Networks from Scratch in Python*,
  ``optimizer.update_params(layer)``.

The functions of the deep-learning course have the names, argument order and return values of its
notebooks, so a notebook changes an import and keeps its code. Parameters are
``{"W1", "b1", ..., "WL", "bL"}``, gradients and states ``{"dW1", "db1", ...}``, each a plain
`numpy.ndarray` of float32 or float64, of any shape and memory layout. The arrays of one parameter
agree in dtype and shape; different parameters may have different dtypes.

.. warning::
   The arrays are **written in place**: the returned dicts are the very objects passed in, and so
   are the arrays in them. Whoever kept ``best = parameters["W1"]`` sees it change; keep
   ``parameters["W1"].copy()`` instead.

Every function checks all of its arguments before it writes anything: a call that raises has changed
nothing. One call steps all arrays in compiled code, without allocating. Results are
bit-for-bit identical to the NumPy formula, which `instep.reference` spells out.

One thing differs from the course code by intent: float32 arrays stay float32. Under NumPy 2 the
course's ``np.power(beta1, t)`` is a float64 scalar, and turns float32 parameters into float64.
"""

from instep.course import cs231n as cs231n
from instep.course import dlfs as dlfs
from instep.course import nnfs as nnfs
from instep.course.deep_learning import AdamMode as AdamMode
from instep.course.deep_learning import Arrays as Arrays
from instep.course.deep_learning import (
    initialize_adam,
    initialize_rmsprop,
    initialize_velocity,
    random_mini_batches,
    schedule_lr_decay,
    update_lr,
    update_parameters_with_adam,
    update_parameters_with_gd,
    update_parameters_with_momentum,
    update_parameters_with_rmsprop,
)

__all__ = [
    "initialize_adam",
    "initialize_rmsprop",
    "initialize_velocity",
    "random_mini_batches",
    "schedule_lr_decay",
    "update_lr",
    "update_parameters_with_adam",
    "update_parameters_with_gd",
    "update_parameters_with_momentum",
    "update_parameters_with_rmsprop",
]
