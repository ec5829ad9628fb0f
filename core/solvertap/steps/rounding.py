"""Where a difference is nothing but the rounding of what was subtracted."""

from __future__ import annotations

from .arithmetic import mean_square
from .arrays import Array, State, array_namespace, epsilon, parts, widened
from .step import Step


def is_beyond_rounding(step: Step, slopes: Array, states: Array, slope: Array | None = None) -> Array:
    """Whether `stiffness` compares more than the rounding of two states a, b and of their slopes; a boolean for a step.

    A number is rounded by up to eps / 2 of its size. The slopes are evaluated at a and b as they are rounded, and are
    rounded themselves. Where a and b differ by less than one such rounding, or their slopes do, the quotient of the two
    differences is that of roundings, of any size, and says nothing of the field (docs/mathematics.md, "Rounding").

    Args:
        step: one step, or several together.
        slopes: the mean square of h (f(a) - f(b)), in roundings.
        states: that of a - b, in roundings.
        slope: that of h f(a); None for that of y1 - y0, which is h times a mean of the slopes.
    """
    change = mean_square(_change(step), step.stack_ndim)
    # The size of y0 is in there too: a step may come near zero. Not <=, so that zero is left to `safe_ratio`, and what
    # is infinite or NaN stays that.
    one_state = states < mean_square(tuple(map(widened, parts(step.y1))), step.stack_ndim) + change
    one_slope = slopes < (change if slope is None else slope)
    return ~(one_state | one_slope)


def _change(step: Step) -> State:
    return tuple(widened(y1) - widened(y0) for y0, y1 in zip(parts(step.y0), parts(step.y1), strict=True))


def rounding(state: State) -> float:
    """By how much a number of size one in a state is rounded at most: eps / 2."""
    return 0.5 * max(epsilon(array_namespace(x), x.dtype) for x in parts(state))
