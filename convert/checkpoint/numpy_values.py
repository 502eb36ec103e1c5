"""numpy scalars and arrays, put together from what a pickle says of them; numbers only.

best_fitness and the like are kept so. Each function stands for the numpy function of that name and
raises ValueError or TypeError for arguments that numpy would not have written.
"""

import math
import re
from typing import Any

import numpy as np

from convert.checkpoint.values import Global, NumpyValue, expect, is_count

DTYPE = Global("numpy", "dtype")
ARRAY = Global("numpy.core.multiarray", "_reconstruct")

_NUMBER_DTYPES = frozenset("f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split())
_MOST_DIMENSIONS = 32


def numpy_dtype(first: Any, *rest: Any) -> NumpyValue:
    if isinstance(first, NumpyValue):  # its state: version and byte order
        (state,) = rest
        expect(isinstance(first.value, str) and isinstance(state, tuple) and len(state) > 1)
        expect(state[1] in ("<", "|", "="))
        return first
    expect(isinstance(first, str) and re.fullmatch("[a-zA-Z?][0-9]{0,6}", first) is not None)
    return NumpyValue(DTYPE, first)


def numpy_array(first: Any, *rest: Any) -> NumpyValue:
    if isinstance(first, NumpyValue):  # its state: version, shape, dtype, order, bytes
        (state,) = rest
        _, shape, dtype, _, data = state
        first.value = _shaped(_numbers(dtype, data), shape)
        return first
    return NumpyValue(ARRAY)


def numpy_buffer(data: Any, dtype: Any, shape: Any, _: Any) -> NumpyValue:
    """An array in protocol 5."""
    return NumpyValue(ARRAY, _shaped(_numbers(dtype, data), shape))


def _shaped(numbers: np.ndarray | None, shape: Any) -> np.ndarray | None:
    expect(isinstance(shape, tuple) and len(shape) <= _MOST_DIMENSIONS)
    expect(all(map(is_count, shape)))
    expect(numbers is None or math.prod(shape) == numbers.size)
    return numbers


def numpy_scalar(dtype: Any, data: Any) -> Any:
    value = _numbers(dtype, data)
    return None if value is None else value.item()


def _numbers(dtype: Any, data: Any) -> np.ndarray | None:
    """Bytes as numbers; None for arrays of anything else."""
    expect(isinstance(dtype, NumpyValue) and dtype.of == DTYPE)
    if not isinstance(data, bytes | bytearray) or dtype.value not in _NUMBER_DTYPES:
        return None
    return np.frombuffer(data, np.dtype(f"<{dtype.value}"))
