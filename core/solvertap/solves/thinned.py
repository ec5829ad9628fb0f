"""A part of many values, evenly spread."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """Keeps fewer than `limit` of the values that it is given: every first, second, fourth one and so on.

    Attributes:
        kept: those, in order; the first value is among them.
    """

    def __init__(self, limit: int) -> None:
        self.kept: list[T] = []
        self._limit = limit
        self._stride = 1
        self._seen = 0

    def add(self, value: T) -> None:
        """Takes one more."""
        if self._seen % self._stride == 0:
            self.kept.append(value)
        if len(self.kept) >= self._limit:
            del self.kept[1::2]
            self._stride *= 2
        self._seen += 1
