"""The derivatives of the measures, written out.

A framework that records every operation of a measure keeps what each of them needs, and goes back through them one
by one. Told the derivative, it keeps the states and slopes that it has anyway. `Adapter.derived` is where a framework
is told; where it is not, it differentiates the formulas of `measures`, which these are the derivatives of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .measures import absolute, errors_of, scale_of, signed_step_size, step_size
from .namespaces import array_namespace
from .safe import along, divisor, mean_square, sign, where_finite, widened
from .state import Array, State, parts
from .step import Step


class Gradient(NamedTuple):
    """The derivative of a measure by each array of a step; None where it does not depend on them.

    Of a complex array x it is d/dRe(x) + i d/dIm(x). Of several steps together it is that of each measure by its own
    step.

    Attributes:
        y0, y1, error, y1_embedded: in the form of the attributes of `Step`; parts in half precision are single here.
        rows: triples of a row, a state x and a factor c, a number or one for each step: the derivative by
            `Stages.contract(row)` is c x, that by k_i is row_i c x.
    """

    y0: State | None = None
    y1: State | None = None
    error: State | None = None
    y1_embedded: State | None = None
    rows: tuple[tuple[Sequence[float], State, Array], ...] = ()


def local_error_gradient(
    step: Step, by: Array | float, size: Array, tolerances: tuple[Array, Array] | None
) -> Gradient:
    """The derivative of `local_error` in the root mean square, times `by`; zero where that is zero.

    With r = error / s, s = atol + rtol max(|y0|, |y1|) and n elements, dE = sum r dr / (n E). The error is
    differentiated as what it is made of: itself, where the step has it, or y1 and its second solution, or the slopes.
    Where an attempt that may yet be rejected is not finite, the derivative is zero.

    Args:
        step: one step, or several together.
        by: what the derivative is multiplied by, a number or one for each step.
        size: E.
        tolerances: rtol and atol; None for the raw error.
    """
    errors, settle = errors_of(step), settled(step, size)
    factor = settle(by / divisor(size * _elements(step)))
    if tolerances is None:
        return _by_error(step, tuple(map(settle, errors)), factor, Gradient())
    by_errors, y0s, y1s = [], [], []
    for error, (a0, a1), y0, y1 in zip(errors, absolute(step), parts(step.y0), parts(step.y1), strict=True):
        scale = scale_of(a0, a1, tolerances)
        ratio = error / scale
        by_error = ratio / scale
        by_errors.append(settle(by_error))
        # By the larger of |y0| and |y1| alone, and by both in halves where they are equal. In place, for the memory
        # that is not asked for: on what a second derivative needs no more.
        half = _real(ratio, by_error)
        half *= -0.5 * tolerances[0] * along(factor, half)
        side = half * sign(a0 - a1)
        y0s.append(settle(_times(half + side, sign(widened(y0)))))
        y1s.append(settle(_times(half - side, sign(widened(y1)))))
    return _by_error(step, tuple(by_errors), factor, Gradient(y0=tuple(y0s), y1=tuple(y1s)))


def stiffness_gradient(step: Step, by: Array | float, size: Array) -> Gradient:
    """The derivative of `stiffness` where two stages stand at the end of the step, times `by`; zero where that is zero.

    With u and v the differences of the two slopes and states, dS = S (u du / |u|^2 - v dv / |v|^2). Where an attempt
    that may yet be rejected is not finite, the derivative is zero.

    Args:
        step: one step, or several together.
        by: what the derivative is multiplied by, a number or one for each step.
        size: S.
    """
    stages = step.stages
    assert stages is not None
    gaps = stages.tableau.end_gaps
    assert gaps is not None
    settle = settled(step, size)
    slopes, states = (tuple(map(settle, stages.contract(row))) for row in gaps)
    # Where S is 0, by the rounding of the states, nothing is divided by their difference: its square may be lost.
    squares = mean_square(states, step.lead) * _elements(step) * (size != 0)
    by_states = settle(size * by / divisor(squares))
    by_slopes = settle(by_states / divisor((size * step_size(step)) ** 2))  # |u| = S h |v|
    return Gradient(rows=((gaps[0], slopes, by_slopes), (gaps[1], states, -by_states)))


def _by_error(step: Step, errors: tuple[Array, ...], factor: Array, gradient: Gradient) -> Gradient:
    """The derivative by what the error is made of, added: that by the error is the factor times `errors`."""
    if step.error is None and step.y1_embedded is None:
        assert step.stages is not None
        assert step.stages.tableau.e is not None
        h = signed_step_size(step) / step.stages.unit
        return gradient._replace(rows=((step.stages.tableau.e, errors, factor * h),))
    errors = tuple(along(factor, x) * x for x in errors)
    if step.error is not None:
        return gradient._replace(error=errors)
    by_y1 = errors if gradient.y1 is None else tuple(x + y for x, y in zip(gradient.y1, errors, strict=True))
    return gradient._replace(y1=by_y1, y1_embedded=tuple(-x for x in errors))


def settled(step: Step, size: Array) -> Callable[[Array], Array]:
    """Puts zeros in the place of what belongs to an attempt that is not finite, as its size tells."""
    # Of an accepted step a NaN is the truth. Of an attempt it would come back as 0 * NaN, though the step is rejected.
    if step.accepted is True:
        return lambda x: x
    finite = array_namespace(size).isfinite(size)
    return lambda x: where_finite(finite, x, 0.0)


def _elements(step: Step) -> int:
    return sum(math.prod(x.shape[step.lead :]) for x in parts(step.y1))


def _times(a: Array, b: Array) -> Array:
    """A b; in the place of a, where that holds it."""
    if a.dtype != b.dtype:
        return a * b
    a *= b
    return a


def _real(a: Array, b: Array) -> Array:
    """Re(conj(a) b)."""
    xp = array_namespace(a)
    return xp.real(xp.conj(a) * b) if xp.isdtype(a.dtype, "complex floating") else a * b
