"""Every method gets the same number of trials; the weight to be had then trains all seeds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from solvertap.errors import InvalidInputError, MissingExtraError

from ..paper.outcome import choose, outcomes
from ..progress import Job, train_missing
from ..results.checkpoint import PREFIX
from ..results.ledger import Ledger
from ..results.lock import Lock, holder
from ..training.comparison import Comparison
from ..training.methods import VANILLA, choose_method
from ..training.recipe import Recipe
from ..training.run import Place, Run
from .allowance import Allowance
from .weights import multiplied, searched

if TYPE_CHECKING:
    from .study import Study  # imports Optuna

Train = Callable[[Sequence[str]], list[Run]]


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        recipe: the comparison, whose first seed the trials have.
        trials: of each method that has a weight.
        allowance: how much worse than the plain model's its validation metric may be.
        workers: processes that train the trials.
        ray: the cluster that does, if any.
    """

    recipe: Recipe
    trials: int
    allowance: Allowance
    workers: int
    ray: str | None = None

    def check(self, comparison: Comparison) -> None:
        """Refuses, before any work, what cannot be searched.

        Raises:
            InvalidInputError: there are no trials, no weights or no validation data.
            MissingExtraError: Optuna is not installed.
        """
        if self.trials < 1:
            raise InvalidInputError(f"`--search` is {self.trials!r}; give the number of trials of each method.")
        searched([method.name for method in comparison.methods], comparison.problem)
        try:
            import optuna  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError.of("optuna, which searches weights,", "search") from error


def search_first(search: Search, job: Job, console: Console) -> Job:
    """The job with the weights to be had; the trials that had them are among its runs.

    The trials of a method are trained in the first backend that trains it: a weight means the same in every one.

    Args:
        search: what is searched.
        job: the comparison. The trials are in the folder `search` of its own.
        console: where the bars are.

    Raises:
        typer.Exit: a process was killed, and its trial is lost; that has been told.
    """
    comparison, out = job.ledger.comparison, job.ledger.folder
    names = [method.name for method in comparison.methods]
    failed: dict[Place, Run] = {}
    wanted = searched(names, comparison.problem)
    with _folder(out, resume=job.ledger.resume) as folder:
        lock = Lock(folder / ".search.lock")
        if by := holder(lock.path):
            console.print(f"{by} searches; its trials are waited for")
        with lock.waited_for():
            found = {name: _find(search, comparison, name, folder, failed, console) for name in wanted}
    recipe = replace(job.recipe, methods=tuple(found[name].method if name in found else name for name in names))
    ledger = Ledger(recipe.comparison(), out, resume=job.ledger.resume)
    ledger.trials = {run.method: search.trials for run in found.values()}
    for run in found.values():
        ledger.add(run)
    return replace(job, recipe=recipe, ledger=ledger)


def _find(
    search: Search, comparison: Comparison, name: str, folder: Path, failed: dict[Place, Run], console: Console
) -> Run:
    """The trial of a method whose weight is to be had."""
    from .study import Study

    method = choose_method(name, comparison.problem)
    backend = next(each.name for each in comparison.backends if each.trains(method))
    seed = comparison.seeds[0]
    console.print(f"searching the weight of {name} in {backend}: {search.trials} trials of seed {seed}")
    train = _trainer(search, backend, folder, failed, console)
    study = Study(folder / "journal.log", f"{name} in {backend}", seed)
    while (left := search.trials - len(study.factors)) > 0:
        _try(search, comparison, name, study, min(left, search.workers), train)
    texts = [multiplied(name, factor, comparison.problem) for factor in study.factors]
    runs = train([VANILLA, *texts])
    found = outcomes(texts, (seed,), search.allowance.unit, runs)
    chosen = choose(search.allowance.allowed, found, higher_is_better=comparison.problem.higher_is_better)
    if chosen is None:
        raise InvalidInputError(
            f"Every trial of `--method {name}` failed or has no finite validation metric, or the plain model did; "
            "search another one."
        )
    return next(run for run in runs if run.method == chosen.method)


def _try(search: Search, comparison: Comparison, name: str, study: Study, count: int, train: Train) -> None:
    """So many trials at once; those that are cut short are put back."""
    asked = study.ask(count)
    texts = [multiplied(name, factor, comparison.problem) for _, factor in asked]
    try:
        runs = train([VANILLA, *texts])
    except BaseException:
        for trial, _ in asked:
            study.put_back(trial)
        raise
    for (trial, _), text in zip(asked, texts, strict=True):
        found = outcomes((text,), comparison.seeds[:1], search.allowance.unit, runs)
        ended = [each for each in found if each.method == text and math.isfinite(each.validation[0])]
        if ended:
            study.tell(trial, ended[0].solve[0], _over(search, comparison, ended[0].validation[0]))
        else:
            study.tell(trial, None, 1.0)


def _over(search: Search, comparison: Comparison, difference: float) -> float:
    return (-difference if comparison.problem.higher_is_better else difference) - search.allowance.allowed


def _trainer(search: Search, backend: str, folder: Path, failed: dict[Place, Run], console: Console) -> Train:
    """Trains what is missing of some methods; what `failed` in this command is noted there, and not trained again."""

    def train(texts: Sequence[str]) -> list[Run]:
        methods = tuple(dict.fromkeys(texts))
        recipe = replace(search.recipe, methods=methods, backends=(backend,), seeds=search.recipe.seeds[:1])
        ledger = Ledger(recipe.comparison(), folder, resume=True, failed=failed.values())
        lost = train_missing(Job(recipe, ledger, search.workers, search.ray), console)
        failed.update((run.place, run) for run in ledger.runs if run.failure is not None)
        if lost:
            console.print("trials are lost; the same command with `--out` and `--resume` goes on.")
            raise typer.Exit(1)
        return [run for run in ledger.runs if run.backend == backend]

    return train


@contextlib.contextmanager
def _folder(out: Path | None, *, resume: bool) -> Iterator[Path]:
    if out is None:
        with TemporaryDirectory() as name:
            yield Path(name)
        return
    folder = out / "search"
    folder.mkdir(exist_ok=True)
    # As a comparison without `--resume` replaces its runs. Nobody else is at work here then.
    for path in () if resume else folder.iterdir():
        if path.name in ("results.json", "journal.log") or path.name.startswith(PREFIX):
            path.unlink()
    yield folder
