"""`solvertap explain`: run a script as it is, and say for each place that solves what limits its steps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from ..explaining.places import NUMBERS, UNSEEN, Explanation, Places
from ..observing.regularize import regularize
from ..observing.unadapted import unsaid
from ..plugins.forking import Lock
from ..plugins.hookspecs import hookimpl
from ..plugins.registry import plugins
from ..solves.listeners import Traced
from ..solves.stats import Stats
from .extras import require_file, require_matplotlib
from .run import Command, Module, pending
from .script import Script
from .telling import attempt, show


def explain(
    command: Command = None,
    module: Module = None,
    report: Annotated[
        Path | None, typer.Option(help="a file for a report with pictures, to be opened in a browser")
    ] = None,
) -> None:
    """Run SCRIPT as it is, and say what limits the steps of its solves, at each line that solves.

    What the script prints and saves stays the same. The explanation goes to standard error.

    Example: solvertap explain --report report.html train.py
    """
    script = Script.of(command, module)
    if report is not None:
        require_matplotlib()
        require_file("--report", report)
    # The script may change the working directory.
    pending.append(lambda: _explain(script, None if report is None else report.absolute()))


class _Listener:
    """Hears of every solve that ends, on any thread."""

    def __init__(self) -> None:
        self.places = Places()
        self._lock = Lock()

    @hookimpl
    def solvertap_solve_traced(self, traced: Traced) -> None:
        with self._lock():
            self.places.add(traced)

    @hookimpl
    def solvertap_solve_finished(self, stats: Stats, phase: str, place: str) -> None:
        if phase == "adjoint":
            with self._lock():
                self.places.add_backward(place, stats)


@contextmanager
def explaining() -> Iterator[tuple[Places, regularize]]:
    """A block in which every solve is traced: its places, and what sees the solves, which adds nothing."""
    listener, regularizer = _Listener(), regularize()
    plugins().register(listener)
    try:
        with regularizer:
            yield listener.places, regularizer
    finally:
        plugins().unregister(listener)


def _explain(script: Script, report: Path | None) -> None:
    script.find()
    places = Places()
    hints: Sequence[str] = ()
    home = os.getpid()
    try:
        with explaining() as (places, regularizer):
            try:
                script.run()
            finally:
                if not regularizer.stats and not regularizer.failed:
                    hints = unsaid()
    finally:
        if os.getpid() == home:  # not in a forked child
            _tell(places.explain(), hints, report, script.name)


def _tell(found: Sequence[Explanation], hints: Sequence[str], report: Path | None, name: str) -> None:
    attempt("the explanation cannot be shown", lambda: show(*told(found), *hints))
    if report is not None:
        attempt(f"`--report` {str(report)!r} cannot be written", lambda: _write(report, found, name))


def _write(path: Path, found: Sequence[Explanation], name: str) -> None:
    from .report import write_report

    write_report(path, found, name)


def told(explanations: Sequence[Explanation]) -> list[RenderableType]:
    """A table of the places, and under it what was found at each."""
    if not explanations:
        return [UNSEEN]
    table = Table(title="what limits the steps")
    for heading in ("at", "solver", *NUMBERS, "limited by"):
        table.add_column(heading, justify="right" if heading in NUMBERS else "left")
    for each in explanations:
        table.add_row(each.place.place, each.solver, *each.numbers, each.limits)
    return [table, *(f"{each.place.place}, {line}" for each in explanations for line in each.findings())]
