"""What a trained model predicts, and what that takes."""

from __future__ import annotations

from ..problems.problem import Problem
from .run import Run
from .trainer import Trainer


def predict(trainer: Trainer, problem: Problem, run: Run) -> None:
    """Notes the metric of the test data, the counts and the trace of its solve, and the validation metric."""
    batch, validation = problem.test_batch(), problem.validation_batch()
    run.metric, stats = trainer.predict(batch)
    run.evaluations, run.accepted, run.rejected = stats.evaluations, int(stats.accepted), int(stats.rejected)
    run.trace = {name: column.tolist() for name, column in trainer.trace(batch).items()}
    if validation is not None:
        run.validation = trainer.predict(validation, "validation")[0]
