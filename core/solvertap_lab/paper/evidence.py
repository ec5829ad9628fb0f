"""The runs behind a table, small enough to be kept with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .outcome import Result

_MEASURED = ("metric", "validation", "evaluations", "train_seconds", "predict_milliseconds", "beside", "failure")


def runs_as_csv(results: Sequence[Result]) -> str:
    """One line for each run: which one, and what was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "method", "seed", *_MEASURED, "last_training_solve"])
    for result in results:
        for run in result.runs:
            solve = run.evaluations_by_epoch[-1] if run.evaluations_by_epoch else ""
            measured = [getattr(run, name) for name in _MEASURED]
            writer.writerow([result.experiment.name, run.method, run.seed, *measured, solve])
    return text.getvalue()
