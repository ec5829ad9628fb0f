"""What a compiled program calls of `regularize`."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solvertap.adapting import Injection


class Host:
    """What the compiled program calls, which lives longer than the block that it was compiled in."""

    def __init__(self, injection: Injection, structure: Any) -> None:
        self.injection = injection
        self.structure = structure  # of the counts, where those that nobody tells are no leaves
        self.counts = structure.num_leaves
        self.terms = len(injection.terms)
        self.told = self.counts + self.terms
        self.site = _site()
        self.dtype = jnp.result_type(float)
        self.carried = False  # by a pass that nothing traces

    def record(self, training: bool, *told: Any) -> None:
        """Records a solve, or a batch of them."""
        if self.injection.by.at_work:
            stats = jax.tree.unflatten(self.structure, map(int, told[: self.counts]))
            self.injection.record(training, stats, told[self.counts :])

    def count(self) -> None:
        """Says that a backward pass has come to the solve."""
        if self.injection.by.at_work:
            self.injection.by.passed_backward(self.site)

    def weights(self) -> Any:
        """The weights of the terms for the backward pass that is at work, which carries the penalty."""
        self.count()
        weights = [0.0] * self.terms
        if self.injection.by.at_work:
            weights = self.injection.weights()
            self.injection.carried()
        return np.asarray(weights, self.dtype)


def _site() -> int:
    """Where in the caller's code the solve stands, the same whenever that is traced anew."""
    places: list[Any] = []
    frame: Any = sys._getframe()
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(places))
