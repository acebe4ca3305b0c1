"""How this build of instep runs here."""

from typing import TypedDict

import numpy as np

from instep import _instep

__all__ = ["Config", "config", "show_config"]


class Config(TypedDict):
    """What `config` returns."""

    version: str
    isa: str
    isa_available: list[str]
    threads: int
    numpy: str
    profile: str


def config() -> Config:
    """Return how this build of instep runs here.

    Returns
    -------
    dict
        ``version`` of instep; ``isa``, the instruction level in use, and ``isa_available``, those
        that this CPU has, lowest first (``INSTEP_ISA`` forces one of them); ``threads`` that a step
        uses; ``numpy``, the version of NumPy; ``profile``, the build profile, "release" or "debug".

    Examples
    --------
    >>> import instep
    >>> config = instep.config()
    >>> config["isa"] in config["isa_available"]
    True
    """
    return {**_instep.config(), "numpy": np.__version__}


def show_config() -> None:
    """Print what `config` returns, a line for each entry.

    Examples
    --------
    >>> import instep
    >>> instep.show_config()  # doctest: +ELLIPSIS
    version        ...
    isa            ...
    """
    for name, value in config().items():
        print(f"{name:14} {', '.join(value) if isinstance(value, list) else value}")
