"""Training every run of a comparison that is missing, with a bar for each, and what is kept of it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .results.checkpoint import CheckpointFile
from .results.report import Report
from .training.comparison import Comparison
from .training.run import Run

Place = tuple[str, str, int]


def checkpoints_of(comparison: Comparison, out: Path | None, *, resume: bool) -> dict[Place, CheckpointFile]:
    """That of each run; those that cannot be gone on from are refused now, not after an hour."""
    if out is None:
        return {}
    found = {}
    for backend, method, seed in comparison.runs():
        run = Run(backend.name, method.name, seed, method.penalty())
        found[_place(run)] = CheckpointFile.of(out, comparison, run, resume=resume)
        found[_place(run)].read()
    return found


def _place(run: Run) -> Place:
    return run.backend, run.method, run.seed


def train_missing(
    comparison: Comparison,
    console: Console,
    runs: list[Run],
    out: Path | None,
    checkpoints: Mapping[Place, CheckpointFile],
) -> None:
    """Trains what is not among the runs, adds it to them in order, and writes each as it ends: an hour is not lost."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[evaluations]}"),
        TimeElapsedColumn(),
    )
    order = {(backend.name, method.name, seed): k for k, (backend, method, seed) in enumerate(comparison.runs())}
    done = set(map(_place, runs))
    with Progress(*columns, console=console) as progress:
        for backend, method, seed in comparison.runs():
            place = (backend.name, method.name, seed)
            if place in done:
                continue
            label = f"{backend.name} {method.name}" + (f" seed {seed}" if len(comparison.seeds) > 1 else "")
            task = progress.add_task(label, total=comparison.epochs, evaluations="")
            show = partial(_show, progress, task)
            runs.append(comparison.train(backend, method, seed, show, checkpoints.get(place)))
            # What the folder holds of other methods and seeds stays in front.
            runs.sort(key=lambda run: order.get(_place(run), -1))
            if out is not None:
                Report(comparison, runs).write(out)


def _show(progress: Progress, task: TaskID, epoch: int, evaluations: float) -> None:
    progress.update(task, completed=epoch, evaluations=f"{evaluations:.0f} evaluations a solve")
