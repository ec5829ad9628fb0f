"""States: one array or several, of any array library, and the precision in which they are measured."""

from __future__ import annotations

from functools import cache
from typing import Any

import array_api_compat

Array = Any
"""An array of any library, 0-d where a scalar is meant."""

State = Any
"""An `Array`, or a tuple of them where the state has several parts."""


def parts(state: State) -> tuple[Array, ...]:
    """The arrays of a state, whether it is one array or a tuple of them."""
    return state if isinstance(state, tuple) else (state,)


def like_parts(state: State, arrays: tuple[Array, ...]) -> State:
    """Arrays as a state of the same kind: a tuple, or the one array."""
    return arrays if isinstance(state, tuple) else arrays[0]


_found: dict[type, Any] = {}


def array_namespace(x: Array, *others: Array) -> Any:
    """As `array_api_compat.array_namespace`, which takes as long as an operation, looked up once for each class."""
    found = None if others else _found.get(type(x))
    if found is None:
        found = array_api_compat.array_namespace(x, *others)
        # For a NumPy array it depends on the dtype too: JAX has its gradients of integers in such arrays.
        if not others and not array_api_compat.is_numpy_array(x):
            _found[type(x)] = found
    return found


def real_dtype(x: Array) -> Any:
    """The dtype of what is measured on a state: that of |x|, and float32 for a half-precision state."""
    xp = array_namespace(x)
    return xp.real(x).dtype if xp.isdtype(x.dtype, "complex floating") else wide_dtype(x)


def as_array(x: Any, like: Array) -> Array:
    """A measured value as an array: a function may give a number, such as a step size."""
    if hasattr(x, "dtype"):
        return x
    return array_namespace(like).asarray(x, dtype=real_dtype(like), device=array_api_compat.device(like))


def wide_dtype(x: Array) -> Any:
    """The dtype in which a state is measured: its own, and float32 for half precision.

    A scaled error of 300 squared overflows float16, and a sum of a hundred steps stalls in bfloat16.
    """
    xp = array_namespace(x)
    return xp.float32 if _is_half(xp, x.dtype) else x.dtype


def widened(x: Array) -> Array:
    """The array in its `wide_dtype`."""
    xp = array_namespace(x)
    return xp.astype(x, xp.float32) if _is_half(xp, x.dtype) else x


@cache
def epsilon(xp: Any, dtype: Any) -> float:
    """The distance from 1 to the next number of a dtype; of an integer that of double precision."""
    return 2.0**-52 if xp.isdtype(dtype, ("bool", "integral")) else float(xp.finfo(dtype).eps)


@cache
def _is_half(xp: Any, dtype: Any) -> bool:
    return not xp.isdtype(dtype, ("bool", "integral")) and xp.finfo(dtype).bits < 32
