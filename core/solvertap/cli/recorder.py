"""What `solvertap run` keeps of the solves of a script: one line of a file for each, and what the summary needs."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..offered import Record
from ..plugins import plugins

_EVERY = 0.5  # seconds between two looks at numbers that a device may still compute


@dataclass(frozen=True)
class Row:
    """A `Record` whose values are numbers.

    Attributes:
        seconds: since the script began.
        record: the record, its counts those of one solve or of a batch.
        values, penalty: as of the record.
    """

    seconds: float
    record: Record
    values: dict[str, float]
    penalty: float | None

    def as_json(self) -> str:
        """One line."""
        record = self.record
        line = {
            "seconds": round(self.seconds, 3),
            "kind": record.kind,
            "adapter": record.adapter,
            "optimiser_step": record.k,
            **record.stats._asdict(),
            "values": self.values,
            "penalty": self.penalty,
        }
        return json.dumps(line) + "\n"


class Recorder:
    """Listens to a `regularize`; in a forked child it keeps nothing.

    Args:
        path: of a JSON Lines file, written anew; None for none.

    Raises:
        InvalidInputError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.rows: list[Row] = []
        self.penalty: float | None = None  # the last one
        self._waiting: list[tuple[float, Record]] = []
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._began = self._flushed = time.monotonic()
        try:
            self._file = None if path is None else path.open("w", encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(
                f"`--stats` is {str(path)!r}, which cannot be written: {error.strerror}."
            ) from error

    @property
    def is_at_home(self) -> bool:
        """Whether this is the process that began, and no child of it."""
        return os.getpid() == self._process

    def __call__(self, record: Record) -> None:
        if not self.is_at_home:
            return
        now = time.monotonic()
        with self._lock:
            self._waiting.append((now - self._began, record))
            due = now - self._flushed > _EVERY
        if due:
            self.flush()

    def flush(self) -> None:
        """Makes rows of the records, and writes them."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._flushed = time.monotonic()
            rows = [_row(seconds, record) for seconds, record in waiting]
            self.rows += rows
            self.penalty = next((row.penalty for row in reversed(rows) if row.penalty is not None), self.penalty)
            if self._file is not None:
                self._file.writelines(row.as_json() for row in rows)
                self._file.flush()


def _row(seconds: float, record: Record) -> Row:
    def number(x: Any) -> float:
        return float(plugins().adapters[record.adapter].to_numpy(x))

    values = {name: number(value) for name, value in record.values.items()}
    return Row(seconds, record, values, None if record.penalty is None else number(record.penalty))
