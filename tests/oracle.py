"""The oracle of every gradient: central differences of a replay on the frozen grid.

Differences through the adaptive solve would be no oracle: they see the steps change.
"""

import numpy as np

# Two central differences at h and 2h, combined to order 4 (Richardson). Larger, h would cross the corners of
# max(|y0|, |y1|); smaller, rounding would drown the quotient.
_H = 1e-5


def directional_difference(function, parameters, direction):
    """The derivative of a scalar function of a flat NumPy vector along a direction."""

    def central(h):
        return (function(parameters + h * direction) - function(parameters - h * direction)) / (2 * h)

    return (4 * central(_H) - central(2 * _H)) / 3


def assert_gradient_matches(function, parameters, gradient, relative, seed=0):
    """Along three random directions the gradient gives the difference quotient, and is not trivially zero."""
    scale = np.linalg.norm(gradient)
    assert scale > 0
    rng = np.random.default_rng(seed)
    for _ in range(3):
        direction = rng.normal(size=parameters.shape)
        expected = directional_difference(function, parameters, direction)
        assert abs(float(gradient @ direction) - expected) <= relative * scale


def reduce_steps(values, steps, reduce, weigh_by_step):
    """What a term amounts to, from the value and the size of each accepted step."""
    weighed = [value * abs(h) for value, h in zip(values, steps, strict=True)] if weigh_by_step else list(values)
    return {"sum": sum(weighed), "mean": sum(weighed) / len(weighed), "max": max(weighed)}[reduce]


def rms(x):
    return np.sqrt(np.mean(np.abs(x) ** 2))


def scaled_error(error, y0, y1, rtol, atol):
    return rms(error / (atol + rtol * np.maximum(np.abs(y0), np.abs(y1))))
