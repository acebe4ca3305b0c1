"""The dtype bfloat16, by the library that brings it to NumPy."""

import numpy as np

from instep import _instep

try:
    from ml_dtypes import bfloat16
except ImportError:
    raise ImportError(
        "bfloat16 arrays need the package ml_dtypes: pip install 'instep[bfloat16]'; or pass "
        "bits='bfloat16' for arrays of uint16 that hold bfloat16"
    ) from None

__all__ = ["BFLOAT16"]

BFLOAT16 = np.dtype(bfloat16)
"""The dtype, which compiled steps know from here on."""

# NumPy gives it another number in every process.
_instep.know_bfloat16(BFLOAT16.num)
