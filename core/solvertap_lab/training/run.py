"""What came of training one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Place = tuple[str, str, int]
"""Which run: backend, method, seed."""


@dataclass
class Run:
    """One trained model.

    Attributes:
        backend, method, seed: which one.
        penalty: the terms of the method and their weights, in words.
        metric: the test metric.
        validation: the same metric of the validation data; None where there are none.
        evaluations, accepted, rejected: of the one solve that predicts the whole test set.
        train_seconds: of all epochs, compilation apart; no clean measurement where other runs were trained beside it.
        step_milliseconds: of one optimiser step, their median; compilation apart. NaN as long as it is not measured.
        compile_seconds: of compilation, where there is any.
        predict_milliseconds: median over several predictions of the whole test set. NaN as long as it is not measured.
        beside: the most other runs that were being trained on the same machine after one of its epochs.
        day: on which its training began, as in `2026-11-29`: from day to day, one machine is not equally fast. Each day
            on which it was gone on with stands behind, as in `2026-11-29, 2026-11-30`.
        timed: the day on which the predictions were timed; empty where they are not, and for runs written before there
            was this field.
        trials: of the search that has chosen its weight; 0 where it was given.
        timed_after: whether the milliseconds were measured after all training, a step's from the trained weights.
        losses: the task loss before each optimiser step.
        evaluations_by_epoch: the mean evaluations of one training solve, epoch by epoch.
        trace: of the predicting solve.
        failure: what the framework said, if training failed; then the numbers say nothing.
    """

    backend: str
    method: str
    seed: int
    penalty: str = ""
    metric: float = 0.0
    validation: float | None = None
    evaluations: int | None = 0
    accepted: int = 0
    rejected: int = 0
    train_seconds: float = 0.0
    step_milliseconds: float = 0.0
    compile_seconds: float = 0.0
    predict_milliseconds: float = 0.0
    beside: int = 0
    day: str = ""
    timed: str = ""
    timed_after: bool = False
    trials: int = 0
    losses: list[float] = field(default_factory=list)
    evaluations_by_epoch: list[float] = field(default_factory=list)
    trace: dict[str, list[Any]] = field(default_factory=dict)
    failure: str | None = None

    @property
    def place(self) -> Place:
        """Which one."""
        return self.backend, self.method, self.seed

    @property
    def days(self) -> list[str]:
        """Those of `day`."""
        return self.day.split(", ")

    def goes_on(self, day: str) -> None:
        """Notes that it is trained on this day, too. Where the first day is not known, the others say nothing."""
        if self.day and day not in self.days:
            self.day = ", ".join([*self.days, day])

    @property
    def waits_for_times(self) -> bool:
        """Whether it has ended, and its milliseconds are still to be measured."""
        return self.failure is None and math.isnan(self.predict_milliseconds) and not self.timed_after


@dataclass(frozen=True)
class Standing:
    """Where the training of one model stands after an epoch.

    Attributes:
        run: what has been measured; `evaluations_by_epoch` has the epochs that are done.
        step_seconds: of every optimiser step.
        drawing: the state of the generator that draws the batches.
        trainer: that of the trainer.
        averaged: the mean of the weights so far; empty where none is taken yet.
    """

    run: Run
    step_seconds: list[float]
    drawing: Mapping[str, Any]
    trainer: Mapping[str, np.ndarray[Any, Any]]
    averaged: Mapping[str, np.ndarray[Any, Any]]


class Checkpoint(Protocol):
    """Where the standing of one run is kept."""

    def read(self) -> Standing | None:
        """What was kept last; None where there is nothing to go on from."""
        ...

    def write(self, standing: Standing) -> None:
        """Keeps it in the place of the one before."""
        ...

    def clear(self) -> None:
        """Forgets it: the run has ended."""
        ...
