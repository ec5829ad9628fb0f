"""How a weight changes over training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInputError


# Classes, and not functions in a function: those are not pickled, nor equal to one that was made of the same numbers.
@dataclass(frozen=True)
class Constant:
    """A weight that stays as it is."""

    weight: float

    def __call__(self, k: Any) -> float:  # noqa: ARG002  # whatever it is
        return self.weight


@dataclass(frozen=True)
class _Exponential:
    start: float
    stop: float
    steps: float

    def __call__(self, k: Any) -> Any:
        return self.start * (self.stop / self.start) ** (k / self.steps)


def anneal(start: float, stop: float, steps: float) -> Callable[[Any], Any]:
    """The exponential schedule of Pal21: lambda(k) = start exp(-k log(start / stop) / steps).

    Args:
        start: the weight at k = 0, positive.
        stop: the weight at k = `steps`, positive.
        steps: how many epochs (or optimiser steps) k counts.

    Returns:
        A function of k, a number, a tensor or a traced value; beyond `steps` it goes on at the same rate.

    Raises:
        InvalidInputError: one of the three is not positive, or not finite.
    """
    for name, value in (("start", start), ("stop", stop), ("steps", steps)):
        if not 0 < value < float("inf"):
            raise InvalidInputError(f"`{name}` is {value!r}; an exponential schedule needs a positive, finite number.")
    return _Exponential(start, stop, steps)
