"""Dense layers over named weights, in any framework."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .problem import Arrays, Parameters


def dense(rng: np.random.Generator, inputs: int, outputs: int, name: str, time: bool = False) -> Arrays:
    """The weights of one dense layer, Glorot-uniform; with `time`, the time is one more input."""
    bound = np.sqrt(6 / (inputs + time + outputs))
    weights: dict[str, np.ndarray[Any, Any]] = {
        f"{name}.weight": rng.uniform(-bound, bound, (inputs, outputs)),
        f"{name}.bias": np.zeros(outputs),
    }
    if time:
        weights[f"{name}.time"] = rng.uniform(-bound, bound, outputs)
    return weights


def apply(parameters: Parameters, name: str, x: Array, t: Array | None = None) -> Array:
    """A dense layer without its activation: shape (..., inputs) to (..., outputs)."""
    out = x @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]
    return out if t is None else out + t * parameters[f"{name}.time"]


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), in a form that does not overflow, nor does its gradient."""
    return (1 + array_namespace(x).tanh(x / 2)) / 2
