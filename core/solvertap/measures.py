"""What is measured on one step: the formulas, each written once, each safe at zero.

They are written against the array API standard, so that NumPy, torch and JAX run the same lines. A square
root at zero has an infinite derivative, and an exactly zero error is common (a linear field, a constant
state): every root and quotient here has the value 0 and the gradient 0 there, while a NaN stays a NaN.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, Literal

from array_api_compat import array_namespace

from .errors import NoEstimateError, NoToleranceError
from .step import Array, State, Step, parts

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
    errors = _errors(step)
    if scale == "tolerance":
        rtol = step.rtol if rtol is None else rtol
        atol = step.atol if atol is None else atol
        if rtol is None or atol is None:
            raise NoToleranceError(
                "`LocalError` scales the error by the tolerance of the solve, and this solve has none; "
                'give `LocalError(rtol=..., atol=...)`, or ask for the unscaled error with `scale="raw"`.'
            )
        xp = array_namespace(*errors)
        errors = tuple(
            error / (atol + rtol * xp.maximum(xp.abs(y0), xp.abs(y1)))
            for error, y0, y1 in zip(errors, parts(step.y0), parts(step.y1), strict=True)
        )
    if step.norm is None:
        return safe_sqrt(mean_square(errors))
    return _guarded(step.norm, errors, like=_structure(step.y1))


def stiffness(step: Step) -> Array:
    """S = ||f(t1, a) - f(t1, b)|| / ||a - b||, about the largest |eigenvalue| of the Jacobian: a real scalar.

    The two states a and b at the one time t1 are those of the last two stages where both stand there
    (Dormand-Prince, Tsitouras), so that S costs nothing but two norms; elsewhere a = y1 and b is the solver's
    second solution, and S costs two evaluations of the field. Shampine, Stiffness and nonstiff differential
    equation solvers II, ACM Trans. Math. Softw. 3 (1977); Hairer and Wanner, Solving Ordinary Differential
    Equations II, section IV.2.

    Raises:
        NoEstimateError: the step has neither two stages at its end nor a second solution and a field.
    """
    if step.stages is not None:
        slopes, states = step.stages.last_two()
        # The stages multiply h: their difference in state is h times what `last_two` contracts.
        return safe_ratio(mean_square(slopes), mean_square(states)) / abs(step_size(step))
    if step.field is None:
        raise NoEstimateError(
            "`Stiffness` compares the slopes at two states of one time, and this solver offers neither two "
            "stages at the end of a step nor its field; use a solver with an embedded estimate."
        )
    embedded = _embedded(step)
    slopes = tuple(
        a - b for a, b in zip(parts(step.field(step.t1, step.y1)), parts(step.field(step.t1, embedded)), strict=True)
    )
    states = tuple(a - b for a, b in zip(parts(step.y1), parts(embedded), strict=True))
    return safe_ratio(mean_square(slopes), mean_square(states))


def step_size(step: Step) -> Array:
    """|t1 - t0| as a scalar of the state's own real dtype, so that float64 times do not widen a float32 penalty."""
    like = parts(step.y1)[0]
    xp = array_namespace(like)
    return abs(xp.asarray(step.h, dtype=real_dtype(like)))


def mean_square(state: State) -> Array:
    """The mean of |x|^2 over every element of every part; 0 where there is no element."""
    arrays = parts(state)
    sizes = [math.prod(x.shape) for x in arrays]
    total = sum(sizes)
    if total == 0:
        return array_namespace(*arrays).sum(abs(arrays[0]))
    means = [
        array_namespace(x).mean(_square(x)) * (size / total) for x, size in zip(arrays, sizes, strict=True) if size
    ]
    return reduce(operator.add, means)


def safe_sqrt(x: Array) -> Array:
    """The square root of x >= 0, with value 0 and derivative 0 at 0."""
    xp = array_namespace(x)
    nonzero = x != 0
    return xp.where(nonzero, xp.sqrt(xp.where(nonzero, x, xp.ones_like(x))), xp.zeros_like(x))


def safe_ratio(numerator: Array, denominator: Array) -> Array:
    """sqrt(numerator / denominator) of two mean squares, with value 0 and derivative 0 where either is 0."""
    xp = array_namespace(numerator, denominator)
    nonzero = denominator != 0
    quotient = numerator / xp.where(nonzero, denominator, xp.ones_like(denominator))
    return safe_sqrt(xp.where(nonzero, quotient, xp.zeros_like(quotient)))


def real_dtype(x: Array) -> Any:
    """The dtype of |x|."""
    xp = array_namespace(x)
    return {xp.complex64: xp.float32, xp.complex128: xp.float64}.get(x.dtype, x.dtype)


def _square(x: Array) -> Array:
    # |x|^2 without |x|, whose derivative at a complex zero is not defined.
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "complex floating"):
        return xp.real(x) ** 2 + xp.imag(x) ** 2
    return x * x


def _guarded(norm: Callable[[State], Array], state: tuple[Array, ...], like: Callable[..., State]) -> Array:
    # Nobody's norm is ours to make safe at zero, but where the whole state is zero it can be fed ones instead.
    xp = array_namespace(*state)
    nonzero = mean_square(state) != 0
    value = norm(like(tuple(xp.where(nonzero, x, xp.ones_like(x)) for x in state)))
    return xp.where(nonzero, value, xp.zeros_like(value))


def _structure(state: State) -> Callable[[tuple[Array, ...]], State]:
    return (lambda arrays: arrays) if isinstance(state, tuple) else (lambda arrays: arrays[0])


def _errors(step: Step) -> tuple[Array, ...]:
    if step.error is not None:
        return parts(step.error)
    if step.y1_embedded is None:
        raise NoEstimateError(
            "The local error was asked for, and this solver estimates none; use a method with an embedded "
            "estimate, or step doubling."
        )
    return tuple(a - b for a, b in zip(parts(step.y1), parts(step.y1_embedded), strict=True))


def _embedded(step: Step) -> State:
    if step.y1_embedded is not None:
        return step.y1_embedded
    errors = _errors(step)
    return _structure(step.y1)(tuple(y - e for y, e in zip(parts(step.y1), errors, strict=True)))
