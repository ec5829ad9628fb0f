"""Records the solves of a script for `solvertap run`: one line of a file for each, and sums."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InvalidInputError
from ..plugins.registry import plugins
from ..solves.injection import Record
from .flusher import Flusher
from .telling import reason, tell
from .totals import Series, Totals

_PATIENCE = 5.0  # seconds to wait for a number from its device; then it is written as missing

Numbers = Callable[[], Sequence[float | None] | None]
Waiting = tuple[float, Record, Numbers]


class Recorder:
    """The listener of a `regularize`; in a forked child it records nothing.

    It never raises, and never makes the thread that solves wait. The first failure to write is reported, and nothing
    more is written.

    Args:
        path: of a JSON Lines file, which is overwritten; None for none.
        series: whether to keep points for a picture.

    Attributes:
        totals: the sums.
        series: the points; None if they are not wanted.

    Raises:
        InvalidInputError: the file cannot be written.
    """

    def __init__(self, path: Path | None, series: bool = False) -> None:
        self.totals: Totals = Totals()
        self.series: Series | None = Series() if series else None
        self._waiting: deque[Waiting] = deque()  # both ends are safe to use from several threads
        self._taking = threading.Lock()
        self._process = os.getpid()
        self._began = time.monotonic()
        self._path = path
        self._file = None if path is None else _open(path)
        self._identity = None if self._file is None else _identity(self._file)
        self._flusher = None if path is None else Flusher(self._flush)

    @property
    def is_at_home(self) -> bool:
        """Whether this is the process that made the recorder, not a forked child."""
        return os.getpid() == self._process

    def __call__(self, record: Record) -> None:
        if not self.is_at_home:
            return
        self._waiting.append((time.monotonic() - self._began, record, _soon(record)))
        try:
            if self._flusher is not None:
                self._flusher.begin()
        except RuntimeError:  # the system gives no more threads
            self._flusher = None
        if self._flusher is None:
            self._flush()

    # `torch.compile` may trace a function that solves, but must not trace this. This is torch's mark, without torch.
    __call__._torchdynamo_disable = True  # type: ignore[attr-defined]

    def close(self) -> None:
        """Writes the solves that still wait for their numbers, as far as those come in time."""
        if self._flusher is not None:
            self._flusher.close()
        end = time.monotonic() + _PATIENCE
        while self._waiting and time.monotonic() < end:
            self._flush()
            if self._waiting:
                time.sleep(0.01)
        if self._waiting:
            tell(f"solvertap: {len(self._waiting)} solves are not counted: their numbers, or the file, take too long.")

    def _flush(self) -> None:
        try:
            self._take()
        except Exception as error:  # on a thread of ours there is nobody to catch it
            self._give_up(error)

    def _take(self) -> None:
        """Records the waiting solves whose numbers have come; returns at once if another thread is doing that."""
        if not self._taking.acquire(blocking=False):
            return
        try:
            lines = []
            while self._waiting:
                seconds, record, soon = self._waiting[0]
                late = time.monotonic() - self._began - seconds > _PATIENCE
                numbers = _numbers(soon, len(record.values) + 1)
                if numbers is None and not late:
                    break
                self._waiting.popleft()
                *values, penalty = numbers or [None] * (len(record.values) + 1)
                self.totals.add(record, penalty)
                if self.series is not None:
                    self.series.add(record, penalty)
                if self._file is not None:
                    lines.append(_line(seconds, record, values, penalty))
            self._write("".join(lines).encode())
        finally:
            self._taking.release()

    def _write(self, rest: bytes) -> None:
        try:
            if rest and self._file is not None:
                if _identity(self._file) != self._identity:
                    raise OSError("the script has closed it")
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self._file is not None:
            self._file = None  # not closed: its descriptor may be another file's by now
            tell(f"solvertap: `--stats` {str(self._path)!r} cannot be written, so nothing more is: {reason(error)}.")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        raise InvalidInputError(f"`--stats` is {str(path)!r}, which cannot be written: {error.strerror}.") from error


def _identity(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _soon(record: Record) -> Numbers:
    """A function that gives the values of a record and its penalty as numbers; None until they are there."""
    missing = [None] * (len(record.values) + 1)
    if record.penalty is None:
        return lambda: missing
    try:
        return plugins().adapters[record.adapter].soon([*record.values.values(), record.penalty])
    except Exception:  # a value under a transformation is no number
        return lambda: missing


def _numbers(soon: Numbers, count: int) -> Sequence[float | None] | None:
    try:
        return soon()
    except Exception:  # a value whose program has failed is no number either
        return [None] * count


def _line(seconds: float, record: Record, values: Sequence[float | None], penalty: float | None) -> str:
    line = {
        "seconds": round(seconds, 3),
        "kind": record.kind,
        "adapter": record.adapter,
        "method": record.method,
        "optimiser_step": record.k,
        **record.stats._asdict(),
        "values": dict(zip(record.values, values, strict=True)),
        "penalty": penalty,
    }
    return json.dumps(line) + "\n"
