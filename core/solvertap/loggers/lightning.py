"""Solves in the logger of a Lightning trainer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from lightning.pytorch import Callback

from ..observing.regularize import regularize
from .log import Log, Solved


class SolveCallback(Callback):
    """Logs the mean counts of the solves of each training batch: `Trainer(callbacks=[SolveCallback()])`.

    Args:
        term: as for `regularize`: a term to add, or its text; None only counts.
    """

    def __init__(self, term: Any = None) -> None:
        super().__init__()
        self._regularizer = regularize(term)
        self._regularizer._begun = True  # no warning if it never starts: a trainer need not fit
        self._log = _Batch()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # here and below: as Lightning calls it
        self._regularizer.start()
        try:
            self._log.__enter__()
        except BaseException:
            self._regularizer.stop()
            raise

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        pl_module.log_dict(self._log.take())

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        self._end()

    def _end(self) -> None:
        if self._regularizer.at_work:
            try:
                self._log.__exit__()
            finally:
                self._regularizer.stop()


class _Batch(Log):
    """The counts of the solves since the last `take`."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: defaultdict[str, list[float]] = defaultdict(list)

    def write(self, solved: Solved) -> None:
        self.write_budget({name: float(value) for name, value in solved.scalars().items()})

    def write_budget(self, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self._counts[name].append(value)

    def take(self) -> dict[str, float]:
        """Returns the mean of each count, and forgets the counts."""
        counts, self._counts = self._counts, defaultdict(list)
        return {name: sum(values) / len(values) for name, values in counts.items()}
