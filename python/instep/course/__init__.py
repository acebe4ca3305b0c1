"""The update rules of courses and books, in place, with the names that they have there.

`instep.course` itself has the functions of the deep-learning course. Three modules have the rules
of one more course or book each:

- `instep.course.cs231n`: Stanford's CS231n, ``rule(w, dw, config)``;
- `instep.course.dlfs`: the books *Deep Learning from Scratch*, ``optimizer.update(params, grads)``;
- `instep.course.nnfs`: *Neural Networks from Scratch in Python*,
  ``optimizer.update_params(layer)``.

The functions of the deep-learning course have the names, argument order and return values of its
notebooks, so you change one import of a notebook and keep its code. Parameters are
``{"W1", "b1", ..., "WL", "bL"}``, gradients and states ``{"dW1", "db1", ...}``, each a plain
`numpy.ndarray` of float32 or float64, of any shape and memory layout. The arrays of one parameter
agree in dtype and shape; different parameters may have different dtypes.

.. warning::
   The arrays are **written in place**: the returned dicts and arrays are those that you passed.
   After ``best = parameters["W1"]``, the next step changes ``best`` too; keep
   ``parameters["W1"].copy()`` instead.

Every function checks all of its arguments before it writes anything: a call that raises an error
has changed nothing. One call steps all arrays in compiled code, without allocating. Results are
bit-for-bit identical to the NumPy formula, which is in `instep.reference`.

One thing is different from the course code on purpose: float32 arrays stay float32. Under NumPy 2
the course's ``np.power(beta1, t)`` is a float64 scalar, and turns float32 parameters into float64.
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
