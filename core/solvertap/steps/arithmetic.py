"""Arithmetic that is safe where E and S are zero, and wide enough where states are narrow.

Written against the array API standard, so that NumPy, torch and JAX run the same lines. A square root at zero
has an infinite derivative, and an exactly zero error is common (a linear field, a constant state): every root
and quotient here has the value 0 and the gradient 0 there, while a NaN stays a NaN.
"""

from __future__ import annotations

import math
import operator
from functools import reduce

from .arrays import Array, State, array_namespace, parts


def mean_square(state: State, stack_ndim: int = 0) -> Array:
    """The mean of |x|^2 over every element of every part; 0 where there is no element.

    The first `stack_ndim` axes are not reduced.
    """
    arrays = parts(state)
    sizes = [math.prod(x.shape[stack_ndim:]) for x in arrays]
    total = sum(sizes)
    if total == 0:
        return over_elements("sum", abs(arrays[0]), stack_ndim)
    means = [_mean_square(x, size, stack_ndim) for x, size in zip(arrays, sizes, strict=True) if size]
    if len(means) == 1:
        return means[0]
    weights = [size / total for size in sizes if size]
    return reduce(operator.add, (mean * weight for mean, weight in zip(means, weights, strict=True)))


def _mean_square(x: Array, size: int, stack_ndim: int) -> Array:
    if not stack_ndim and getattr(x, "requires_grad", None) is False:
        # torch would allocate the squares. A norm does not; it is used where nothing is differentiated.
        norm = array_namespace(x).linalg.vector_norm(x)
        return norm * norm / size
    return over_elements("mean", square(x), stack_ndim)


def square(x: Array) -> Array:
    """|x|^2, without |x|, whose derivative at a complex zero is not defined."""
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "complex floating"):
        return xp.real(x) ** 2 + xp.imag(x) ** 2
    return x * x


def safe_sqrt(x: Array) -> Array:
    """The square root of x >= 0, with value 0 and derivative 0 at 0."""
    # Products instead of `where`, which takes longer to run and to compile.
    zero = x == 0
    return array_namespace(x).sqrt(x + zero) * ~zero


def safe_ratio(numerator: Array, denominator: Array) -> Array:
    """sqrt(numerator / denominator) of two mean squares, with value 0 and derivative 0 where either is 0."""
    zero = denominator == 0
    return safe_sqrt(numerator / (denominator + zero) * ~zero)


def divisor(x: Array) -> Array:
    """The array with 1 in the place of 0. The numerator is zero there, and so is the quotient."""
    return x + (x == 0)


def sign(x: Array) -> Array:
    """X / |x|, and 0 at 0, of a real or complex array; of a NaN it may be 0."""
    xp = array_namespace(x)
    # torch's `sgn`: the `sign` of the standard looks for NaN first and takes several times as long.
    return getattr(xp, "sgn", xp.sign)(x)


def along(x: Array, like: Array) -> Array:
    """The array x, of one number for each leading entry of `like`, shaped to multiply `like`."""
    return array_namespace(x).reshape(x, (*x.shape, *[1] * (like.ndim - x.ndim))) if x.ndim else x


def nan_unless(finite: Array, x: Array) -> Array:
    """The number where `finite`, and NaN elsewhere. No other NaN is computed: JAX's search for NaNs would find it."""
    xp = array_namespace(x)
    lost = xp.where(finite, xp.zeros_like(x), xp.zeros_like(x) + float("inf"))
    return x + (lost - lost)


def where_finite(finite: Array, x: Array, instead: float) -> Array:
    """The array, or a constant in its place where `finite` is false."""
    xp = array_namespace(x)
    return xp.where(along(finite, x), x, xp.full_like(x, instead))


def over_elements(reduction: str, x: Array, stack_ndim: int) -> Array:
    """A reduction of an array over all axes but the first `stack_ndim`."""
    # torch takes "over no axes" for "over all of them".
    axes = tuple(range(stack_ndim, x.ndim)) if stack_ndim else None
    return x if axes == () else getattr(array_namespace(x), reduction)(x, axis=axes)
