"""Where a problem gets its random numbers from."""

from __future__ import annotations

from typing import Protocol

from solvertap.steps.arrays import Array


class Key(Protocol):
    """Random numbers of the framework that trains, in the precision that it trains in.

    Every call draws new ones. A seed of the command line gives the same numbers again in the same framework, and other
    numbers in another. In JAX the key is good inside the call that was given it, and no longer.
    """

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normal numbers."""
        ...

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Numbers from 0 to 1, without 1."""
        ...
