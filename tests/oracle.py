"""The oracle of every gradient: central differences of a replay on the frozen grid.

Differences through the adaptive solve would be no oracle: they see the steps change. The formulas here are the
tests' own, in NumPy, on states that a replay has rebuilt; none of the code under test is used.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

import solvertap as tap

# Two central differences at h and 2h, combined to order 4 (Richardson). Larger, h crosses the corners of
# max(|y0|, |y1|) now and then; smaller, rounding may drown the quotient. Either says the truth where it can.
_H = (1e-4, 1e-5)

# The promise: automatic differentiation against the quotients, relative to the gradient, in float64.
RELATIVE = 1e-6

# Every term there is, each with another reduction, so that none is tested with one alone.
TERMS = {
    "local_error": tap.LocalError(),
    "stiffness": tap.Stiffness(reduce="mean"),
    "squared_local_error": tap.SquaredLocalError(reduce="max"),
    "kinetic_energy": tap.KineticEnergy(),
    "slope_change": tap.SlopeChange(reduce="mean"),
}


@dataclass
class Counts:
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


def rms(x):
    return np.sqrt(np.mean(np.abs(x) ** 2))


def measure(name, step, rtol, atol, norm=rms):
    """What a term measures on one step."""
    if name in ("local_error", "squared_local_error"):
        scaled = scaled_error(step.error, step.y0, step.y1, rtol, atol, norm)
        return scaled if name == "local_error" else scaled**2
    if name == "stiffness":
        return np.linalg.norm((step.fa - step.fb).ravel()) / np.linalg.norm((step.a - step.b).ravel())
    if name == "kinetic_energy":
        return mean_over_step(step.c, [np.mean(abs(k) ** 2) for k in step.k])
    return np.mean(abs(step.k[-1] - step.k[0]) ** 2) / ((step.c[-1] - step.c[0]) * step.h) ** 2


def mean_over_step(nodes, values):
    """The exact mean over [0, 1] of the line through the values at the nodes, level beyond them."""
    knots = np.unique(nodes)
    at_knots = [np.mean([v for c, v in zip(nodes, values, strict=True) if c == knot]) for knot in knots]
    corners = np.union1d(np.clip(knots, 0, 1), [0, 1])
    return np.trapezoid(np.interp(corners, knots, at_knots), corners)


def total(name, steps, rtol, atol, norm=rms):
    """What a term of `TERMS` amounts to over the steps."""
    term = TERMS[name]
    values = [measure(name, step, rtol, atol, norm) for step in steps]
    return reduce_steps(values, [step.h for step in steps], term.reduce, term.weigh_by_step)


def directional_difference(function, parameters, direction, h):
    """The derivative of a scalar function of a flat NumPy vector along a direction."""

    def central(h):
        return (function(parameters + h * direction) - function(parameters - h * direction)) / (2 * h)

    return (4 * central(h) - central(2 * h)) / 3


def assert_gradient_matches(function, parameters, gradient, relative=RELATIVE, seed=0):
    """Along three random directions the gradient gives the difference quotient, and is not trivially zero."""
    scale = np.linalg.norm(gradient)
    assert scale > 0
    rng = np.random.default_rng(seed)
    for _ in range(3):
        direction = rng.normal(size=parameters.shape)
        found = float(gradient @ direction)
        off = [abs(found - directional_difference(function, parameters, direction, h)) for h in _H]
        assert min(off) <= relative * scale


def reduce_steps(values, steps, reduce, weigh_by_step):
    """What a term amounts to, from the value and the size of each accepted step."""
    weighed = [value * abs(h) for value, h in zip(values, steps, strict=True)] if weigh_by_step else list(values)
    return {"sum": sum(weighed), "mean": sum(weighed) / len(weighed), "max": max(weighed)}[reduce]


def scaled_error(error, y0, y1, rtol, atol, norm=rms):
    return norm(error / (atol + rtol * np.maximum(np.abs(y0), np.abs(y1))))
