"""Solves as a table of comma-separated values."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

from .log import Log, Solved


class CsvLog(Log):
    """Writes a header, the fields of `Solved`, and a line for each solve: `with CsvLog("solves.csv"): train()`.

    Args:
        path: the file, which is overwritten. Each line is written when its solve ends.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._file = Path(path).open("w", newline="", encoding="utf-8", buffering=1)  # noqa: SIM115  # `close` ends it
        self._rows = csv.writer(self._file)
        self._rows.writerow(Solved._fields)

    def write(self, solved: Solved) -> None:
        self._rows.writerow(solved)

    def close(self) -> None:
        with suppress(OSError):  # the line that could not be written was reported
            self._file.close()
