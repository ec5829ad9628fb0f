"""How long a step of training and a prediction take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from ..problems.problem import Arrays, Problem
from .trainer import Trainer

STEPS = 21
"""Steps that are timed from the trained weights."""


def today() -> str:
    """The day, as in `2026-11-29`: from day to day, one machine is not equally fast."""
    return time.strftime("%Y-%m-%d")


def time_predictions(trainer: Trainer, batch: Arrays, count: int) -> float:
    """The median milliseconds of so many predictions of a batch, after one that is not timed: it compiles."""
    trainer.predict(batch)
    return 1000 * median(_seconds(partial(trainer.predict, batch)) for _ in range(count))


def time_steps(trainer: Trainer, batches: Iterator[Arrays], weights: tuple[float, ...]) -> float:
    """The median milliseconds of `STEPS` steps of training, after one that is not timed: a framework warms up."""
    trainer.step(next(batches), weights)
    return 1000 * median(_seconds(partial(trainer.step, batch, weights)) for batch in islice(batches, STEPS))


def batches_of(problem: Problem, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
    """Those of one epoch after the other."""
    while True:
        yield from problem.batches(rng, size)


def _seconds(do: Callable[[], Any]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started
