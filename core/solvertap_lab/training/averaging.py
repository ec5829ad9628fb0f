"""The mean of a model's weights over its last epochs, for problems whose last weights are noise."""

from __future__ import annotations

from collections.abc import Callable

from ..problems.problem import Arrays


class Averaging:
    """The mean of the weights after each of the last epochs.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992): the last weights carry the
    noise of their last steps, of which the mean carries little.

    Args:
        share: of the epochs, between 0 and 1; with 0 nothing is averaged.
        epochs: of the whole training.

    Attributes:
        mean: by name; empty where no epoch is taken yet.
    """

    def __init__(self, share: float, epochs: int) -> None:
        self.first = epochs - round(share * epochs)
        self.mean: Arrays = {}

    def take(self, epoch: int, read: Callable[[], Arrays]) -> None:
        """Takes the weights after an epoch, counted from 0, into the mean; those of earlier epochs are not read."""
        taken = epoch - self.first
        if taken == 0:
            self.mean = read()
        elif taken > 0:
            weights = read()
            self.mean = {name: mean + (weights[name] - mean) / (taken + 1) for name, mean in self.mean.items()}
