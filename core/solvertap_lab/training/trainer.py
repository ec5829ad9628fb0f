"""What a framework brings to an experiment: its solve, its gradient and its optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from solvertap import Stats, Term, budget
from solvertap.terms.term import NamedTerm, WeightedTerms

from ..problems.problem import Arrays, Problem

Use = Literal["test", "validation"]


@dataclass(frozen=True)
class Setting:
    """How one model is trained.

    Attributes:
        problem: what is learned.
        terms: the terms that are penalized, none for the plain model and for a rival.
        tolerance: both rtol and atol.
        align: whether the reference steps are taken.
        precision: 32 or 64 bits.
        seed: of whatever a framework draws: the Brownian paths of an SDE, and what a problem draws from its key.
        rival: what is trained with in the place of terms, one of `methods.RIVALS`; None where it is none of them.
        solver: one of `solvers`; None for the default of the backend.
        budget: what finds the weight of its term; then no other weights count.
    """

    problem: Problem
    terms: tuple[NamedTerm, ...]
    tolerance: float
    align: bool
    precision: int
    seed: int
    rival: str | None = None
    solver: str | None = None
    budget: budget | None = None

    def weighted(self, weights: tuple[Any, ...]) -> Term | None:
        """The penalty with these weights; None where no term is penalized."""
        return WeightedTerms(tuple(zip(weights, self.terms, strict=True))) if self.terms else None


class Trainer(Protocol):
    """A model in training, in one framework."""

    def prepare(self, batch: Arrays, weights: tuple[float, ...]) -> float:
        """Compiles whatever is compiled, for batches and weights like these; returns the seconds it took."""
        ...

    def step(self, batch: Arrays, weights: tuple[float, ...]) -> tuple[float, Stats]:
        """One optimiser step; the task loss before it, and the counts of its solve."""
        ...

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that the next step depends on, the batch and the weights apart."""
        ...

    def restore(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Goes on from such a state, bitwise."""
        ...

    def weights(self) -> Arrays:
        """The weights of the model by name, copied."""
        ...

    def use(self, weights: Arrays) -> None:
        """Predicts with these from now on."""
        ...

    def predict(self, batch: Arrays, use: Use = "test") -> tuple[float, Stats]:
        """The metric of a batch and the counts of the one solve it took.

        The same model draws the same each time. What it draws for one use has nothing to do with that for the other,
        and the next step of training does not know of it.
        """
        ...

    def trace(self, batch: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        """The trace of the solve that predicts for the test."""
        ...


MakeTrainer = Callable[[Setting, Arrays], Trainer]
