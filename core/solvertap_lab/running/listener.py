"""What is told of runs while they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..training.recipe import Recipe
from ..training.run import Place, Run


@dataclass(frozen=True)
class Task:
    """What every process is told that trains runs of a comparison.

    Attributes:
        recipe: the comparison.
        folder: where results and checkpoints are.
        resume: whether what is there is gone on with.
    """

    recipe: Recipe
    folder: Path
    resume: bool


class Listener(Protocol):
    """Hears of every run what becomes of it."""

    def started(self, place: Place) -> None:
        """It is about to be trained."""
        ...

    def epoch(self, place: Place, epoch: int, evaluations: float) -> None:
        """So many epochs are done; the mean evaluations of a solve in the last one."""
        ...

    def ended(self, place: Place, run: Run) -> None:
        """It has ended, here or elsewhere."""
        ...

    def taken(self, place: Place, by: str) -> None:
        """Another process trains it."""
        ...

    def lost(self, place: Place, why: str) -> None:
        """It has not ended, and its checkpoint stays."""
        ...
