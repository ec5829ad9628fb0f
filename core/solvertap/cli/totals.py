"""Sums over the solves of a script, and a thinned series of them: neither grows with their number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from ..solves.injection import Record
from ..solves.stats import Stats
from ..solves.thinned import Thinned

POINTS = 4096
"""A picture shows at most so many solves of a kind. Beyond, every second one is dropped, again and again."""


class Group(NamedTuple):
    """What the solves of one row of the summary share."""

    kind: str
    adapter: str
    method: str


@dataclass
class Totals:
    """Sums over the solves of a script.

    Attributes:
        stats: by group, in the order in which they were first seen.
        penalized: the number of solves with a penalty.
        penalty: the sum of the finite penalties; `known` is their number.
        last: the last penalty that is known.
        steps: optimiser steps before the last solve.
    """

    stats: dict[Group, Stats] = field(default_factory=dict)
    penalized: int = 0
    penalty: float = 0.0
    known: int = 0
    last: float | None = None
    steps: int = 0

    def add(self, record: Record, penalty: float | None) -> None:
        """Adds one solve."""
        group = Group(record.kind, record.adapter, record.method)
        self.stats[group] = self.stats.get(group, Stats()) + record.stats
        self.steps = record.k
        if record.penalty is None or (record.left_out and penalty == 0):  # the term was refused at every step
            return
        self.penalized += 1
        if penalty is not None:
            self.last = penalty
            if math.isfinite(penalty):
                self.penalty += penalty
                self.known += 1


class Point(NamedTuple):
    """One solve in a picture.

    Attributes:
        n: the number of solves before it.
        evaluations: of one solve; None if they are not known.
        penalty: None if there was none.
    """

    n: int
    evaluations: float | None
    penalty: float | None


class Series:
    """Points by kind, at most `POINTS` of each: thinned by kind, since kinds may take turns."""

    def __init__(self) -> None:
        self._kinds: dict[str, Thinned[Point]] = {}
        self._n = 0

    @property
    def kinds(self) -> dict[str, list[Point]]:
        """The points of each kind."""
        return {kind: points.kept for kind, points in self._kinds.items()}

    def add(self, record: Record, penalty: float | None) -> None:
        """Adds one solve."""
        stats = record.stats
        each = None if stats.evaluations is None or not stats.solves else stats.evaluations / stats.solves
        self._kinds.setdefault(record.kind, Thinned(POINTS)).add(Point(self._n, each, penalty))
        self._n += 1
