"""`solvertap explain`: run a script as it is, and say for each place that solves what limits its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from ..errors import InvalidInputError
from ..explaining.places import Explanation, Places
from ..observing.regularize import regularize
from ..observing.unadapted import unsaid
from ..plugins.hookspecs import hookimpl
from ..plugins.registry import plugins
from ..solves.listeners import Traced
from ..solves.stats import Stats
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
) -> None:
    """Run SCRIPT as it is, and say what limits the steps of its solves, at each line that solves.

    What the script prints and saves stays the same. The explanation goes to standard error.
    """
    arguments = list(command or [])
    if module is None and not arguments:
        raise InvalidInputError("No script was given; give one, or a module after `-m`, after the options.")
    script = Script(module or arguments.pop(0), arguments, module=module is not None)
    pending.append(lambda: _explain(script))


class _Listener:
    """Hears of every solve that ends, on any thread."""

    def __init__(self) -> None:
        self.places = Places()

    @hookimpl
    def solvertap_solve_traced(self, traced: Traced) -> None:
        self.places.add(traced)

    @hookimpl
    def solvertap_solve_finished(self, adapter: str, stats: Stats, phase: str) -> None:
        if phase == "adjoint":
            self.places.add_backward(adapter, stats)


def _explain(script: Script) -> None:
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
        attempt("the explanation cannot be shown", lambda: show(*told(listener.places.explain()), *hints))


def told(explanations: Sequence[Explanation]) -> list[RenderableType]:
    """A table of the places, and under it what was found at each."""
    if not explanations:
        return ["solvertap saw no solve whose steps it could trace."]
    table = Table(title="what limits the steps")
    for heading, justify in _HEADINGS.items():
        table.add_column(heading, justify=justify)
    for each in explanations:
        place = each.place
        names = ", ".join(verdict.illness for verdict, _ in each.verdicts) or "nothing"
        evaluations = "-" if each.evaluations is None else f"{each.evaluations:.1f}"
        numbers = str(each.solves), evaluations, f"{each.attempts:.1f}", str(each.worst.attempts)
        table.add_row(place.place, f"{place.adapter} {place.method}".rstrip(), *numbers, names)
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
