"""Solves of a training that somebody else's trainer runs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ..observing.regularize import regularize
from .log import Log, Solved


class Training(Log):
    """The counts of the solves of a training since the last `take`, and a term that is added to them.

    Args:
        term: as for `regularize`: a term to add, or its text; None only counts.
    """

    def __init__(self, term: Any = None) -> None:
        super().__init__()
        self._regularizer = regularize(term)
        self._regularizer._begun = True  # no warning if it never starts: a trainer need not train
        self._counts: defaultdict[str, list[float]] = defaultdict(list)

    def begin(self) -> None:
        """Begins, whole or not at all."""
        self._regularizer.start()
        try:
            self.__enter__()
        except BaseException:
            self._regularizer.stop()
            raise

    def end(self) -> None:
        """Ends; nothing where it has not begun."""
        if self._regularizer.at_work:
            try:
                self.__exit__()
            finally:
                self._regularizer.stop()

    def write(self, solved: Solved) -> None:
        self.write_budget({name: float(value) for name, value in solved.scalars().items()})

    def write_budget(self, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self._counts[name].append(value)

    def take(self) -> dict[str, float]:
        """Returns the mean of each count, and forgets the counts."""
        counts, self._counts = self._counts, defaultdict(list)
        return {name: sum(values) / len(values) for name, values in counts.items()}
