"""maturin's build backend, with wheels that say which Linux they run on.

Called by pip, maturin gives every wheel the tag of this very machine ("linux_x86_64"). Asked for a
tag that PyPI takes, it finds the oldest manylinux (or musllinux) that the library runs on.
"""

import os
from collections.abc import Mapping
from typing import Any

import maturin
from maturin import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build a wheel with a portable tag, or else, where no such tag fits, with the machine's."""
    arguments = (wheel_directory, config_settings, metadata_directory)
    if "MATURIN_PEP517_ARGS" in os.environ or config_settings:
        return maturin.build_wheel(*arguments)
    os.environ["MATURIN_PEP517_ARGS"] = "--compatibility pypi"
    try:
        return maturin.build_wheel(*arguments)
    except SystemExit:
        del os.environ["MATURIN_PEP517_ARGS"]
        return maturin.build_wheel(*arguments)
