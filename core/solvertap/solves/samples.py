"""The samples of a batch of solves that take steps of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from array_api_compat import array_namespace, device

from ..steps.arrays import Array, State, parts
from .stats import Stats

T = TypeVar("T")


class Samples(NamedTuple):
    """What is known of the samples of a batch.

    Attributes:
        size: how many there are.
        xp, device: the array library and the device of their states.
    """

    size: int
    xp: Any
    device: Any

    @classmethod
    def of(cls, count: int | None, like: State | None) -> Samples | None:
        """Those of a solve; None where no batch was opened."""
        if count is None or like is None:
            return None
        first = parts(like)[0]
        return cls(count, array_namespace(first), device(first))

    def each(self, stats: Stats) -> Stats:
        """The counts with one entry for each sample, arrays of shape (batch,); a batch is one solve."""
        return Stats(stats.solves, *[self._spread(x) for x in stats[1:]])

    def _spread(self, count: Any) -> Any:
        if count is None or getattr(count, "shape", ()) == (self.size,):
            return count
        return self.xp.full((self.size,), count, device=self.device)

    def over(self, reduction: str, values: Mapping[T, Array]) -> dict[T, Array]:
        """Each value, of shape (batch,), reduced over the samples: their "mean" or "sum"."""
        return {term: getattr(self.xp, reduction)(value, axis=0) for term, value in values.items()}


def on_host(stats: Stats, to_numpy: Callable[[Array], Any]) -> list[Stats]:
    """The counts of each sample as numbers; those of one solve as they are."""
    arrays = [x for x in stats if getattr(x, "ndim", 0)]
    if not arrays:
        return [stats]
    numbers = to_numpy(array_namespace(arrays[0]).stack(arrays)).tolist()  # one transfer
    size, rest = len(numbers[0]), iter(numbers)
    columns = [next(rest) if getattr(x, "ndim", 0) else [x] * size for x in stats]
    return [Stats(*row) for row in zip(*columns, strict=True)]


def summed(stats: Stats, to_numpy: Callable[[Array], Any]) -> Stats:
    """The counts of all samples together, as numbers, each a solve of its own; those of one solve as they are."""
    first, *others = on_host(stats, to_numpy)
    for other in others:
        first += other
    return first
