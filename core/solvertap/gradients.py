"""The derivatives of the measures, written out.

A framework that records every operation of a measure keeps what each of them needs, and goes back through them one
by one. Told the derivative, it keeps the states and slopes that it has anyway. `Adapter.derived` is where a framework
is told; where it is not, it differentiates the formulas of `measures`, which these are the derivatives of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from array_api_compat import array_namespace

from .measures import absolute, end_differences, errors_of, scale_of, signed_step_size, stiffness_of_squares
from .safe import along, mean_square, safe_sqrt, where_finite, widened
from .state import Array, State, parts
from .step import Step


class Gradient(NamedTuple):
    """The derivative of a measure by each array of a step; None where it does not depend on them.

    Of a complex array x it is d/dRe(x) + i d/dIm(x). Of several steps together it is that of each measure by its own
    step.

    Attributes:
        y0, y1, error, y1_embedded: in the form of the attributes of `Step`; parts in half precision are single here.
        rows: pairs of a row and a state x, the derivative by `Stages.contract(row)`: that by k_i is row_i x.
    """

    y0: State | None = None
    y1: State | None = None
    error: State | None = None
    y1_embedded: State | None = None
    rows: tuple[tuple[Sequence[float], State], ...] = ()


def local_error_gradient(step: Step, by: Array | float, tolerances: tuple[Array, Array] | None) -> Gradient:
    """The derivative of `local_error` in the root mean square, times `by`; zero where that is zero.

    With r = error / s, s = atol + rtol max(|y0|, |y1|) and n elements, dE = sum r dr / (n E). The error is
    differentiated as what it is made of: itself, where the step has it, or y1 and its second solution, or the slopes.
    Where an attempt that may yet be rejected is not finite, the derivative is zero.

    Args:
        step: one step, or several together.
        by: what the derivative is multiplied by, a number or one for each step.
        tolerances: rtol and atol; None for the raw error.
    """
    errors, sizes = errors_of(step), absolute(step)
    scales = [1.0] * len(errors) if tolerances is None else [scale_of(*pair, tolerances) for pair in sizes]
    ratios = tuple(error / scale for error, scale in zip(errors, scales, strict=True))
    size = safe_sqrt(mean_square(ratios, step.lead))
    settle = settled(step, size)
    factor = _reciprocal(size * _elements(step)) * by
    by_errors = tuple(settle(along(factor, r) * r / scale) for r, scale in zip(ratios, scales, strict=True))
    if tolerances is None:
        return _by_error(step, by_errors, Gradient())
    y0s, y1s = [], []
    for r, by_error, (a0, a1), y0, y1 in zip(ratios, by_errors, sizes, parts(step.y0), parts(step.y1), strict=True):
        by_scale = settle(_real(r, by_error)) * -tolerances[0]
        # By the larger of the two alone, and by both in halves where they are equal.
        gap = a0 - a1
        by_y0 = 0.5 * (by_scale + by_scale * _direction(gap, abs(gap)))
        y0s.append(by_y0 * _direction(widened(y0), a0))
        y1s.append((by_scale - by_y0) * _direction(widened(y1), a1))
    return _by_error(step, by_errors, Gradient(y0=tuple(y0s), y1=tuple(y1s)))


def stiffness_gradient(step: Step, by: Array | float) -> Gradient:
    """The derivative of `stiffness` where two stages stand at the end of the step, times `by`; zero where that is zero.

    With u and v the differences of the two slopes and states, dS = S (u du / |u|^2 - v dv / |v|^2). Where an attempt
    that may yet be rejected is not finite, the derivative is zero.

    Args:
        step: one step, or several together.
        by: what the derivative is multiplied by, a number or one for each step.
    """
    stages = step.stages
    assert stages is not None
    gap = stages.tableau.end_gap
    assert gap is not None
    differences = end_differences(stages, gap)
    squares = [mean_square(difference, step.lead) for difference in differences]
    size = stiffness_of_squares(squares[0], squares[1], step) * by
    settle = settled(step, size)
    by_slopes, by_states = (
        tuple(settle(along(size * _reciprocal(square * _elements(step)), x) * x) for x in difference)
        for square, difference in zip(squares, differences, strict=True)
    )
    last = (*[0.0] * (len(gap) - 2), -1.0, 1.0)
    return Gradient(rows=((last, by_slopes), (tuple(-x for x in gap), by_states)))


def _by_error(step: Step, errors: tuple[Array, ...], gradient: Gradient) -> Gradient:
    """The derivative by what the error is made of, added."""
    if step.error is not None:
        return gradient._replace(error=errors)
    if step.y1_embedded is not None:
        by_y1 = errors if gradient.y1 is None else tuple(x + y for x, y in zip(gradient.y1, errors, strict=True))
        return gradient._replace(y1=by_y1, y1_embedded=tuple(-x for x in errors))
    assert step.stages is not None
    assert step.stages.tableau.e is not None
    h = signed_step_size(step) / step.stages.unit
    return gradient._replace(rows=((step.stages.tableau.e, tuple(along(h, x) * x for x in errors)),))


def settled(step: Step, size: Array) -> Callable[[Array], Array]:
    """Puts zeros in the place of what belongs to an attempt that is not finite, as its size tells."""
    # Of an accepted step a NaN is the truth. Of an attempt it would come back as 0 * NaN, though the step is rejected.
    if step.accepted is True:
        return lambda x: x
    finite = array_namespace(size).isfinite(size)
    return lambda x: where_finite(finite, x, 0.0)


def _reciprocal(x: Array) -> Array:
    """1 / x, and 0 at 0."""
    xp = array_namespace(x)
    zero = x == 0
    return xp.where(zero, xp.zeros_like(x), 1 / xp.where(zero, xp.ones_like(x), x))


def _elements(step: Step) -> int:
    return sum(math.prod(x.shape[step.lead :]) for x in parts(step.y1))


def _real(a: Array, b: Array) -> Array:
    """Re(conj(a) b)."""
    xp = array_namespace(a)
    return xp.real(xp.conj(a) * b) if xp.isdtype(a.dtype, "complex floating") else a * b


def _direction(y: Array, size: Array) -> Array:
    """Y / |y|, and 0 at 0, of an array and its absolute value."""
    # Without comparisons, which some libraries take five times as long for as for a product.
    return y / (size + array_namespace(size).finfo(size.dtype).smallest_normal)
