"""The unit of work: one run, in a folder that it may share with others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from solvertap.errors import InvalidInputError

from ..results.checkpoint import LOCK, PREFIX
from ..results.ledger import Ledger
from ..results.lock import Lock, holder, is_here
from ..training.run import Place, Run
from .listener import Listener, Task

MEASURING = ".measuring.lock"
PAUSE = 0.5


@dataclass(frozen=True)
class Taken:
    """A run that another process trains.

    Attributes:
        by: which process.
    """

    by: str


def train_here(ledger: Ledger, folder: Path | None, places: list[Place], listener: Listener) -> None:
    """Trains runs in this process, one after the other. Without a folder, nothing is kept of them on the way."""
    for place in places:
        if folder is not None and _known(ledger, place, folder):
            continue  # another process was faster
        listener.started(place)
        on_epoch = partial(listener.epoch, place)
        if folder is None:
            listener.ended(place, ledger.comparison.train(*ledger.combinations[place], on_epoch))
            continue
        outcome = train_in(folder, ledger, place, on_epoch, keep=partial(listener.ended, place))
        if isinstance(outcome, Taken):
            listener.taken(place, outcome.by)


def train_in(
    folder: Path,
    ledger: Ledger,
    place: Place,
    on_epoch: Callable[[int, float], None],
    *,
    keep: Callable[[Run], None] | None = None,
    times_later: bool = False,
) -> Run | Taken:
    """Trains a run, unless another process does, or has done so by now.

    Args:
        folder: of the checkpoints.
        ledger: what is known of the comparison.
        place: which run.
        on_epoch, times_later: as in `Comparison.train`.
        keep: what is done with the run before others may train it.
    """
    checkpoint = ledger.checkpoint(folder, ledger.fresh(place), resume=ledger.resume)
    _wait_while_others_measure(folder)
    lock = checkpoint.lock()
    if not lock.acquire():
        return Taken(holder(lock.path) or "another process")
    try:
        checkpoint.tidy()
        run = _known(ledger, place, folder) or ledger.comparison.train(
            *ledger.combinations[place], on_epoch, checkpoint, partial(_beside, folder), times_later=times_later
        )
        if keep is not None:
            keep(run)
        return run
    finally:
        lock.release()


def train_and_send(
    send: Callable[[str, tuple[Any, ...]], None], ledger: Ledger, task: Task, place: Place
) -> tuple[str, tuple[Any, ...]]:
    """Trains a run for another process, which measures its times: what is sent, and returned, is for its listener."""

    def on_epoch(epoch: int, evaluations: float) -> None:
        send("epoch", (epoch, evaluations))

    outcome = train_in(task.folder, ledger, place, on_epoch, times_later=True)
    return ("taken", (outcome.by,)) if isinstance(outcome, Taken) else ("ended", (outcome,))


def busy_here(folder: Path) -> list[str]:
    """Who trains a run in the folder, on this machine."""
    holders = [holder(path) for path in folder.glob(f"{PREFIX}*{LOCK}")]
    return [each for each in holders if each is not None and is_here(each)]


@contextmanager
def session(folder: Path | None, *, resume: bool) -> Iterator[None]:
    """As long as a command works in a folder: it is alone there, or with `--resume` among others that have it.

    Raises:
        InvalidInputError: another process is at work there.
    """
    if folder is None:
        yield
        return
    lock = Lock(folder / ".session.lock")
    if not lock.acquire(shared=resume):
        raise InvalidInputError(
            f"`--out` is {str(folder)!r}, where {holder(lock.path) or 'another process'} is at work; give another "
            "folder, or wait: processes share a folder where all of them have `--resume`."
        )
    try:
        yield
    finally:
        lock.release()


def _known(ledger: Ledger, place: Place, folder: Path) -> Run | None:
    """What another process has made of the run since."""
    ledger.refresh()
    if place in ledger.missing(folder):
        return None
    return next(run for run in ledger.runs if run.place == place)


def _beside(folder: Path) -> int:
    return max(0, len(busy_here(folder)) - 1)  # itself


def _wait_while_others_measure(folder: Path) -> None:
    while is_here(holder(folder / MEASURING)):
        time.sleep(PAUSE)
