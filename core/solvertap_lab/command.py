"""`solvertap compare`: train one problem with every method in every backend, and print one table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from solvertap.cli.extras import require_matplotlib
from solvertap.errors import InvalidInputError

from .problems.finding import find_problem
from .problems.optimiser import Optimiser
from .results.record import read_runs
from .results.report import Report
from .training.backends import choose_backends
from .training.comparison import Comparison
from .training.methods import BUILTIN, LOCAL, RIVALS, choose_method
from .training.run import Run

Number = TypeVar("Number", int, float)

# Not asked of the plugins: every command would pay for what `solvertap --help` shows.
_PROBLEM = "mnist, spiral, spiral-sde, latent, or a problem that a plugin brings"
_WEIGHT = 'a weight, or "START:STOP" to anneal it; by default the problem\'s'
_METHOD = (
    f"{', '.join((*BUILTIN, *LOCAL))}, a plugin's term, or, in diffrax and for ODEs, {', '.join(RIVALS)}; "
    "NAME=WEIGHT or NAME=START:STOP sets its weight; may be repeated"
)


def compare(
    problem: Annotated[str, typer.Argument(help=_PROBLEM, show_default=False)],
    method: Annotated[
        list[str] | None,
        typer.Option(help=_METHOD, show_default=", ".join(BUILTIN)),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="torchdiffeq, torchsde or diffrax; may be repeated", show_default="every installed one"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of training", show_default="the problem's")] = None,
    batch_size: Annotated[int | None, typer.Option(help="samples a batch", show_default="the problem's")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="of weights and batches; may be repeated", show_default="1999")
    ] = None,
    tolerance: Annotated[float | None, typer.Option(help="rtol and atol", show_default="the problem's")] = None,
    first_step: Annotated[
        float | None, typer.Option(help="size of the first step of an ODE", show_default="the solver chooses")
    ] = None,
    precision: Annotated[int | None, typer.Option(help="32 or 64 bits", show_default="the problem's")] = None,
    optimiser: Annotated[
        str | None,
        typer.Option(
            "--optimiser", "--optimizer", help="adam=RATE, adamax=RATE or momentum=RATE", show_default="the problem's"
        ),
    ] = None,
    error_weight: Annotated[str | None, typer.Option(help=f"of the local error: {_WEIGHT}", show_default=False)] = None,
    stiffness_weight: Annotated[
        str | None, typer.Option(help=f"of the stiffness: {_WEIGHT}", show_default=False)
    ] = None,
    align: Annotated[bool, typer.Option("--align", help="every backend takes the reference steps")] = False,
    data: Annotated[Path | None, typer.Option(help="a folder with the problem's data; for mnist, the full set")] = None,
    out: Annotated[Path | None, typer.Option(help="also write results.json, table.md and two pictures there")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="train only what the results in --out lack, and add it to them")
    ] = False,
) -> None:
    """Train PROBLEM plain and regularized in every backend, and print what the regularization bought."""
    seeds = list(dict.fromkeys(seed or [1999]))
    chosen = find_problem(problem)
    chosen.load(data, seeds[0])
    if first_step is not None and chosen.stochastic:
        raise InvalidInputError(f"`--first-step` is {first_step!r}, and {problem!r} is an SDE; leave it out.")
    if optimiser is not None:
        chosen.optimiser = Optimiser.of(optimiser)
    methods = [choose_method(text, chosen, error_weight, stiffness_weight) for text in dict.fromkeys(method or BUILTIN)]
    comparison = Comparison(
        problem=chosen,
        backends=choose_backends(backend or [], chosen, methods),
        methods=methods,
        seeds=seeds,
        epochs=_positive("epochs", chosen.epochs if epochs is None else epochs),
        batch_size=_positive("batch-size", chosen.batch_size if batch_size is None else batch_size),
        tolerance=_positive("tolerance", chosen.tolerance if tolerance is None else tolerance),
        align=align,
        precision=chosen.precision if precision is None else precision,
        first_step=None if first_step is None else _positive("first-step", first_step),
    )
    if comparison.precision not in (32, 64):
        raise InvalidInputError(f"`--precision` is {precision!r}; the choices are: 32, 64.")
    if resume and out is None:
        raise InvalidInputError("`--resume` goes on with the results in a folder; name it with `--out`.")
    runs = read_runs(out, comparison) if resume and out is not None else []
    chosen.test_batch()  # says now, not after an hour, that the data is missing
    if out is not None:
        _make_folder(out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    console.print(f"[bold]{chosen.name}[/]: {chosen.summary}")
    _train(comparison, console, runs, out)
    report = Report(comparison, runs)
    console.print(report.table())
    for line in (*report.failures(), report.footnote()):
        console.print(line)
    if out is not None:
        for path in report.write(out):
            console.print(f"wrote {path}")


def _train(comparison: Comparison, console: Console, runs: list[Run], out: Path | None) -> None:
    """Trains what is not among the runs, adds it to them in order, and writes each as it ends: an hour is not lost."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[evaluations]}"),
        TimeElapsedColumn(),
    )
    order = {(backend.name, method.name, seed): k for k, (backend, method, seed) in enumerate(comparison.runs())}
    done = {(run.backend, run.method, run.seed) for run in runs}
    with Progress(*columns, console=console) as progress:
        for backend, method, seed in comparison.runs():
            if (backend.name, method.name, seed) in done:
                continue
            label = f"{backend.name} {method.name}" + (f" seed {seed}" if len(comparison.seeds) > 1 else "")
            task = progress.add_task(label, total=comparison.epochs, evaluations="")
            runs.append(comparison.train(backend, method, seed, partial(_show, progress, task)))
            # What the folder holds of other methods and seeds stays in front.
            runs.sort(key=lambda run: order.get((run.backend, run.method, run.seed), -1))
            if out is not None:
                Report(comparison, runs).write(out)


def _show(progress: Progress, task: TaskID, epoch: int, evaluations: float) -> None:
    progress.update(task, completed=epoch, evaluations=f"{evaluations:.0f} evaluations a solve")


def _positive(name: str, value: Number) -> Number:
    if not 0 < value < float("inf"):
        raise InvalidInputError(f"`--{name}` is {value!r}; give a positive number.")
    return value


def _make_folder(out: Path) -> None:
    require_matplotlib()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"`--out` is {str(out)!r}, which cannot be made a folder: {error.strerror}.") from error
