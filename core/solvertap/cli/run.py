"""`solvertap run`: run a training script as it is, and regularize its solves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from ..errors import InvalidInputError
from ..observing.regularize import regularize
from ..observing.unadapted import unsaid
from ..plugins.registry import parse_term
from ..solves.injection import Passes, Record
from ..terms.error_and_stiffness import LocalError
from ..terms.schedule import anneal
from .budget_text import read_budget
from .extras import require_drawable
from .live import LiveLine
from .recorder import Recorder
from .script import Script
from .summary import Penalty, sentences, table_of
from .telling import attempt, show, tell

pending: list[Callable[[], None]] = []
"""The jobs to run when the command line has ended: a script must find none of its frames above its own."""


Command = Annotated[list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]", help="the script and its own arguments")]
Module = Annotated[str | None, typer.Option("-m", metavar="MODULE", help="run a module instead, as `python -m` does")]


_PENALTY, _WRITTEN = "The penalty", "What is written"


class RunCommand(TyperCommand):
    """Leaves what follows the script, or the module after `-m`, to that."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = 0
        while place < len(args) and args[place].startswith("-"):  # every option but `--help` takes a value
            if args[place] == "-m":
                args = [*args[: place + 2], "--", *args[place + 2 :]]
                break
            place += 1 if "=" in args[place] or args[place] in ("--", "--help") else 2
        return super().parse_args(ctx, args)


def run(
    command: Command = None,
    module: Module = None,
    term: Annotated[
        str | None,
        typer.Option(
            help='the penalty to add, such as "0.1*local_error + 0.1*stiffness:max", or under a continuous adjoint '
            '"2.5*local_error:draw=uniform"',
            show_default="count only",
            rich_help_panel=_PENALTY,
        ),
    ] = None,
    annealed: Annotated[
        str | None,
        typer.Option(
            "--anneal",
            metavar="START:STOP:STEPS",
            help="multiply the penalty by a factor annealed over the steps",
            rich_help_panel=_PENALTY,
        ),
    ] = None,
    budgeted: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="find the weight: the most steps that a solve shall attempt, as in 5, or evaluations=40, "
            "fraction=0.5 or loss=0.02; of the local error where no --term is given",
            show_default=False,
            rich_help_panel=_PENALTY,
        ),
    ] = None,
    passes: Annotated[
        str,
        typer.Option(
            help='which backward passes carry the penalty: "training" or "all"',
            rich_help_panel=_PENALTY,
            autocompletion=lambda: list(get_args(Passes)),
        ),
    ] = "training",
    stats: Annotated[
        Path | None, typer.Option(help="a file for one line of JSON for each solve", rich_help_panel=_WRITTEN)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="a file for a picture of the evaluations and penalties", rich_help_panel=_WRITTEN),
    ] = None,
) -> None:
    """Run SCRIPT as it is, with the gradient of a penalty in each backward pass that trains through a solve.

    Its loss, and what it prints and saves, stay the same. A summary goes to standard error.

    Example: solvertap run --term "0.1*local_error" --plot run.png train.py --its --own --flags
    """
    script = Script.of(command, module)
    if plot is not None:
        require_drawable(plot)
    weighted = _weighted(term, annealed, budgeted)
    _warn_of_misplaced(script.arguments, "module" if module is not None else "script")
    # The script may change the working directory.
    files = (None if path is None else path.absolute() for path in (stats, plot))
    if passes not in get_args(Passes):
        raise InvalidInputError(f"`--passes` is {passes!r}; the choices are: {', '.join(get_args(Passes))}.")
    pending.append(lambda: _run(script, weighted, passes, *files))


def _run(script: Script, weighted: Penalty, passes: Any, stats: Path | None, plot: Path | None) -> None:
    def listen(record: Record) -> None:
        recorder(record)
        if recorder.is_at_home:
            line.draw(recorder.totals.last)

    script.find()
    recorder = Recorder(stats, series=plot is not None)
    regularizer = regularize(weighted, passes=passes, listener=listen)
    line = LiveLine(regularizer)
    hints: list[str] = []
    try:
        with regularizer, line:
            try:
                script.run()
            finally:
                if "training" not in regularizer.stats and not regularizer.failed:
                    hints = unsaid()  # perhaps a library without an adapter did the solves
    finally:
        if recorder.is_at_home:
            # The exit code is the script's own, even if our output fails.
            attempt("the statistics cannot be shown", lambda: _report(recorder, regularizer, weighted, hints))
            if plot is not None:
                attempt(f"`--plot` {str(plot)!r} cannot be drawn", lambda: _draw(recorder, plot))


def _report(recorder: Recorder, regularizer: regularize, weighted: Penalty, hints: list[str]) -> None:
    recorder.close()
    totals = recorder.totals
    show(*([table_of(totals)] if totals.stats else []), *sentences(regularizer, totals, weighted), *hints)


def _warn_of_misplaced(arguments: list[str], what: str) -> None:
    """Warns of our options after the script, which gets them as its own."""
    for option in dict.fromkeys(each.partition("=")[0] for each in arguments):
        if option in ("--term", "--anneal", "--budget", "--passes", "--stats", "--plot"):
            tell(f"solvertap: `{option}` stands after the {what} and is passed to it; put it before.")


def _weighted(term: str | None, annealed: str | None, budgeted: str | None) -> Penalty:
    if budgeted is not None:
        if annealed is not None:
            raise InvalidInputError("`--budget` finds the weight, and `--anneal` was given as well; give one of them.")
        parsed = None if term is None else parse_term(term)
        if parsed is not None and parsed.annealed:
            raise InvalidInputError(f"`--budget` finds the weight, and `--term` {term!r} anneals it; give one of them.")
        return read_budget(budgeted, LocalError() if parsed is None else parsed(0))
    if annealed is None:
        return None if term is None else parse_term(term)
    if term is None:
        raise InvalidInputError(
            "`--anneal` was given without `--term`, so there is nothing to anneal. Give `--term`, or leave "
            "`--anneal` out."
        )
    parsed = parse_term(term)
    try:
        start, stop, steps = map(float, annealed.split(":"))
    except ValueError:
        raise InvalidInputError(f"`--anneal` is {annealed!r}; give three numbers, START:STOP:STEPS.") from None
    factor = anneal(start, stop, steps)
    return lambda k: factor(k) * parsed(k)


def _draw(recorder: Recorder, plot: Path) -> None:
    from .run_figure import plot_run

    if recorder.series is not None and recorder.series.kinds:
        plot_run(recorder.series.kinds).savefig(plot, dpi=120)
