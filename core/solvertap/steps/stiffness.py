"""S, the stiffness estimate of one step, and its derivative."""

from __future__ import annotations

from ..errors import NoEstimateError
from .arithmetic import divisor, mean_square, safe_ratio
from .arrays import Array, State, like_parts, parts, widened
from .gradient import Gradient, _elements, settled
from .local_error import _errors
from .rounding import is_beyond_rounding, rounding
from .step import Step, step_size


def stiffness(step: Step) -> Array:
    """S = ||f(t1, a) - f(t1, b)|| / ||a - b||, about the largest |eigenvalue| of the Jacobian: `Float[Array, ""]`.

    a and b are two states at the one time t1, with the slopes that the solver has evaluated anyway wherever it
    has: the last two stages, where both stand at the end of the step (Dormand-Prince, Tsitouras, Kvaerno);
    y1 and the last stage, or y1 and the second solution where those are the same, for one evaluation of the
    field; y1 and the second solution for two. Shampine, Stiffness and nonstiff differential equation solvers
    II, ACM Trans. Math. Softw. 3 (1977); Hairer and Wanner, Solving Ordinary Differential Equations II,
    section IV.2. Where one of the two differences is nothing but rounding (`is_beyond_rounding`), S and its derivative
    are 0.

    Raises:
        NoEstimateError: the step has neither two stages at its end nor a second solution and a field.
    """
    stages = step.stages
    gaps = None if stages is None else stages.tableau.end_gaps
    if stages is not None and gaps is not None:
        # The stages multiply h: the difference in state is h times what is contracted here.
        slopes, states = (mean_square(stages.contract(row), step.stack_ndim) for row in gaps)
        h = step_size(step)
        scale = (h / (stages.unit * rounding(step.y1))) ** 2
        known = is_beyond_rounding(step, slopes * scale, states * scale)
        return safe_ratio(slopes, states * known) / divisor(h)
    if step.field is None:
        raise NoEstimateError(
            "`Stiffness` compares the slopes at two states of one time, and this solver offers neither two "
            "stages at the end of a step nor its field. Use a solver with an embedded estimate."
        )
    gap = None if stages is None else stages.tableau.last_gap
    if stages is not None and gap is not None and any(gap):
        last = stages.slope(-1)
        slopes = mean_square(_minus(last, step.field(step.t1, step.y1)), step.stack_ndim)
        states = mean_square(tuple(x / stages.unit for x in stages.contract(gap)), step.stack_ndim)
        h = step_size(step)
        scale = (h / rounding(step.y1)) ** 2
        known = is_beyond_rounding(step, slopes * scale, states * scale, mean_square(last, step.stack_ndim) * h**2)
        return safe_ratio(slopes, states * known) / divisor(h)
    embedded = _embedded(step)
    at_y1 = stages.slope(-1) if stages is not None and gap is not None else step.field(step.t1, step.y1)
    slopes = mean_square(_minus(at_y1, step.field(step.t1, embedded)), step.stack_ndim)
    states = mean_square(_minus(step.y1, embedded), step.stack_ndim)
    h = step_size(step)
    size = rounding(step.y1)
    slope = mean_square(tuple(map(widened, parts(at_y1))), step.stack_ndim) * h**2
    known = is_beyond_rounding(step, slopes * (h / size) ** 2, states / size**2, slope)
    return safe_ratio(slopes, states * known)


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
    squares = mean_square(states, step.stack_ndim) * _elements(step) * (size != 0)
    by_states = settle(size * by / divisor(squares))
    by_slopes = settle(by_states / divisor((size * step_size(step)) ** 2))  # |u| = S h |v|
    return Gradient(rows=((gaps[0], slopes, by_slopes), (gaps[1], states, -by_states)))


def _minus(a: State, b: State) -> State:
    return tuple(widened(x) - widened(y) for x, y in zip(parts(a), parts(b), strict=True))


def _embedded(step: Step) -> State:
    if step.y1_embedded is not None:
        return step.y1_embedded
    try:
        errors = _errors(step)
    except NoEstimateError:  # it names the local error; here the stiffness was asked for
        raise NoEstimateError(
            "`Stiffness` compares the slopes at two states of one time, and this solver offers neither two "
            "stages at the end of a step nor a second solution. Use a method with an embedded estimate, or "
            "step doubling."
        ) from None
    return like_parts(step.y1, tuple(y - e for y, e in zip(parts(step.y1), errors, strict=True)))
