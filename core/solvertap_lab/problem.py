"""A problem: data, a model over array operators, and the settings of the paper it comes from.

A model sees arrays of whatever framework trains it: it uses operators, methods common to all of them, and the
namespace that `array_api_compat` finds for what they lack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np

from solvertap.errors import InvalidInputError
from solvertap.steps.arrays import Array
from solvertap.terms.presets import Preset

FIRST_STEP = 0.01
"""The first step of every SDE solve: torchsde must be told one, and diffrax starts there by itself."""

Kind = Literal["adam", "momentum"]
Parameters = Mapping[str, Array]
Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Optimiser:
    """Adam, or gradient descent with momentum.

    Attributes:
        kind: "adam" or "momentum".
        rate: the learning rate.
        decay: it is divided by 1 + decay k at step k (Flux's `InvDecay`).
    """

    kind: Kind
    rate: float
    decay: float = 0.0

    @classmethod
    def of(cls, text: str) -> Optimiser:
        """The one of "NAME=RATE".

        Raises:
            InvalidInputError: there is no such optimiser, or the rate is not a positive number.
        """
        name, _, given = text.partition("=")
        try:
            rate = float(given)
        except ValueError:
            rate = 0.0
        if name not in get_args(Kind) or not 0 < rate < float("inf"):
            raise InvalidInputError(
                f"`--optimiser` is {text!r}; give adam=RATE or momentum=RATE with a positive rate, as in `adam=0.003`."
            )
        return cls(cast(Kind, name), rate)


class Problem(ABC):
    """One problem of `solvertap compare`.

    Attributes:
        name: what it is called on the command line.
        summary: one line on what is learned from what.
        stochastic: whether it is an SDE.
        metric: the name of the test metric and its unit.
        times: where the solution is wanted, the first one being the start.
        tolerance: both rtol and atol, by default.
        epochs, batch_size, precision: defaults; `precision` is 32 or 64 bits.
        optimiser: the same in every framework; another may be put in its place.
        presets: the preset of each method.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    stochastic: ClassVar[bool] = False
    metric: ClassVar[str]
    times: ClassVar[tuple[float, ...]]
    tolerance: ClassVar[float]
    epochs: ClassVar[int]
    batch_size: ClassVar[int]
    precision: ClassVar[Literal[32, 64]]
    optimiser: Optimiser
    presets: ClassVar[Mapping[str, Preset]]

    @abstractmethod
    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
        """Fresh weights by name."""

    @abstractmethod
    def batches(self, rng: np.random.Generator, size: int) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        """The batches of one epoch, all of one size."""

    @abstractmethod
    def test_batch(self) -> dict[str, np.ndarray[Any, Any]]:
        """All of the test data."""

    @abstractmethod
    def initial_state(self, batch: Batch) -> Array:
        """The state at the first time: shape (batch, d)."""

    @abstractmethod
    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:
        """The slope, or the drift: shape (batch, d)."""

    def diffusion(self, parameters: Parameters, t: Array, y: Array) -> Array:
        """The diagonal diffusion of an SDE: shape (batch, d)."""
        raise NotImplementedError(f"{self.name} is no SDE")

    @abstractmethod
    def loss(self, parameters: Parameters, states: Array, batch: Batch) -> Array:
        """The task loss of the states at `times`, shape (times, batch, d)."""

    @abstractmethod
    def score(self, parameters: Parameters, states: Array, batch: Batch) -> Array:
        """The test metric of the states at `times`."""


def dense(
    rng: np.random.Generator, inputs: int, outputs: int, name: str, time: bool = False
) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of one dense layer, Glorot-uniform; with `time`, the time is one more input."""
    bound = np.sqrt(6 / (inputs + time + outputs))
    weights = {
        f"{name}.weight": rng.uniform(-bound, bound, (inputs, outputs)),
        f"{name}.bias": np.zeros(outputs),
    }
    if time:
        weights[f"{name}.time"] = rng.uniform(-bound, bound, outputs)
    return weights


def apply(parameters: Parameters, name: str, x: Array, t: Array | None = None) -> Array:
    """A dense layer without its activation."""
    out = x @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]
    return out if t is None else out + t * parameters[f"{name}.time"]
