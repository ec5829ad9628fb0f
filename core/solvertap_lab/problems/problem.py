"""A problem: data, a model over array operators, and the settings it is trained with.

A model sees arrays of whatever framework trains it: it uses operators, methods common to all of them, and the
namespace that `array_api_compat` finds for what they lack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from solvertap.errors import InvalidInputError
from solvertap.steps.arrays import Array

from .key import Key
from .optimiser import Optimiser

FIRST_STEP = 0.01
"""The first step of an SDE that names none: torchsde must be told one, and diffrax starts there by itself."""

Arrays = dict[str, np.ndarray[Any, Any]]
Parameters = Mapping[str, Array]
Batch = Mapping[str, Array]


class Problem(ABC):
    """One problem of `solvertap compare`.

    A batch is one solve, of a state of shape (batch, d); its solution has the shape (times, batch, d). Where
    `trajectories` is a number, that solve has so many samples of each input, which begin in one state. The solution
    that `loss` and `score` are given then has the shape (trajectories, times, batch, d).

    Attributes:
        name: what it is called on the command line, which sets it.
        summary: one line on what is learned from what.
        metric: the name of the test metric and its unit.
        times: where the solution is wanted, the first one being the start.
        stochastic: whether it is an SDE.
        trajectories: how many samples of each input are solved in training; None for one, without an axis of its own.
        tolerance: both rtol and atol, by default.
        epochs, batch_size, precision: defaults; `precision` is 32 or 64 bits.
        averaged: the weights that predict are the mean over so large a share of the epochs, the last ones; 0 for the
            last weights.
        higher_is_better: whether a larger metric is the better one.
        methods: what is trained where the command line names no method, as texts of `--method`.

    The command line may put others in the place of these:
        optimiser: the same in every framework.
        first_step: the size of the first step; None where the solver is to choose it. An SDE that names none has 0.01.
        test_trajectories: how many samples of each input a prediction solves; None for as many as in training.
    """

    name: str = "problem"
    summary: ClassVar[str]
    metric: ClassVar[str]
    times: ClassVar[tuple[float, ...]]
    stochastic: ClassVar[bool] = False
    trajectories: ClassVar[int | None] = None
    tolerance: ClassVar[float] = 1e-6
    epochs: ClassVar[int] = 100
    batch_size: ClassVar[int] = 32
    precision: ClassVar[Literal[32, 64]] = 32
    averaged: ClassVar[float] = 0.0
    higher_is_better: ClassVar[bool] = False
    methods: ClassVar[Sequence[str]] = ("vanilla", "local-error")
    optimiser: Optimiser = Optimiser("adam", 0.01)
    first_step: float | None = None
    test_trajectories: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.stochastic and cls.first_step is None:
            cls.first_step = FIRST_STEP

    def load(self, data: Path | None, seed: int) -> None:  # noqa: ARG002  # for those that read data
        """Takes what the command line says of the data, before any are asked for.

        Args:
            data: the folder of `--data`; None where it is left out.
            seed: the first seed, for a split that is drawn.

        Raises:
            InvalidInputError: a folder is given, and the problem reads none.
        """
        if data is not None:
            raise InvalidInputError(f"`--data` is {str(data)!r}, and {self.name!r} reads no data; leave it out.")

    @abstractmethod
    def parameters(self, rng: np.random.Generator) -> Arrays:
        """Fresh weights by name."""

    @abstractmethod
    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        """The batches of one epoch, all of one size."""

    @abstractmethod
    def test_batch(self) -> Arrays:
        """All of the test data."""

    def validation_batch(self) -> Arrays | None:
        """All of the validation data, on which the metric is measured as well; None where there are none."""
        return None

    def encode(self, parameters: Parameters, batch: Batch) -> Batch:  # noqa: ARG002  # for those with an encoder
        """The batch that `initial_state`, `loss` and `score` are given; a copy may have more, which they share."""
        return batch

    @abstractmethod
    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:
        """The state at the first time, such as an encoder gives: shape (batch, d). Its weights are trained."""

    @abstractmethod
    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:
        """The slope, or the drift: shape (batch, d)."""

    def diffusion(self, parameters: Parameters, t: Array, y: Array) -> Array:
        """The diagonal diffusion of an SDE in the sense of Stratonovich: shape (batch, d)."""
        raise NotImplementedError(f"{self.name!r} is stochastic, and its class has no `diffusion`")

    @abstractmethod
    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:
        """The task loss of the states at `times`, a scalar; shape (times, batch, d), see the class."""

    @abstractmethod
    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:
        """The metric of the states at `times`, a scalar; shapes as in `loss`."""
