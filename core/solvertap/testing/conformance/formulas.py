"""The formulas of the terms once more, in NumPy, on one step taken from a tableau: none of the code under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Vector = np.ndarray[Any, Any]


@dataclass
class TakenStep:
    """One step taken again: every array a NumPy array.

    a and b are the two states of one time, fa and fb the field there; k are the slopes that the method shows, at
    the nodes c.
    """

    h: float
    y0: Any
    y1: Any
    error: Any
    a: Any
    b: Any
    fa: Any
    fb: Any
    k: Any = None
    c: Any = None


def take(field: Callable[[float, Vector], Vector], tableau: Any, y0: Vector, t0: float, t1: float) -> TakenStep:
    """One step of an explicit method from its tableau."""
    h = t1 - t0
    k: list[Vector] = []
    states: list[Vector] = []
    for c, row in zip(tableau.c, tableau.a, strict=True):
        states.append(y0 + h * _weighted(row, k, y0))
        k.append(field(t0 + c * h, states[-1]))
    y1, error = y0 + h * _weighted(tableau.b, k, y0), h * _weighted(tableau.e, k, y0)
    # Two states at the end of the step: its last two stages; y1 and its last stage; y1 and the second solution.
    if tuple(tableau.c[-2:]) == (1.0, 1.0):
        pair = (states[-1], k[-1]), (states[-2], k[-2])
    elif tableau.c[-1] == 1.0 and not np.allclose(tableau.a[-1], tableau.b, rtol=0, atol=1e-15):
        pair = (y1, field(t1, y1)), (states[-1], k[-1])
    else:
        pair = (y1, field(t1, y1)), (y1 - error, field(t1, y1 - error))
    (a, fa), (b, fb) = pair
    return TakenStep(h, y0, y1, error, a, b, fa, fb, k, np.asarray(tableau.c))


def _weighted(row: Sequence[float], k: Sequence[Vector], like: Vector) -> Vector:
    total = np.zeros_like(like)
    for weight, slope in zip(row, k, strict=False):
        total = total + weight * slope
    return total


def rms(x: Vector) -> Any:
    """The root mean square of the elements."""
    return np.sqrt(np.mean(np.abs(x) ** 2))


def scaled_error(
    error: Vector, y0: Vector, y1: Vector, rtol: float, atol: float, norm: Callable[[Vector], Any] = rms
) -> Any:
    """The error that the solver compares with 1."""
    return norm(error / (atol + rtol * np.maximum(np.abs(y0), np.abs(y1))))


def measure(name: str, step: TakenStep, rtol: float, atol: float, norm: Callable[[Vector], Any] = rms) -> Any:
    """What a term measures on one step."""
    if name in ("local_error", "squared_local_error"):
        scaled = scaled_error(step.error, step.y0, step.y1, rtol, atol, norm)
        return scaled if name == "local_error" else scaled**2
    if name == "stiffness":
        return np.linalg.norm((step.fa - step.fb).ravel()) / np.linalg.norm((step.a - step.b).ravel())
    if name == "kinetic_energy":
        return mean_over_step(step.c, [np.mean(abs(k) ** 2) for k in step.k])
    return np.mean(abs(step.k[-1] - step.k[0]) ** 2) / ((step.c[-1] - step.c[0]) * step.h) ** 2


def mean_over_step(nodes: Vector, values: Sequence[Any]) -> Any:
    """The exact mean over [0, 1] of the line through the values at the nodes, level beyond them."""
    knots = np.unique(nodes)
    at_knots = [np.mean([v for c, v in zip(nodes, values, strict=True) if c == knot]) for knot in knots]
    corners = np.union1d(np.clip(knots, 0, 1), [0, 1])
    return np.trapezoid(np.interp(corners, knots, at_knots), corners)


def reduce_steps(values: Sequence[Any], steps: Sequence[float], reduce: str, weigh_by_step: bool) -> Any:
    """What a term amounts to, from the value and the size of each accepted step."""
    weighed = [value * abs(h) for value, h in zip(values, steps, strict=True)] if weigh_by_step else list(values)
    return {"sum": sum(weighed), "mean": sum(weighed) / len(weighed), "max": max(weighed)}[reduce]


# Two central differences at h and 2h, combined to order 4 (Richardson). Larger, h crosses the corners of
# max(|y0|, |y1|) now and then; smaller, rounding may drown the quotient. Either says the truth where it can.
STEPS = (1e-3, 1e-4, 1e-5)


def directional_difference(function: Callable[[Vector], Any], parameters: Vector, direction: Vector, h: float) -> Any:
    """The derivative of a scalar function of a flat NumPy vector along a direction."""

    def central(h: float) -> Any:
        return (function(parameters + h * direction) - function(parameters - h * direction)) / (2 * h)

    return (4 * central(h) - central(2 * h)) / 3


def distance_from_quotients(function: Callable[[Vector], Any], parameters: Vector, gradient: Vector) -> float:
    """How far a gradient is from difference quotients along random directions, relative to itself; inf for none."""
    scale = float(np.linalg.norm(gradient))
    if not np.isfinite(scale) or scale == 0:
        return float("inf")
    worst = 0.0
    for seed in range(2):
        direction: Vector = np.asarray(np.random.default_rng(seed).normal(size=parameters.shape))
        found = float(gradient @ direction)
        quotients = [directional_difference(function, parameters, direction, step) for step in STEPS]
        off = [abs(found - quotient) for quotient in quotients]
        worst = max(worst, float(min(off)) / scale)
    return worst
