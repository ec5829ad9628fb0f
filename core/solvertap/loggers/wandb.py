"""Solves in Weights & Biases."""

from __future__ import annotations

from typing import Any

from .log import Log, Solved


class WandbLog(Log):
    """Logs `solvertap/forward/evaluations` and so on together with what the run logs next.

    Args:
        run: what `wandb.init` returned, online or offline. It stays open.
    """

    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run

    def write(self, solved: Solved) -> None:
        # Not committed: the counts belong to the step that the training code logs next.
        self._run.log(solved.scalars(), commit=False)

    def write_budget(self, scalars: dict[str, float]) -> None:
        self._run.log(scalars, commit=False)
