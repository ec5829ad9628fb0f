"""An experiment that is ready to be trained: its data are there, and what has been trained already is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..progress import check_checkpoints
from ..results.ledger import Ledger
from ..training.comparison import Comparison
from ..training.methods import VANILLA
from ..training.recipe import Recipe
from ..training.run import Run
from .experiments import Experiment


@dataclass(frozen=True)
class Prepared:
    """An experiment, its comparison, and what its folder holds.

    Attributes:
        experiment: which one.
        recipe: how it is trained.
        ledger: the runs that have ended, in its folder.
    """

    experiment: Experiment
    recipe: Recipe
    ledger: Ledger

    @property
    def comparison(self) -> Comparison:
        """What is trained."""
        return self.ledger.comparison

    @property
    def runs(self) -> Sequence[Run]:
        """Those that have ended, and those that failed."""
        return self.ledger.known()


def prepare(experiment: Experiment, folder: Path) -> Prepared:
    """Reads the data and the folder.

    Raises:
        MissingExtraError: a package of the framework or of the data is not installed.
        InvalidInputError: the folder holds runs of other settings, or files that cannot be read.
    """
    recipe = recipe_of(experiment)
    comparison = recipe.comparison()
    comparison.problem.test_batch()
    ledger = Ledger(comparison, folder, resume=True)
    # Kept in the folder from before the first one has ended.
    folder.mkdir(parents=True, exist_ok=True)
    check_checkpoints(ledger, folder)
    return Prepared(experiment, recipe, ledger)


def recipe_of(experiment: Experiment) -> Recipe:
    """The comparison of an experiment."""
    return Recipe(
        problem=experiment.problem,
        methods=(VANILLA, *experiment.methods),
        backends=(experiment.backend,),
        seeds=experiment.seeds,
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        tolerance=experiment.tolerance,
        precision=experiment.precision,
        optimiser=experiment.optimiser,
        first_step=experiment.first_step,
        solver=experiment.solver,
        data=experiment.data,
    )
