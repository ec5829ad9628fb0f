"""`solvertap reproduce`: train the paper's experiments in every framework, and write its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from solvertap.cli.extras import require_matplotlib
from solvertap.cli.others import others_kept
from solvertap.errors import MissingExtraError, UnknownNameError

from ..progress import RAY, WORKERS, Job, check_workers, train_missing
from ..results.report import Report
from ..results.tabular import TerminalTable
from ..results.terminal import make_folder, wide_console
from ..running.cluster import connect
from ..running.unit import session
from .experiments import EXPERIMENTS, Experiment
from .folder import FILES, read_folder, write_folder
from .outcome import Result, result_of
from .prepared import Prepared, prepare
from .table import remarks, rows

_NAMES = ", ".join(dict.fromkeys(each.label for each in EXPERIMENTS))
_EXPERIMENT = f"one of {_NAMES}, in every framework; or in one, as in `{EXPERIMENTS[0].name}`"


def _known(incomplete: str) -> list[str]:
    known = dict.fromkeys(name for each in EXPERIMENTS for name in (each.label, each.name))
    return [name for name in known if name.startswith(incomplete)]


def reproduce(
    experiment: Annotated[
        list[str] | None,
        typer.Argument(help=_EXPERIMENT, show_default="all whose packages are installed", autocompletion=_known),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="one seed, one weight and a fifth of the epochs: minutes, and no evidence; mnist-full only if named",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder of the table and the picture, and of the runs: what it holds of them is not trained again",
            show_default="results/paper, or results/paper-quick",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help=WORKERS)] = 1,
    ray: Annotated[str | None, typer.Option(help=RAY, show_default="none")] = None,
) -> None:
    """Train the experiments of the paper plain and regularized, and write its table and picture.

    An interrupt loses one epoch: the same command goes on. Experiments that are in the table of the folder stay in
    it.

    Example: solvertap reproduce spiral --quick
    """
    folder = out or Path("results/paper-quick" if quick else "results/paper")
    check_workers(workers, ray, folder)
    require_matplotlib()
    console = wide_console()
    chosen = choose_experiments(experiment or [], quick=quick)
    found: Sequence[Result] = list(read_folder(folder).values())
    prepared = _prepare_all(chosen, folder, console, named=bool(experiment))
    make_folder(folder)
    if ray is not None:
        connect(ray)
    lost = measured = 0
    for number, each in enumerate(prepared, start=1):
        console.print(f"[bold]{each.experiment.name}[/], {number} of {len(prepared)}")
        with session(each.ledger.folder, resume=True), others_kept(console):
            lost += len(train_missing(Job(each.recipe, each.ledger, workers, ray), console))
        result = result_of(each.experiment, each.comparison, each.runs)
        # Read again: another process may have written an experiment of its own meanwhile.
        there = read_folder(folder)
        if result is None:
            _tell_of_none(each, console, older=each.experiment.name in there)
        else:
            measured += 1
            found = write_folder({**there, each.experiment.name: result}.values(), folder, quick=quick)
    _show(found, console)
    for name in FILES if measured else ():
        console.print(f"wrote {folder / name}")
    if lost:
        console.print(f"{lost} runs are lost; the same command trains them.")
    if lost or measured < len(prepared):
        raise typer.Exit(1)


def choose_experiments(names: list[str], *, quick: bool = False) -> list[Experiment]:
    """The experiments of the given names, of problems or of experiments; all without one.

    Args:
        names: as on the command line.
        quick: whether each is made quick. A full data set is not, and has to be asked for by name.

    Raises:
        UnknownNameError: a name is none of them.
    """
    known = list(dict.fromkeys(each.label for each in EXPERIMENTS)) + [each.name for each in EXPERIMENTS]
    for name in names:
        if name not in known:
            raise UnknownNameError.of("experiment", name, known)
    found = [each for each in EXPERIMENTS if not names or {each.name, each.label} & set(names)]
    return [each.quick() for each in found if names or each.data is None] if quick else found


def _tell_of_none(prepared: Prepared, console: Console, *, older: bool) -> None:
    """Says why the table gets no row of an experiment; an older result of it stays there."""
    for line in Report(prepared.comparison, prepared.runs).failures():
        console.print(line)
    what = "the table keeps the older result" if older else "it is not in the table"
    console.print(
        f"{prepared.experiment.name} has no pair of a plain run and one of a fixed weight with finite validation "
        f"metrics, so {what}."
    )


def _show(found: Sequence[Result], console: Console) -> None:
    if not found:
        return
    headings, lines = rows(found)
    plain = [[cell.replace("`", "") for cell in line] for line in lines]
    console.print(TerminalTable("ratios and differences to the plain model", headings, plain))
    for line in remarks(found):
        console.print(Markdown(line))


def _prepare_all(chosen: list[Experiment], folder: Path, console: Console, *, named: bool) -> list[Prepared]:
    """Everything that training needs, found now and not after an hour; what is not installed is told."""
    found = []
    for experiment in chosen:
        try:
            found.append(prepare(experiment, folder / experiment.name))
        except MissingExtraError as error:
            if named:
                raise
            console.print(f"{experiment.name} is left out: {error}")
    if not found:
        raise MissingExtraError.of("Every framework of the experiments", "all")
    return found
