"""Learning rates that decay with the epochs."""

import numpy as np

from instep.checks import check_number


def update_lr(learning_rate0: float, epoch_num: float, decay_rate: float) -> float:
    """Decay the learning rate with every epoch.

    Parameters
    ----------
    learning_rate0 : float
        The learning rate at epoch 0, finite and not negative.
    epoch_num : float
        The epoch, finite and not negative.
    decay_rate : float
        How fast, finite and not negative.

    Returns
    -------
    learning_rate : float
        ``learning_rate0 / (1 + decay_rate*epoch_num)``.

    Raises
    ------
    TypeError
        An argument that is not a number.
    ValueError
        An argument that is negative, NaN or infinite.

    Notes
    -----
    Inverse time decay, as in the course. Nothing is written in place.

    Examples
    --------
    >>> import instep
    >>> instep.update_lr(0.5, 2, 1)
    0.16666666666666666
    """
    learning_rate0 = check_number("learning_rate0", learning_rate0)
    epoch_num = check_number("epoch_num", epoch_num)
    decay_rate = check_number("decay_rate", decay_rate)
    return learning_rate0 / (1 + decay_rate * epoch_num)


def schedule_lr_decay(
    learning_rate0: float, epoch_num: float, decay_rate: float, time_interval: float = 1000
) -> float:
    """Decay the learning rate once in every `time_interval` epochs.

    Parameters
    ----------
    learning_rate0 : float
        The learning rate at epoch 0, finite and not negative.
    epoch_num : float
        The epoch, finite and not negative.
    decay_rate : float
        How fast, finite and not negative.
    time_interval : float, default 1000
        Epochs from one decay to the next, finite and greater than 0.

    Returns
    -------
    learning_rate : float
        ``learning_rate0 / (1 + decay_rate*floor(epoch_num/time_interval))``.

    Raises
    ------
    TypeError
        An argument that is not a number.
    ValueError
        An argument that is negative, NaN or infinite, or a `time_interval` of 0.

    Notes
    -----
    Inverse time decay in steps, as in the course. Nothing is written in place.

    Examples
    --------
    >>> import instep
    >>> instep.schedule_lr_decay(0.5, 1500, 0.3)
    0.3846153846153846
    """
    learning_rate0 = check_number("learning_rate0", learning_rate0)
    epoch_num = check_number("epoch_num", epoch_num)
    decay_rate = check_number("decay_rate", decay_rate)
    time_interval = check_number("time_interval", time_interval)
    if time_interval == 0:
        raise ValueError("time_interval is 0; wanted a number greater than 0")
    return learning_rate0 / (1 + decay_rate * float(np.floor(epoch_num / time_interval)))
