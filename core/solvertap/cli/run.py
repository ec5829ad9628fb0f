"""`solvertap run`: run a training script as it is, and regularize its solves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from ..errors import InvalidInputError
from ..language import parse_term
from ..offered import Record
from ..regularization import regularize
from ..schedules import anneal
from ..script import Script
from ..terms import Term
from .extras import require_matplotlib
from .live import LiveLine
from .recorder import Recorder

pending: list[Callable[[], None]] = []
"""What is to be run once the command line has been read: a script must find none of its frames above its own."""


class RunCommand(TyperCommand):
    """What follows the script, or the module after `-m`, is its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = 0
        while place < len(args) and args[place].startswith("-"):  # every option but `--help` takes a value
            if args[place] == "-m":
                args = [*args[: place + 2], "--", *args[place + 2 :]]
                break
            place += 1 if "=" in args[place] or args[place] in ("--", "--help") else 2
        return super().parse_args(ctx, args)


def run(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]", help="the script and its own arguments")
    ] = None,
    module: Annotated[
        str | None, typer.Option("-m", metavar="MODULE", help="run a module instead, as `python -m` does")
    ] = None,
    term: Annotated[
        str | None,
        typer.Option(
            help='what to add, such as "100*local_error + 0.1*stiffness:max", or under a continuous adjoint '
            '"2.5*local_error:draw=uniform"',
            show_default="count only",
        ),
    ] = None,
    annealed: Annotated[
        str | None,
        typer.Option(
            "--anneal", metavar="START:STOP:STEPS", help="multiply it by a factor that goes so over optimiser steps"
        ),
    ] = None,
    stats: Annotated[Path | None, typer.Option(help="write one line of JSON for each solve there")] = None,
    plot: Annotated[Path | None, typer.Option(help="draw evaluations and penalty over the solves there")] = None,
) -> None:
    """Run SCRIPT as it is, with the gradient of a penalty in every backward pass through a solve.

    Its loss and whatever it prints and saves stay its own. A summary goes to standard error.
    """
    arguments = list(command or [])
    if module is None and not arguments:
        raise InvalidInputError("No script was given; give one, or a module after `-m`, behind the options.")
    script = Script(module or arguments.pop(0), arguments, module=module is not None)
    if plot is not None:
        require_matplotlib()
        if not plot.parent.is_dir():
            raise InvalidInputError(f"`--plot` is {str(plot)!r}, whose folder does not exist; make it first.")
    weighted = _weighted(term, annealed)
    pending.append(lambda: _run(script, weighted, stats, plot))


def _run(script: Script, weighted: Callable[[Any], Term] | None, stats: Path | None, plot: Path | None) -> None:
    def listen(record: Record) -> None:
        recorder(record)
        if recorder.is_at_home:
            line.draw(recorder.penalty)

    script.find()
    recorder = Recorder(stats)
    regularizer = regularize(weighted, listener=listen)
    line = LiveLine(regularizer)
    try:
        with regularizer, line:
            script.run()
    finally:
        if recorder.is_at_home:
            recorder.flush()
            _summarize(regularizer)
            if plot is not None and recorder.rows:
                _draw(recorder, plot)


def _summarize(regularizer: regularize) -> None:
    console = Console(stderr=True)
    table = Table(title="solvertap")
    table.add_column("solves of")
    for heading in ("solves", "evaluations a solve", "accepted", "rejected"):
        table.add_column(heading, justify="right")
    for kind, stats in regularizer.stats.items():
        each = "-" if stats.evaluations is None or not stats.solves else f"{stats.evaluations / stats.solves:.1f}"
        steps = ["-" if count is None else str(count) for count in (stats.accepted, stats.rejected)]
        table.add_row(kind, str(stats.solves), each, *steps)
    if regularizer.stats:
        console.print(table)
    else:
        console.print("solvertap saw no solve.")
    for reason in regularizer.left_out:
        console.print(f"Some solves went without a term: {reason}", soft_wrap=True)


def _weighted(term: str | None, annealed: str | None) -> Any:
    if annealed is None:
        return term if term is None else parse_term(term)
    if term is None:
        raise InvalidInputError("`--anneal` was given without `--term`; there is nothing to anneal.")
    parsed = parse_term(term)
    try:
        start, stop, steps = map(float, annealed.split(":"))
    except ValueError:
        raise InvalidInputError(f"`--anneal` is {annealed!r}; give three numbers, START:STOP:STEPS.") from None
    factor = anneal(start, stop, steps)
    return lambda k: factor(k) * parsed(k)


def _draw(recorder: Recorder, plot: Path) -> None:
    from ..pictures import plot_run

    plot_run(recorder.rows).savefig(plot, dpi=120)
