"""The runs behind a table, small enough to be kept with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from solvertap.errors import InvalidInputError

from ..training.run import Run
from .experiments import EXPERIMENTS
from .outcome import Result, result_of_runs

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


def results_of_csv(text: str) -> list[Result]:
    """The results that `runs_as_csv` wrote, without their titles: what the picture shows.

    Raises:
        InvalidInputError: it holds an experiment that there is none of, or is no such text.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    experiments = {each.name: each for each in EXPERIMENTS}
    found = []
    for name in dict.fromkeys(row.get("experiment", "") for row in rows):
        if name not in experiments:
            raise InvalidInputError(f"The runs are of {name!r}, which is no experiment; give a `runs.csv` as written.")
        runs = [_run(row, experiments[name].backend) for row in rows if row["experiment"] == name]
        result = result_of_runs(experiments[name], runs)
        found += [] if result is None else [result]
    return found


def _run(row: dict[str, str], backend: str) -> Run:
    def number(name: str) -> Any:
        return float(row[name]) if row[name] else None

    return Run(
        backend=backend,
        method=row["method"],
        seed=int(row["seed"]),
        metric=number("metric") or 0.0,
        validation=number("validation"),
        evaluations=int(row["evaluations"]) if row["evaluations"] else None,
        train_seconds=number("train_seconds") or 0.0,
        predict_milliseconds=number("predict_milliseconds") or 0.0,
        evaluations_by_epoch=[number("last_training_solve")] if row["last_training_solve"] else [],
        failure=row["failure"] or None,
    )
