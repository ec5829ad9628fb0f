"""Solves in Aim."""

from __future__ import annotations

from typing import Any

from .log import Log, Solved


class AimLog(Log):
    """Tracks `solvertap/forward/evaluations` and so on, over the number of solves.

    Args:
        run: an `aim.Run`. It stays open.
    """

    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run

    def write(self, solved: Solved) -> None:
        self._run.track(solved.scalars(), step=solved.solve)

    def write_budget(self, scalars: dict[str, float]) -> None:
        self._run.track(scalars, step=self._solves)
