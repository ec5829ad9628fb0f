"""The last pass: milliseconds of what was trained side by side, one run at a time, beside no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..results.ledger import Ledger
from ..results.lock import Lock
from ..training.run import Run
from .unit import MEASURING, PAUSE, busy_here


def measure_times(ledger: Ledger, folder: Path, tell: Callable[[str], None]) -> None:
    """Measures the runs that wait for it, from their checkpoints.

    As long as it measures, no process starts a run in the folder on this machine; those that are being trained are
    waited for.

    Args:
        ledger: the runs.
        folder: of the checkpoints.
        tell: is told what is measured, and what is waited for.
    """
    if not ledger.waiting():
        return
    with Lock(folder / MEASURING).waited_for():
        _wait_for_silence(folder, tell)
        ledger.refresh()  # another process may have measured them
        for run in ledger.waiting():
            _measure(ledger, folder, run, tell)


def _measure(ledger: Ledger, folder: Path, run: Run, tell: Callable[[str], None]) -> None:
    backend, method, _ = ledger.combinations[run.place]
    checkpoint = ledger.checkpoint(folder, run)
    standing = checkpoint.read()
    if standing is None:
        tell(f"{_words(run)} has no checkpoint any more, from which its times would be measured")
        return
    tell(f"measuring the times of {_words(run)}")
    ledger.add(ledger.comparison.measure(backend, method, standing), pictures=False)
    checkpoint.clear()


def _wait_for_silence(folder: Path, tell: Callable[[str], None]) -> None:
    told = False
    while busy := busy_here(folder):
        if not told:
            tell(f"times are measured when {', '.join(sorted(set(busy)))} has trained its run")
            told = True
        time.sleep(PAUSE)


def _words(run: Run) -> str:
    return f"{run.backend} {run.method} (seed {run.seed})"
