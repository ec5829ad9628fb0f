"""The callbacks of a compiled program into `regularize`."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solvertap.adapting import Injection


class Host:
    """The callbacks of a compiled program. They outlive the block in which it was compiled."""

    def __init__(self, injection: Injection, structure: Any) -> None:
        self.injection = injection
        self.by = injection.by
        self.structure = structure  # of the counts; unknown counts, None, are no leaves
        self.counts = structure.num_leaves
        self.terms = len(injection.terms)
        self.recorded = self.counts + self.terms  # numbers for `record`
        self.site = _site()
        self.dtype = jnp.result_type(float)
        self.carried = False  # by an untraced pass

    def record(self, training: bool, *numbers: Any) -> None:
        """Records a solve, or a batch of solves."""
        if self.injection.by.at_work:
            stats = jax.tree.unflatten(self.structure, map(int, numbers[: self.counts]))
            self.injection.record(training, stats, numbers[self.counts :])

    def count(self) -> None:
        """Notes that a backward pass has reached the solve."""
        if self.injection.by.at_work:
            self.injection.by.passed_backward(self.site)

    def weights(self) -> Any:
        """The weights of the terms for the running backward pass, which carries the penalty."""
        self.count()
        weights = [0.0] * self.terms
        if self.injection.by.at_work:
            weights = self.injection.weights()
            self.injection.carried()
        return np.asarray(weights, self.dtype)


def _site() -> int:
    """A hash of the solve's place in the caller's code, the same for every trace of it."""
    places: list[Any] = []
    frame: Any = sys._getframe()
    while frame is not None:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(places))
