"""Solves in the logger of a Lightning trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from .training import Training


class SolveCallback(Callback):
    """Logs the mean counts of the solves of each training batch: `Trainer(callbacks=[SolveCallback()])`.

    Args:
        term: as for `regularize`: a term to add, or its text; None only counts.
    """

    def __init__(self, term: Any = None) -> None:
        super().__init__()
        self._log = Training(term)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # here and below: as Lightning calls it
        self._log.begin()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        pl_module.log_dict(self._log.take())

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        self._log.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        self._log.end()
