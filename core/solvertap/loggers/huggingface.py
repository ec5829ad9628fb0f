"""Solves in the logs of a trainer of Hugging Face."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from .training import Training


class SolveCallback(TrainerCallback):
    """Logs the mean counts of solves beside each loss: `Trainer(callbacks=[SolveCallback()])`.

    They are in `trainer.state.log_history`, and in what callbacks behind this one get, the progress bar among them.
    What the trainer reports to by itself (`report_to`) comes before it.

    Args:
        term: as for `regularize`: a term to add, or its text; None only counts.
    """

    def __init__(self, term: Any = None) -> None:
        super().__init__()
        self._log = Training(term)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # here and below: as it is called
        self._log.end()  # that of a training that raised
        self._log.begin()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        if "loss" in logs:  # and not what an evaluation or the end of the training logs
            counts = self._log.take()
            logs.update(counts)
            # trainer.py::log: it holds a copy, made before.
            state.log_history[-1].update(counts)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._log.end()

    def close(self) -> None:
        """Ends what a training has left that raised: no callback hears of that."""
        self._log.end()
