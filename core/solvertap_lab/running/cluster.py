"""Runs as tasks on a Ray cluster, whose machines share the folder of the results. Needs Ray."""

# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import socket
from typing import Any

from solvertap.errors import InvalidInputError, MissingExtraError

from ..results.ledger import Ledger
from ..training.run import Place
from .listener import Listener, Task
from .unit import PAUSE, train_and_send

LOCAL, AUTO = "local", "auto"
_PATIENCE = 10


def connect(address: str) -> None:
    """Joins the cluster, or starts one on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidInputError: there is no cluster at the address.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("ray, which reaches a cluster,", "ray") from error
    if address not in (LOCAL, AUTO):
        _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unreachable(address, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}") from error


def train_on_cluster(task: Task, places: list[Place], listener: Listener) -> None:
    """Trains runs, one for each CPU of the cluster at a time. One whose process is killed is lost alone.

    Args:
        task: the comparison, and the folder, which every machine has under the same path.
        places: which runs.
        listener: is told of each.
    """
    import ray
    from ray.util.queue import Queue

    messages = Queue(actor_options={"num_cpus": 0})
    # OMP_NUM_THREADS is Ray's to set; this is XLA's.
    remote = ray.remote(num_cpus=1, max_retries=0, runtime_env={"env_vars": {"NPROC": "1"}})(_work)
    pending = {remote.remote(messages, task, place): place for place in places}
    for place in places:
        listener.started(place)
    try:
        while pending:
            ended, _ = ray.wait(list(pending), timeout=PAUSE)
            _pass_on(messages, listener)
            for reference in ended:
                _hear(reference, pending.pop(reference), listener)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        messages.shutdown(force=True)


def _pass_on(messages: Any, listener: Listener) -> None:
    for what, place, values in messages.get_nowait_batch(messages.qsize()):
        getattr(listener, what)(place, *values)


def _hear(reference: Any, place: Place, listener: Listener) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        what, values = ray.get(reference)
    except RayError as error:
        what, values = "lost", (f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}",)
    getattr(listener, what)(place, *values)


def _work(messages: Any, task: Task, place: Place) -> tuple[str, tuple[Any, ...]]:
    """What a task does."""
    try:
        ledger = Ledger(task.recipe.comparison(), task.folder, resume=task.resume)
        return train_and_send(lambda what, values: messages.put((what, place, values)), ledger, task, place)
    except Exception as error:  # whatever it is, it is the end of this run alone
        return "lost", (f"{type(error).__name__}: {error}",)


def _check_reachable(address: str) -> None:
    """By hand: Ray tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise _unreachable(address, "which is no HOST:PORT")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _unreachable(address: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"`--ray` is {address!r}, where no cluster is reached ({why}); give HOST:PORT, `{AUTO}` for the one that runs "
        f"here, or `{LOCAL}` to start one."
    )
