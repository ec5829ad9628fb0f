"""Training every run of a comparison that is missing, with a bar for each."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from solvertap.errors import InvalidInputError

from .results.ledger import Ledger
from .running.cluster import train_on_cluster
from .running.last_pass import measure_times
from .running.listener import Task
from .running.pool import train_in_processes
from .running.unit import PAUSE, train_here
from .training.recipe import Recipe
from .training.run import Place, Run

WORKERS = (
    "processes that train runs side by side, each with its share of the cores; times are measured afterwards, one run "
    "at a time"
)
RAY = (
    "train on a Ray cluster whose machines share --out: its HOST:PORT, `auto` for the one that runs here, or `local` "
    "to start one on this machine"
)


@dataclass(frozen=True)
class Job:
    """What is trained, and by whom.

    Attributes:
        recipe: the comparison.
        ledger: its runs.
        workers: processes on this machine; with 1 it is this one.
        ray: the address of a cluster that is connected, and trains in their place.
    """

    recipe: Recipe
    ledger: Ledger
    workers: int = 1
    ray: str | None = None


def check_workers(workers: int, ray: str | None = None, out: Path | None = None) -> None:
    """Refuses a number of workers that is none, and a cluster without a folder or beside workers.

    Raises:
        InvalidInputError: it is so.
    """
    if workers < 1:
        raise InvalidInputError(f"`--workers` is {workers!r}; give 1 or more.")
    if ray is not None and workers > 1:
        raise InvalidInputError(f"`--ray` trains on a cluster, and `--workers {workers}` here; leave one of them out.")
    if ray is not None and out is None:
        raise InvalidInputError("`--ray` needs a folder that all of its machines share; name it with `--out`.")


def check_checkpoints(ledger: Ledger, folder: Path) -> None:
    """Those that cannot be gone on from are refused now, not after an hour.

    Raises:
        InvalidInputError: there is one.
    """
    for place in ledger.combinations:
        ledger.checkpoint(folder, ledger.fresh(place), resume=ledger.resume).read()


def train_missing(job: Job, console: Console) -> dict[Place, str]:
    """Trains what is missing, and measures the times that wait for it; returns why which runs are lost."""
    ledger = job.ledger
    with ExitStack() as stack:
        folder = ledger.folder
        ledger.refresh()
        if folder is None and job.workers > 1:
            folder = Path(stack.enter_context(TemporaryDirectory()))
        bars = stack.enter_context(Bars(ledger, folder, console))
        while places := [place for place in ledger.missing(folder) if place not in bars.lost_runs]:
            bars.absent.clear()
            _train(job, folder, places, bars)
            if bars.absent:
                time.sleep(PAUSE)
                ledger.refresh()
        if folder is not None:
            measure_times(ledger, folder, console.print)
    return bars.lost_runs


def _train(job: Job, folder: Path | None, places: list[Place], bars: Bars) -> None:
    if job.ray is not None and folder is not None:
        train_on_cluster(Task(job.recipe, folder.resolve(), job.ledger.resume), places, bars)
        return
    if job.workers == 1 or folder is None:
        train_here(job.ledger, folder, places, bars)
    else:
        train_in_processes(Task(job.recipe, folder, job.ledger.resume), places, job.workers, bars)


class Bars:
    """A bar for each run, and what becomes of it.

    Attributes:
        lost_runs: which, and why.
        absent: runs that other processes train.
    """

    def __init__(self, ledger: Ledger, folder: Path | None, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[doing]}"),
            TimeElapsedColumn(),
        )
        self._ledger, self._folder, self._console = ledger, folder, console
        self._progress = Progress(*columns, console=console)
        self._bars: dict[Place, TaskID] = {}
        self.lost_runs: dict[Place, str] = {}
        self.absent: set[Place] = set()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, place: Place) -> None:
        if place not in self._bars:
            backend, method, seed = place
            label = f"{backend} {method}" + (f" seed {seed}" if len(self._ledger.comparison.seeds) > 1 else "")
            self._bars[place] = self._progress.add_task(
                label, total=self._ledger.comparison.epochs, doing="importing, compiling"
            )

    def epoch(self, place: Place, epoch: int, evaluations: float) -> None:
        cost = f"{evaluations:.0f} evaluations a solve"
        doing = cost if epoch < self._ledger.comparison.epochs else f"testing, {cost}"
        self._progress.update(self._bars[place], completed=epoch, doing=doing)

    def ended(self, place: Place, run: Run) -> None:
        self._ledger.add(run)
        last = run.evaluations_by_epoch[-1:]
        doing = "failed" if run.failure else "".join(f"{each:.0f} evaluations a solve" for each in last)
        self._progress.update(self._bars[place], doing=doing)
        self._progress.stop_task(self._bars[place])
        if place in self._ledger.missing(self._folder):
            self.lost(place, "its checkpoint is not here: do all machines share the folder?")

    def taken(self, place: Place, by: str) -> None:
        self.absent.add(place)
        self._progress.update(self._bars[place], doing=f"trained by {by}")

    def lost(self, place: Place, why: str) -> None:
        self.lost_runs[place] = why
        self._progress.update(self._bars[place], doing="lost")
        self._console.print(f"{told(place)} is lost: {why}")


def told(place: Place) -> str:
    """A run in words."""
    backend, method, seed = place
    return f"{backend} {method} (seed {seed})"
