"""Why solves went without an optional term, and how many did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


class LeftOut(dict[str, int]):
    """For each reason, how many solves went without a term; 0 until the first of them has run."""

    def __init__(self) -> None:
        super().__init__()
        self._of_trace: dict[object, tuple[str, ...]] = {}

    def expect(self, reason: str) -> None:
        """Says that solves will go without a term for this reason."""
        self.setdefault(reason, 0)

    def count(self, reasons: Iterable[str], solves: int) -> None:
        """Says that so many solves went without one for these reasons."""
        for reason in reasons:
            self[reason] = self.get(reason, 0) + solves

    def of_trace(self, key: object, refusals: Refusals) -> tuple[str, ...]:
        """The reasons in a solve that may have been traced before, when the term was measured last.

        Args:
            key: equal for solves that are traced alike.
            refusals: those of the solve at hand.
        """
        if refusals.measured:
            self._of_trace[key] = tuple(refusals.reasons)
        return self._of_trace.get(key, ())


@dataclass
class Refusals:
    """What one optional term was refused for in one solve.

    Attributes:
        left_out: where the reasons are counted over all solves.
        reasons: each once.
        measured: whether it was measured at all: a compiled solve is traced once, and runs again untraced.
    """

    left_out: LeftOut
    reasons: dict[str, None] = field(default_factory=dict)
    measured: bool = False

    def note(self, reason: str) -> None:
        """Notes that the term was refused."""
        self.reasons[reason] = None
        self.left_out.expect(reason)
