"""What is measured on one step: the formulas, each written once for every array library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from array_api_compat import device, to_device

from .errors import NoEstimateError, NoToleranceError
from .namespaces import array_namespace
from .rounding import rounding, told_apart
from .safe import along, divisor, mean_square, real_dtype, safe_ratio, safe_sqrt, widened
from .state import Array, State, like_parts, parts
from .step import Step

Scale = Literal["tolerance", "raw"]


def local_error(step: Step, scale: Scale = "tolerance", rtol: Array | None = None, atol: Array | None = None) -> Array:
    """E, the solver's own estimate of the error it makes in one step: a real scalar, differentiable.

    With `scale="tolerance"` E = ||error / (atol + rtol max(|y0|, |y1|))||, the number an adaptive solver
    compares with 1 (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, eq. II.4.10-11).
    With `scale="raw"` E = ||error||. The norm is the solve's own, by default the root mean square. `rtol`
    and `atol` replace the tolerances of the solve.

    Raises:
        NoEstimateError: the step carries no error estimate.
        NoToleranceError: a tolerance is needed and there is none.
    """
    errors = errors_of(step)  # a solver without an estimate is told before a solve without a tolerance
    scaled = scaled_errors(errors, step, tolerances(step, scale, rtol, atol))
    if step.norm is None:
        return safe_sqrt(mean_square(scaled, step.lead))
    return _guarded(step.norm, scaled, like=step.y1)


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
            "`LocalError` scales the error by the tolerance of the solve, and this solve has none; "
            'give `LocalError(rtol=..., atol=...)`, or ask for the unscaled error with `scale="raw"`.'
        )
    return rtol, atol


def scaled_errors(errors: tuple[Array, ...], step: Step, tolerances: tuple[Array, Array] | None) -> tuple[Array, ...]:
    """Error / (atol + rtol max(|y0|, |y1|)), or the error itself without tolerances."""
    if tolerances is None:
        return errors
    return tuple(x / scale_of(*sizes, tolerances) for x, sizes in zip(errors, absolute(step), strict=True))


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


def stiffness(step: Step) -> Array:
    """S = ||f(t1, a) - f(t1, b)|| / ||a - b||, about the largest |eigenvalue| of the Jacobian: a real scalar.

    a and b are two states at the one time t1, with the slopes that the solver has evaluated anyway wherever it
    has: the last two stages, where both stand at the end of the step (Dormand-Prince, Tsitouras, Kvaerno);
    y1 and the last stage, or y1 and the second solution where those are the same, for one evaluation of the
    field; y1 and the second solution for two. Shampine, Stiffness and nonstiff differential equation solvers
    II, ACM Trans. Math. Softw. 3 (1977); Hairer and Wanner, Solving Ordinary Differential Equations II,
    section IV.2. Where one of the two differences is nothing but rounding (`told_apart`), S is 0, and so is its
    derivative.

    Raises:
        NoEstimateError: the step has neither two stages at its end nor a second solution and a field.
    """
    stages = step.stages
    gaps = None if stages is None else stages.tableau.end_gaps
    if stages is not None and gaps is not None:
        # The stages multiply h: the difference in state is h times what is contracted here.
        slopes, states = (mean_square(stages.contract(row), step.lead) for row in gaps)
        h = step_size(step)
        scale = (h / (stages.unit * rounding(step.y1))) ** 2
        known = told_apart(step, slopes * scale, states * scale)
        return safe_ratio(slopes, states * known) / divisor(h)
    if step.field is None:
        raise NoEstimateError(
            "`Stiffness` compares the slopes at two states of one time, and this solver offers neither two "
            "stages at the end of a step nor its field; use a solver with an embedded estimate."
        )
    gap = None if stages is None else stages.tableau.last_gap
    if stages is not None and gap is not None and any(gap):
        last = stages.slope(-1)
        slopes = mean_square(_minus(last, step.field(step.t1, step.y1)))
        states = mean_square(tuple(x / stages.unit for x in stages.contract(gap)))
        h = step_size(step)
        scale = (h / rounding(step.y1)) ** 2
        known = told_apart(step, slopes * scale, states * scale, mean_square(last) * h**2)
        return safe_ratio(slopes, states * known) / divisor(h)
    embedded = _embedded(step)
    at_y1 = stages.slope(-1) if stages is not None and gap is not None else step.field(step.t1, step.y1)
    slopes = mean_square(_minus(at_y1, step.field(step.t1, embedded)))
    states = mean_square(_minus(step.y1, embedded))
    h = step_size(step)
    size = rounding(step.y1)
    slope = mean_square(tuple(map(widened, parts(at_y1)))) * h**2
    known = told_apart(step, slopes * (h / size) ** 2, states / size**2, slope)
    return safe_ratio(slopes, states * known)


def step_size(step: Step) -> Array:
    """|t1 - t0| as a scalar of the measures' own dtype, so that float64 times do not widen a float32 penalty."""
    return abs(signed_step_size(step))


def step_sizes(steps: Sequence[Step]) -> Array:
    """Those of several steps of one solve, of shape (m,); of one, a scalar."""
    first, *others = steps
    if not others:
        return step_size(first)
    like = parts(first.y1)[0]
    xp = array_namespace(like)
    where = device(like)
    if isinstance(first.t0, int | float):
        return abs(xp.asarray([step.h for step in steps], dtype=real_dtype(like), device=where))
    t0, t1 = (xp.stack([getattr(step, name) for step in steps]) for name in ("t0", "t1"))
    h = xp.astype(t1 - t0, real_dtype(like), copy=False)
    return abs(h if device(h) == where else to_device(h, where))


def signed_step_size(step: Step) -> Array:
    """t1 - t0, likewise."""
    like = parts(step.y1)[0]
    return array_namespace(like).asarray(step.h, dtype=real_dtype(like))


def _minus(a: State, b: State) -> State:
    return tuple(widened(x) - widened(y) for x, y in zip(parts(a), parts(b), strict=True))


def _guarded(norm: Callable[[State], Array], state: tuple[Array, ...], like: State) -> Array:
    # Nobody's norm is ours to make safe at zero, but where the whole state is zero it can be fed ones instead.
    xp = array_namespace(*state)
    nonzero = mean_square(state) != 0
    value = norm(like_parts(like, tuple(xp.where(nonzero, x, xp.ones_like(x)) for x in state)))
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
            "The local error was asked for, and this solver estimates none; use a method with an embedded "
            'estimate, or step doubling, `LocalError(estimate="doubling")`.'
        )
    h = signed_step_size(step) / stages.unit
    return tuple(along(h, x) * x for x in stages.contract(stages.tableau.e))


def _embedded(step: Step) -> State:
    if step.y1_embedded is not None:
        return step.y1_embedded
    try:
        errors = _errors(step)
    except NoEstimateError:  # which speaks of the local error, that nobody asked for
        raise NoEstimateError(
            "`Stiffness` compares the slopes at two states of one time, and this solver offers neither two stages at "
            "the end of a step nor a second solution; use a method with an embedded estimate, or step doubling."
        ) from None
    return like_parts(step.y1, tuple(y - e for y, e in zip(parts(step.y1), errors, strict=True)))
