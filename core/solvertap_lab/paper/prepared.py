"""An experiment that is ready to be trained: its data are there, and what has been trained already is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..problems.finding import find_problem
from ..problems.optimiser import Optimiser
from ..progress import Place, checkpoints_of
from ..results.checkpoint import CheckpointFile
from ..results.record import read_runs
from ..training.backends import choose_backends
from ..training.comparison import Comparison
from ..training.methods import VANILLA, choose_method
from ..training.run import Run
from .experiments import Experiment


@dataclass(frozen=True)
class Prepared:
    """An experiment, its comparison, and what its folder holds.

    Attributes:
        experiment, folder: which one, and where its runs are kept.
        comparison: how it is trained.
        runs: those that have ended.
        checkpoints: where the others go on from.
    """

    experiment: Experiment
    folder: Path
    comparison: Comparison
    runs: list[Run]
    checkpoints: Mapping[Place, CheckpointFile]


def prepare(experiment: Experiment, folder: Path) -> Prepared:
    """Reads the data and the folder.

    Raises:
        MissingExtraError: a package of the framework or of the data is not installed.
        InvalidInputError: the folder holds runs of other settings, or files that cannot be read.
    """
    comparison = _comparison(experiment)
    comparison.problem.test_batch()
    runs = read_runs(folder, comparison)
    # Kept in the folder from before the first one has ended.
    folder.mkdir(parents=True, exist_ok=True)
    return Prepared(experiment, folder, comparison, runs, checkpoints_of(comparison, folder, resume=True))


def _comparison(experiment: Experiment) -> Comparison:
    problem = find_problem(experiment.problem)
    problem.load(None if experiment.data is None else Path(experiment.data), experiment.seeds[0])
    if experiment.optimiser is not None:
        problem.optimiser = Optimiser.of(experiment.optimiser)
    if experiment.first_step is not None:
        problem.first_step = experiment.first_step
    methods = [choose_method(text, problem) for text in (VANILLA, *experiment.methods)]
    return Comparison(
        problem=problem,
        backends=choose_backends([experiment.backend], problem, methods, experiment.solver),
        methods=methods,
        seeds=experiment.seeds,
        epochs=experiment.epochs or problem.epochs,
        batch_size=experiment.batch_size or problem.batch_size,
        tolerance=experiment.tolerance or problem.tolerance,
        align=False,
        precision=experiment.precision or problem.precision,
        solver=experiment.solver,
        data=experiment.data,
    )
