"""The oracle of every gradient: central differences of a replay on the frozen grid.

Differences through the adaptive solve would be no oracle: they see the steps change. The formulas are
those of the conformance kit, in NumPy, on states that a replay has rebuilt; none of the code under test is used.
"""

import numpy as np

import solvertap as tap
from solvertap.testing.conformance.formulas import (
    STEPS,
    TakenStep,
    directional_difference,
    mean_over_step,
    measure,
    reduce_steps,
    rms,
    scaled_error,
)

__all__ = [
    "TERMS",
    "TakenStep",
    "assert_gradient_matches",
    "directional_difference",
    "mean_over_step",
    "reduce_steps",
    "rms",
    "scaled_error",
    "total",
    "unit",
    "weighted",
]

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


def unit(name, names=TERMS):
    """The weights by which `weighted` picks one term, so that one program serves all."""
    return tuple(float(name == other) for other in names)


def weighted(chosen, names=TERMS):
    """The sum of the terms of these names, each times its weight."""
    return sum(weight * TERMS[name] for weight, name in zip(chosen, names, strict=True))


def total(name, steps, rtol, atol, norm=rms):
    """What a term of `TERMS` amounts to over the steps."""
    term = TERMS[name]
    values = [measure(name, step, rtol, atol, norm) for step in steps]
    return reduce_steps(values, [step.h for step in steps], term.reduce, term.weigh_by_step)


def assert_gradient_matches(function, parameters, gradient, relative=RELATIVE, seed=0):
    """Along three random directions the gradient gives the difference quotient, and is not trivially zero."""
    scale = np.linalg.norm(gradient)
    assert scale > 0
    rng = np.random.default_rng(seed)
    for _ in range(3):
        direction = rng.normal(size=parameters.shape)
        found = float(gradient @ direction)
        off = [abs(found - directional_difference(function, parameters, direction, h)) for h in STEPS]
        assert min(off) <= relative * scale
