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

_MEASURED = ("metric", "validation", "evaluations", "train_seconds", "predict_milliseconds")
_TIMED = "timed"  # there was none at first
_HOW = ("beside", "day", _TIMED, "timed_after", "failure")
_COLUMNS = ("experiment", "method", "seed", *_MEASURED, *_HOW, "last_training_solve", "setting", "machine")


def runs_as_csv(results: Sequence[Result]) -> str:
    """One line for each run: which one, what was measured, and how."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for result in results:
        for run in result.runs:
            solve = run.evaluations_by_epoch[-1] if run.evaluations_by_epoch else ""
            measured = [getattr(run, name) for name in (*_MEASURED, *_HOW)]
            which = [result.experiment.name, run.method, run.seed]
            writer.writerow([*which, *measured, solve, result.title, result.machine])
    return text.getvalue()


def results_of_csv(text: str) -> list[Result]:
    """The results that `runs_as_csv` wrote.

    Raises:
        InvalidInputError: it holds an experiment that there is none of, or is no such text.
    """
    rows = list(csv.DictReader(io.StringIO(text), restval=""))
    if rows and (lacking := [name for name in _COLUMNS if name not in (*rows[0], _TIMED)]):
        raise InvalidInputError(f"The runs lack {', '.join(lacking)}; give a `runs.csv` as written.")
    experiments = {each.name: each for each in EXPERIMENTS}
    found = []
    for name in dict.fromkeys(row["experiment"] for row in rows):
        if name not in experiments:
            raise InvalidInputError(f"The runs are of {name!r}, which is no experiment; give a `runs.csv` as written.")
        own = [row for row in rows if row["experiment"] == name]
        runs = [_run(row, experiments[name].backend) for row in own]
        result = result_of_runs(experiments[name], runs, own[0]["setting"], own[0]["machine"])
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
        beside=int(row["beside"]),
        day=row["day"],
        timed=row.get(_TIMED, ""),
        timed_after=row["timed_after"] == "True",
        failure=row["failure"] or None,
    )
