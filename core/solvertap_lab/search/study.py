"""The trials of one method. Needs Optuna."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from .weights import RANGE

_AT_RANDOM = 4  # trials, before what has been found says where to look
_FACTOR, _OVER, _ENDED = "factor", "over", "ended"


class Study:
    """Trials of the factor of a weight, kept in a journal: an interrupted one is tried again, with the same factor.

    The objective is a constrained one: the fewest evaluations, among what is not over the allowance.

    Args:
        journal: the file.
        name: of the method and the backend.
        seed: of what is drawn.
    """

    def __init__(self, journal: Path, name: str, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
        # Moved on with what is there, or a search that is gone on with would draw the same again.
        seed += len(self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_AT_RANDOM)
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self.put_back(trial)

    @property
    def factors(self) -> list[float]:
        """Those of all trials that have ended."""
        return [trial.params[_FACTOR] for trial in self._study.get_trials(deepcopy=False) if _has_ended(trial)]

    def ask(self, count: int) -> list[tuple[Trial, float]]:
        """Trials, and the factor of each."""
        asked = [self._study.ask({_FACTOR: FloatDistribution(*RANGE, log=True)}) for _ in range(count)]
        return [(trial, trial.params[_FACTOR]) for trial in asked]

    def tell(self, trial: Trial, evaluations: float | None, over: float) -> None:
        """What came of a trial.

        Args:
            trial: which one.
            evaluations: of a training solve; None where training failed.
            over: by how much the validation metric is over the allowance; 0 or less where it is kept.
        """
        trial.set_user_attr(_ENDED, True)
        trial.set_constraint(_OVER, over)
        state = TrialState.FAIL if evaluations is None else TrialState.COMPLETE
        self._study.tell(trial, evaluations, state=state)

    def put_back(self, trial: Trial | FrozenTrial) -> None:
        """Gives up a trial that has not ended; its factor is the next to be tried."""
        self._study.tell(trial.number, state=TrialState.FAIL)
        self._study.enqueue_trial(trial.params)


def _has_ended(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(_ENDED))
