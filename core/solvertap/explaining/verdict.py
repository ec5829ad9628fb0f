"""What limits the steps of a solve, with the numbers that say so, and what to do."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """One illness of a solve.

    Attributes:
        illness: its name, one of `explain.ILLNESSES`.
        finding: what was found, with the numbers.
        remedy: what to do.
        share: the part of the attempted steps that it concerns, from 0 to 1.
    """

    illness: str
    finding: str
    remedy: str
    share: float


def percent(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.0f} %"
