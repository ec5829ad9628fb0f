"""Pal21's latent ODE: an encoder reads irregular series backwards, an ODE carries what it found, a layer decodes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace

from solvertap.steps.arrays import Array

from .batching import shuffled
from .gru import MEMORY, memory_weights, read_backwards
from .key import Key
from .layers import apply, dense
from .optimiser import Optimiser
from .pbcseq import pbcseq
from .physionet import physionet
from .problem import Arrays, Batch, Parameters, Problem
from .series import POINTS, Series, split

_LATENT, _WIDTH, _BLOCKS = 20, 50, 4
_NOISE = 0.01  # the standard deviation of an observation


class Latent(Problem):
    """Learns to reconstruct clinical series; model and settings are those of Pal21's code, `latent_ode`.

    The encoder reads all that is scored, as in the code: what is left to learn is to hold it in 20 numbers.

    The paper trains on Physionet 2012, which no package brings. Without `--data`, pbcseq stands in for it: real series
    of 312 patients, visited at irregular times for years; the figures are not the paper's. With the text files of
    Physionet 2012 in the folder of `--data` it trains on those.

    Not as in the code are: the weight of the Kullback-Leibler divergence, which is 1, to which the code anneals it,
    since a loss is not told its epoch; the constant of the likelihood, which counts observed values alone and has no
    gradient; the tolerance, 1.4e-8 there, which is below the rounding of 32 bits; and a validation split.
    """

    name = "latent"
    summary = "latent ODE on clinical series; pbcseq stands in for Physionet 2012, which `--data` reads"
    metric = "test error, mse"
    times = tuple(np.linspace(0.0, 1.0, POINTS).tolist())
    tolerance = 1e-6
    first_step = 0.02
    epochs = 200
    batch_size = 64
    precision = 32
    optimiser = Optimiser("adamax", 0.01, decay=1e-5)
    methods: ClassVar[Sequence[str]] = (
        "vanilla",
        "pal21-physionet-error",
        "pal21-physionet-stiffness",
        "pal21-physionet-both",
    )

    _data: Path | None = None

    def load(self, data: Path | None, seed: int) -> None:  # noqa: ARG002  # one split for all seeds
        """Takes the folder with Physionet's text files; None for pbcseq."""
        self._data = data

    def parameters(self, rng: np.random.Generator) -> Arrays:
        features = self._train.values.shape[2]
        weights = memory_weights(rng, features)
        weights |= dense(rng, 2 * MEMORY, 50, "encoder.hidden") | dense(rng, 50, 2 * _LATENT, "encoder.out")
        for block in range(_BLOCKS):
            weights |= dense(rng, _LATENT, _WIDTH, f"field.{block}.hidden")
            weights |= dense(rng, _WIDTH, _LATENT, f"field.{block}.out")
        return weights | dense(rng, _LATENT, features, "decoder")

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        for chosen in shuffled(rng, self._train.values.shape[1], size):
            yield _batch(self._train.of(chosen))

    def test_batch(self) -> Arrays:
        return _batch(self._split[2])

    def validation_batch(self) -> Arrays:
        return _batch(self._split[1])

    def encode(self, parameters: Parameters, batch: Batch) -> Batch:
        """Adds the mean and the log variance of the encoder's Gaussian, which the draw and the loss need."""
        xp = array_namespace(batch["values"])
        memory = read_backwards(parameters, batch["values"] * batch["mask"], batch["mask"])
        out = apply(parameters, "encoder.out", xp.tanh(apply(parameters, "encoder.hidden", memory)))
        return {**batch, "mean": out[:, :_LATENT], "log_variance": out[:, _LATENT:]}

    def initial_state(self, parameters: Parameters, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # has encoded
        """A draw from the encoder's Gaussian: in prediction as in training, as in Pal21's code."""
        mean = batch["mean"]
        return mean + array_namespace(mean).exp(batch["log_variance"] / 2) * key.normal(tuple(mean.shape))

    def field(self, parameters: Parameters, t: Array, y: Array) -> Array:  # noqa: ARG002  # autonomous
        xp = array_namespace(y)
        y = xp.tanh(y)
        for block in range(_BLOCKS):
            y = xp.tanh(apply(parameters, f"field.{block}.hidden", y))
            y = xp.tanh(apply(parameters, f"field.{block}.out", y))
        return y

    def loss(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:
        """The negative evidence lower bound, its likelihood averaged over what was observed of each patient.

        The divergence is averaged over the latent dimensions, as in the code.
        """
        xp = array_namespace(states)
        mean, log_variance = batch["mean"], batch["log_variance"]
        divergence = xp.mean(xp.exp(log_variance) + mean**2 - 1 - log_variance) / 2
        constant = math.log(_NOISE) + math.log(2 * math.pi) / 2
        return self.score(parameters, states, batch, key) / (2 * _NOISE**2) + constant + divergence

    def score(self, parameters: Parameters, states: Array, batch: Batch, key: Key) -> Array:  # noqa: ARG002  # draws nothing
        """The squared error of the observed values, averaged over each patient and then over the patients."""
        xp = array_namespace(states)
        residual = (apply(parameters, "decoder", states) - batch["values"]) * batch["mask"]
        return xp.mean(xp.sum(residual**2, axis=(0, 2)) / xp.sum(batch["mask"], axis=(0, 2)))

    @property
    def _train(self) -> Series:
        return self._split[0]

    @cached_property
    def _split(self) -> tuple[Series, Series, Series]:
        return split(pbcseq() if self._data is None else physionet(self._data))


def _batch(series: Series) -> Arrays:
    return {"values": series.values, "mask": series.mask}
