"""The reference steps that every framework takes under `observe(..., align=True)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from ..steps.arithmetic import along, mean_square, safe_sqrt
from ..steps.arrays import Array, State, parts


def initial_step(
    field: Callable[[Array, State], State],
    t0: Array,
    y0: State,
    direction: Array,
    order: int,
    rtol: Array,
    atol: Array,
    norm: Callable[[State], Array] | None = None,
) -> Array:
    """A first step size h > 0, `Float[Array, ""]`, by two evaluations of the field.

    The rule of Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, section II.4 ("Starting Step
    Size"), with the exponent and the thresholds of torchdiffeq (misc.py::_select_initial_step), which is the
    reference here. It is not differentiated: the caller holds the result constant.

    Args:
        field: maps (t, y) to the slope.
        t0, y0: where the solve starts: `Float[Array, ""]` and `Inexact[Array, "*state"]`, or a tuple of such.
        direction: 1 forwards in time, -1 backwards.
        order: the order of the method.
        rtol, atol: the tolerances of the solve.
        norm: as for `Step.norm`. Of a batch whose samples take steps of their own it has one number for each sample,
            and so has the step size.
    """
    start = parts(y0)
    xp = array_namespace(*start)
    scale = [atol + rtol * abs(y) for y in start]

    def size(state: tuple[Array, ...]) -> Array:
        scaled = tuple(x / s for x, s in zip(state, scale, strict=True))
        return safe_sqrt(mean_square(scaled)) if norm is None else norm(scaled if isinstance(y0, tuple) else scaled[0])

    slope = parts(field(t0, y0))
    d0, d1 = size(start), size(slope)
    one = xp.ones_like(d0)
    tiny = (d0 < 1e-5) | (d1 < 1e-5)
    h0 = xp.where(tiny, 1e-6 * one, 0.01 * d0 / xp.where(tiny, one, d1))
    ahead = tuple(y + along(direction * h0, y) * k for y, k in zip(start, slope, strict=True))
    slope_ahead = parts(field(t0 + direction * h0, ahead if isinstance(y0, tuple) else ahead[0]))
    d2 = size(tuple(b - a for a, b in zip(slope, slope_ahead, strict=True))) / h0
    flat = (d1 <= 1e-15) & (d2 <= 1e-15)
    steepest = xp.where(flat, one, xp.maximum(d1, d2))
    h1 = xp.where(flat, xp.maximum(1e-6 * one, 1e-3 * h0), (0.01 / steepest) ** (1 / order))
    return xp.minimum(100 * h0, h1)


def step_factor(error: Any, order: float) -> Any:
    """The factor from an attempted step to the next: an integral controller, limited to 0.2 ... 10.

    The rule of Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, eq. II.4.13, in the form of
    torchdiffeq (misc.py::_optimal_step_size) and of diffrax's default `PIDController`: an accepted step does not
    shrink the next.

    Args:
        error: the scaled local error of the attempt; it was accepted if it is at most 1. A number, or an array with
            one for each sample of a batch.
        order: the order of that error in h; for an SDE, the strong order plus one half.
    """
    if not isinstance(error, int | float):
        xp = array_namespace(error)
        factor = 0.9 / xp.where(error == 0, xp.ones_like(error), error) ** (1 / order)
        least = xp.where(error < 1, xp.ones_like(error), xp.full_like(error, 0.2))
        most = xp.full_like(error, 10.0)
        return xp.where(error == 0, most, xp.minimum(most, xp.maximum(factor, least)))
    if error == 0:
        return 10.0
    return float(min(10.0, max(0.9 / error ** (1 / order), 1.0 if error < 1 else 0.2)))
