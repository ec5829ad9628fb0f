"""One epoch of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from ..problems.problem import Arrays
from .run import Run
from .trainer import Trainer


def train_epoch(
    trainer: Trainer, run: Run, draw: Callable[[], Iterator[Arrays]], weights: tuple[float, ...]
) -> list[float]:
    """Trains one epoch, and notes its losses, evaluations and seconds; returns the seconds of each step.

    Args:
        trainer: the model.
        run: what has been measured of it.
        draw: gives the batches; drawing them is part of the time.
        weights: of the terms.
    """
    counts, seconds = [], []
    started = time.perf_counter()
    for batch in draw():
        step_started = time.perf_counter()
        loss, stats = trainer.step(batch, weights)
        seconds.append(time.perf_counter() - step_started)
        run.losses.append(loss)
        counts.append(float("nan") if stats.evaluations is None else float(stats.evaluations))
    run.train_seconds += time.perf_counter() - started
    run.evaluations_by_epoch.append(float(np.mean(counts)))
    return seconds
