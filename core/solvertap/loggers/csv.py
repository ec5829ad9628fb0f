"""Solves as a table of comma-separated values."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

from .log import Log, Solved


class CsvLog(Log):
    """Writes one line for each solve, the names of `Solved` on the first: `with CsvLog("solves.csv"): train()`.

    Args:
        path: the file, written anew. Each line is there as soon as its solve has ended.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._file = Path(path).open("w", newline="", encoding="utf-8", buffering=1)  # noqa: SIM115  # `close` ends it
        self._rows = csv.writer(self._file)
        self._rows.writerow(Solved._fields)

    def write(self, solved: Solved) -> None:
        self._rows.writerow(solved)

    def close(self) -> None:
        with suppress(OSError):  # a line that could not be written has been reported
            self._file.close()
