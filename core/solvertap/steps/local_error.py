"""E, the local error estimate of one step, and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..errors import NoEstimateError, NoToleranceError
from .arithmetic import along, divisor, mean_square, safe_sqrt, sign, where_finite
from .arrays import Array, State, array_namespace, like_parts, parts, widened
from .gradient import Gradient, _elements, settled
from .step import Step, signed_step_size

Scale = Literal["tolerance", "raw"]


def local_error(step: Step, scale: Scale = "tolerance", rtol: Array | None = None, atol: Array | None = None) -> Array:
    """E, the solver's own estimate of the error it makes in one step: `Float[Array, ""]`, differentiable.

    With `scale="tolerance"` E = ||error / (atol + rtol max(|y0|, |y1|))||, the number an adaptive solver
    compares with 1 (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, eq. II.4.10-11).
    With `scale="raw"` E = ||error||. The norm is the solve's own, by default the root mean square. `rtol`
    and `atol` replace the tolerances of the solve.

    Raises:
        NoEstimateError: the step carries no error estimate.
        NoToleranceError: a tolerance is needed and there is none.
    """
    return size_of(scaled_error(step, scale, rtol, atol), step)


def scaled_error(
    step: Step, scale: Scale = "tolerance", rtol: Array | None = None, atol: Array | None = None
) -> tuple[Array, ...]:
    """What E is the norm of, part by part; see `local_error`."""
    errors = errors_of(step)  # a missing estimate is reported before a missing tolerance
    return scaled_errors(errors, step, tolerances(step, scale, rtol, atol))


def size_of(scaled: tuple[Array, ...], step: Step) -> Array:
    """E of a scaled error, by the norm of the step."""
    if step.norm is None:
        return safe_sqrt(mean_square(scaled, step.stack_ndim))
    return _guarded(step.norm, scaled, step)


def tolerances(step: Step, scale: Scale, rtol: Array | None, atol: Array | None) -> tuple[Array, Array] | None:
    """The tolerances by which `local_error` scales; None for the raw error.

    Raises:
        NoToleranceError: as for `local_error`.
    """
    if scale == "raw":
        return None
    rtol = step.rtol if rtol is None else rtol
    atol = step.atol if atol is None else atol
    if rtol is None or atol is None:
        raise NoToleranceError(
            "`LocalError` scales the error by the tolerance of the solve, and this solve has none. Give "
            '`LocalError(rtol=..., atol=...)`, or ask for the unscaled error with `scale="raw"`.'
        )
    return rtol, atol


def scaled_errors(errors: tuple[Array, ...], step: Step, tolerances: tuple[Array, Array] | None) -> tuple[Array, ...]:
    """Error / (atol + rtol max(|y0|, |y1|)), or the error itself without tolerances."""
    if tolerances is None:
        return errors
    pairs = zip(errors, absolute(step), strict=True)
    return tuple(x / _divisor_of(x, scale_of(*sizes, tolerances), step, tolerances) for x, sizes in pairs)


def absolute(step: Step) -> tuple[tuple[Array, Array], ...]:
    """|y0| and |y1|, part by part."""
    pairs = zip(parts(step.y0), parts(step.y1), strict=True)
    return tuple((abs(widened(y0)), abs(widened(y1))) for y0, y1 in pairs)


def scale_of(y0: Array, y1: Array, tolerances: tuple[Array, Array]) -> Array:
    """Atol + rtol max(|y0|, |y1|) of two absolute values."""
    rtol, atol = tolerances
    scale = array_namespace(y0).maximum(y0, y1)
    scale *= rtol
    scale += atol
    return scale


def _divisor_of(error: Array, scale: Array, step: Step, tolerances: tuple[Array, Array]) -> Array:
    """The scale, with 1 in the place of 0 where the error is 0 as well: 0/0 is 0.

    With its own array of tolerances an adaptive solve takes no step where it has 0/0, and that costs nothing here.
    """
    atol = tolerances[1]
    if (isinstance(atol, int | float) and atol != 0) or (hasattr(atol, "shape") and atol is step.atol):
        return scale
    return scale + ((scale == 0) & (error == 0))


def _guarded(norm: Callable[[State], Array], state: tuple[Array, ...], step: Step) -> Array:
    # A user's norm may have no derivative at zero. Where the whole state is zero it is given ones instead.
    xp = array_namespace(*state)
    nonzero = mean_square(state, step.stack_ndim) != 0
    value = norm(like_parts(step.y1, tuple(where_finite(nonzero, x, 1.0) for x in state)))
    return xp.where(nonzero, value, xp.zeros_like(value))


def errors_of(step: Step) -> tuple[Array, ...]:
    """The error estimate of a step, in single precision or better.

    Raises:
        NoEstimateError: there is none.
    """
    return tuple(widened(x) for x in _errors(step))


def error_rows(step: Step) -> tuple[tuple[float, ...], ...]:
    """The rows by which `errors_of` contracts the slopes, or of which the error of the step is the sum times h."""
    if step.y1_embedded is not None or step.stages is None or step.stages.tableau.e is None:
        return ()
    return (tuple(step.stages.tableau.e),)


def _errors(step: Step) -> tuple[Array, ...]:
    if step.error is not None:
        return parts(step.error)
    if step.y1_embedded is not None:
        return tuple(a - b for a, b in zip(parts(step.y1), parts(step.y1_embedded), strict=True))
    stages = step.stages
    if stages is None or stages.tableau.e is None:
        raise NoEstimateError(
            "`LocalError` was asked of a solver that estimates no error. Use a method with an embedded "
            'estimate, or step doubling, `LocalError(estimate="doubling")`.'
        )
    h = signed_step_size(step) / stages.unit
    return tuple(along(h, x) * x for x in stages.contract(stages.tableau.e))


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
        scale = _divisor_of(error, scale, step, tolerances)
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


def _times(a: Array, b: Array) -> Array:
    """The product of a and b, computed in place where the dtype of a holds it."""
    if a.dtype != b.dtype:
        return a * b
    a *= b
    return a


def _real(a: Array, b: Array) -> Array:
    """Re(conj(a) b)."""
    xp = array_namespace(a)
    return xp.real(xp.conj(a) * b) if xp.isdtype(a.dtype, "complex floating") else a * b
