"""Solves in MLflow."""

from __future__ import annotations

import mlflow
from mlflow.entities import Run

from .log import Log, Solved


class MlflowLog(Log):
    """Logs metrics `solvertap/forward/evaluations` and so on, over the number of solves.

    Args:
        run: what `mlflow.start_run` returned, or any run. It stays open.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run.info.run_id

    def write(self, solved: Solved) -> None:
        self._write({name: float(value) for name, value in solved.scalars().items()}, solved.solve)

    def write_budget(self, scalars: dict[str, float]) -> None:
        self._write(scalars, self._solves)

    def _write(self, scalars: dict[str, float], solve: int) -> None:
        # By its number: what is active belongs to a thread, and solves may end on any.
        mlflow.log_metrics(scalars, step=solve, run_id=self._run)
