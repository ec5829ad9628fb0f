"""The encoder of Pal21's latent ODE: a gated recurrent unit whose gates are small networks."""

from __future__ import annotations

from functools import partial

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .layers import apply, dense, logistic
from .problem import Arrays, Parameters
from .scanning import scan_backwards

MEMORY = 50
"""The memory is a mean and a spread of so many each, which share their gates."""

_HIDDEN = 40
_NETWORKS = {"update": MEMORY, "reset": MEMORY, "new": 2 * MEMORY}


def memory_weights(rng: np.random.Generator, features: int) -> Arrays:
    """The weights of three networks, which read memory, values, mask and gap: of both gates, and of the new memory.

    The hidden layers stand side by side, apart for the memory and for the rest, which is read at all times at once.
    """
    read = 2 * MEMORY + 2 * features + 1
    hidden = np.concatenate([dense(rng, read, _HIDDEN, "hidden")["hidden.weight"] for _ in _NETWORKS], axis=1)
    weights = {
        "read.weight": hidden[2 * MEMORY :],
        "read.bias": np.zeros(3 * _HIDDEN),
        "gates.memory": hidden[: 2 * MEMORY, : 2 * _HIDDEN],
        "new.memory": hidden[: 2 * MEMORY, 2 * _HIDDEN :],
    }
    for name, size in _NETWORKS.items():
        weights |= dense(rng, _HIDDEN, size, name)
    return weights


def read_backwards(parameters: Parameters, values: Array, mask: Array) -> Array:
    """The memory after series were read from the last time to the first: shape (batch, 2 * MEMORY).

    Args:
        parameters: with those of `memory_weights`.
        values: shape (times, batch, features), 0 where nothing was observed; the times are equally far apart.
        mask: 1 where something was observed, 0 elsewhere; the same shape.
    """
    xp = array_namespace(values)
    times, batch, _ = values.shape
    gap = xp.ones_like(values[1:, :, :1]) / (times - 1)
    gap = xp.concat([gap, xp.zeros_like(gap[:1])], axis=0)  # to the next time, of which the last has none
    # The code sums the gap along with the mask: only at the last time does it pass over a patient it sees nothing of.
    seen = xp.astype(xp.sum(mask, axis=2, keepdims=True) + gap > 0, values.dtype)
    read = apply(parameters, "read", xp.concat([values, mask, gap], axis=2))
    memory = xp.zeros((batch, 2 * MEMORY), dtype=values.dtype)
    return scan_backwards(partial(_read_one, parameters), memory, (read, seen))


def _read_one(parameters: Parameters, memory: Array, at_time: tuple[Array, Array]) -> Array:
    xp = array_namespace(memory)
    read, seen = at_time
    hidden = xp.tanh(memory @ parameters["gates.memory"] + read[:, : 2 * _HIDDEN])
    update = _gate(apply(parameters, "update", hidden[:, :_HIDDEN]))
    reset = _gate(apply(parameters, "reset", hidden[:, _HIDDEN:]))
    hidden = xp.tanh((memory * reset) @ parameters["new.memory"] + read[:, 2 * _HIDDEN :])
    return memory + seen * (1 - update) * (apply(parameters, "new", hidden) - memory)


def _gate(x: Array) -> Array:
    gate = logistic(x)
    return array_namespace(x).concat([gate, gate], axis=1)
