"""Several processes on this machine, each of which trains one run after the other.

Not joblib: where one process of its pool is killed, all runs of the pool are lost. Here it is that one.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import Any

from ..results.ledger import Ledger
from ..training.run import Place
from .listener import Listener, Task
from .threads import for_children, share_of_cores
from .unit import train_and_send

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the thread pools of the frameworks, without threads
_PATIENCE = 10


class _Worker:
    """A process, and the run that it has been given last."""

    def __init__(self, task: Task, workers: int) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_work, args=(theirs, task), daemon=True)
        with for_children(share_of_cores(workers)):
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        self.place: Place | None = None

    def give(self, place: Place) -> None:
        self.place = place
        self.connection.send(place)

    def read(self) -> tuple[str, tuple[Any, ...]]:
        """What it says of its run; that the run is lost, where the process has ended."""
        try:
            found: tuple[str, tuple[Any, ...]] = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(_PATIENCE)
            return "lost", (f"its process {_how_it_ended(self.process.exitcode)}",)
        return found

    def end(self) -> None:
        self.connection.close()
        if self.place is not None:
            self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def train_in_processes(task: Task, places: list[Place], workers: int, listener: Listener) -> None:
    """Trains runs in so many processes. One that is killed loses its own run, and another takes its place.

    Args:
        task: the comparison and the folder.
        places: which runs.
        workers: how many at a time.
        listener: is told of each.
    """
    todo = deque(places)
    crew: list[_Worker] = []
    try:
        while todo or crew:
            while todo and len(crew) < workers:
                crew.append(_Worker(task, workers))
                _give(crew[-1], todo, listener)
            ready = wait([worker.connection for worker in crew])
            for worker in [each for each in crew if each.connection in ready]:
                _hear(worker, todo, listener)
                if worker.place is None:
                    crew.remove(worker)
                    worker.end()
    finally:
        for worker in crew:
            worker.process.terminate()  # all of them first, and then each is waited for
        for worker in crew:
            worker.end()


def _give(worker: _Worker, todo: deque[Place], listener: Listener) -> None:
    place = todo.popleft()
    listener.started(place)
    worker.give(place)


def _hear(worker: _Worker, todo: deque[Place], listener: Listener) -> None:
    assert worker.place is not None
    what, values = worker.read()
    getattr(listener, what)(worker.place, *values)
    if what != "epoch":
        worker.place = None
        if todo and worker.process.is_alive():
            _give(worker, todo, listener)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _work(connection: Connection[Any, Any], task: Task) -> None:
    """What a process does: it trains what it is given until there is no more, or nobody listens."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, after which nothing lies about half written
    ledger = None
    try:
        while True:
            place = connection.recv()
            try:
                ledger = ledger or Ledger(task.recipe.comparison(), task.folder, resume=task.resume)
                outcome = train_and_send(lambda *each: connection.send(each), ledger, task, place)
            except (BrokenPipeError, ConnectionError):
                raise
            except Exception as error:  # whatever it is, it is the end of this run alone
                outcome = "lost", (f"{type(error).__name__}: {error}",)
            connection.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionError):
        return  # whoever gave the work has ended
