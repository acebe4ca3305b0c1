"""The functions of the deep-learning course; `instep.course` says what they have in common."""

from instep.course.deep_learning.dicts import Arrays as Arrays
from instep.course.deep_learning.learning_rates import schedule_lr_decay, update_lr
from instep.course.deep_learning.mini_batches import random_mini_batches
from instep.course.deep_learning.updates import AdamMode as AdamMode
from instep.course.deep_learning.updates import (
    initialize_adam,
    initialize_rmsprop,
    initialize_velocity,
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
