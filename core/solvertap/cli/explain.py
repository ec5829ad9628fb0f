"""`solvertap explain`: run a script as it is, and say for each place that solves what limits its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from ..errors import InvalidInputError
from ..explaining.places import Explanation, Places
from ..observing.regularize import regularize
from ..observing.unadapted import unsaid
from ..plugins.forking import Lock
from ..plugins.hookspecs import hookimpl
from ..plugins.registry import plugins
from ..solves.listeners import Traced
from ..solves.stats import Stats
from .extras import require_matplotlib
from .run import pending
from .script import Script
from .telling import attempt, show


def explain(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]", help="the script and its own arguments")
    ] = None,
    module: Annotated[
        str | None, typer.Option("-m", metavar="MODULE", help="run a module instead, as `python -m` does")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="a file for a report with pictures, to be opened in a browser")
    ] = None,
) -> None:
    """Run SCRIPT as it is, and say what limits the steps of its solves, at each line that solves.

    What the script prints and saves stays the same. The explanation goes to standard error.
    """
    arguments = list(command or [])
    if module is None and not arguments:
        raise InvalidInputError("No script was given; give one, or a module after `-m`, after the options.")
    script = Script(module or arguments.pop(0), arguments, module=module is not None)
    if report is not None:
        require_matplotlib()
        if not report.absolute().parent.is_dir():
            raise InvalidInputError(f"`--report` is {str(report)!r}, whose folder does not exist; make it first.")
    name = module or script.name
    # The script may change the working directory.
    pending.append(lambda: _explain(script, name, None if report is None else report.absolute()))


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
    def solvertap_solve_finished(self, adapter: str, stats: Stats, phase: str) -> None:
        if phase == "adjoint":
            with self._lock():
                self.places.add_backward(adapter, stats)


def _explain(script: Script, name: str, report: Path | None) -> None:
    script.find()
    listener = _Listener()
    plugins().register(listener)
    regularizer = regularize()
    hints: Sequence[str] = ()
    try:
        with regularizer:
            try:
                script.run()
            finally:
                if not regularizer.stats and not regularizer.failed:
                    hints = unsaid()
    finally:
        plugins().unregister(listener)
        found = listener.places.explain()
        attempt("the explanation cannot be shown", lambda: show(*told(found), *hints))
        if report is not None:
            attempt(f"`--report` {str(report)!r} cannot be written", lambda: _write(report, found, name))


def _write(path: Path, found: Sequence[Explanation], name: str) -> None:
    from .report import write_report

    write_report(path, found, name)


def told(explanations: Sequence[Explanation]) -> list[RenderableType]:
    """A table of the places, and under it what was found at each."""
    if not explanations:
        return ["solvertap saw no solve whose steps it could trace."]
    table = Table(title="what limits the steps")
    for heading, justify in _HEADINGS.items():
        table.add_column(heading, justify=justify)
    for each in explanations:
        table.add_row(each.place.place, each.solver, *each.numbers, each.limits)
    return [table, *(f"{each.place.place}, {line}" for each in explanations for line in each.findings())]


_HEADINGS: dict[str, Any] = {
    "at": "left",
    "solver": "left",
    "solves": "right",
    "evaluations": "right",
    "attempts": "right",
    "at most": "right",
    "limited by": "left",
}
