"""The cases whose cost `make bench` measures: one problem in one framework each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..problems.mnist import Mnist
from ..problems.problem import Arrays, Problem
from ..problems.spiral import Spiral, SpiralSDE
from .models import Layered, ShortSDE, Two, TwoWide


@dataclass(frozen=True)
class Case:
    """One problem in one framework.

    Attributes:
        backend: the framework.
        label: what the table calls the problem.
        problem: its field and weights.
        shape: of the initial state.
        tolerance: both rtol and atol.
        steps: at least so many, by a bound on their size; None to leave them to the tolerance.
        adjoint: whether the solve is one of a continuous adjoint.
        first_step: its size in torch; None for the library's own choice, or for SDEs that of the problems.
    """

    backend: str
    label: str
    problem: Problem
    shape: tuple[int, int]
    tolerance: float
    steps: int | None = None
    first_step: float | None = None
    adjoint: bool = False

    def model(self) -> tuple[Arrays, np.ndarray[Any, Any]]:
        """Weights and an initial state, in the precision of the problem."""
        rng = np.random.default_rng(0)
        dtype = np.float64 if self.problem.precision == 64 else np.float32
        weights = {name: value.astype(dtype) for name, value in self.problem.parameters(rng).items()}
        return weights, rng.uniform(0, 1, self.shape).astype(dtype)


_SIZES: tuple[tuple[str, type[Problem], tuple[int, int], float], ...] = (
    ("spiral, 64 x 2", Spiral, (64, 2), 1e-7),
    ("MNIST, 128 x 784", Mnist, (128, 784), 1e-5),
    ("MNIST, 512 x 784", Mnist, (512, 784), 1e-5),
    ("16 layers, 512 x 20", Layered, (512, 20), 1e-7),
)
# Every sample takes steps of its own.
_BATCHES: tuple[tuple[str, type[Problem], tuple[int, int], float], ...] = (
    ("2 layers, 256 x 2", Two, (256, 2), 1e-6),
    ("2 layers, 256 x 20", TwoWide, (256, 20), 1e-6),
    ("16 layers, 256 x 20", Layered, (256, 20), 1e-6),
)
CASES = (
    *(
        Case(backend, label, problem(), shape, tolerance)
        for backend in ("torchdiffeq", "diffrax")
        for label, problem, shape, tolerance in _SIZES
    ),
    *(Case("torchode", label, problem(), shape, tolerance) for label, problem, shape, tolerance in _BATCHES),
    Case("torchsde", "spiral SDE, 64 x 2", SpiralSDE(), (64, 2), 1e-2),
)
EXPLAINED = tuple(
    Case(backend, "MNIST, 128 x 784, at 1e-7", Mnist(), (128, 784), 1e-7) for backend in ("torchdiffeq", "diffrax")
)
"""Solves at the tolerance of the paper's problems, whose explanation is measured alone."""
_SHORT: tuple[tuple[str, type[Problem], tuple[int, int], float], ...] = (
    ("2 layers, 64 x 2, short", Two, (64, 2), 1e-4),
    ("2 layers, 64 x 20, short", TwoWide, (64, 20), 1e-4),
    ("MNIST, 128 x 784, short", Mnist, (128, 784), 1e-2),
)
SHORT = (
    *(
        Case(backend, label, problem(), shape, tolerance, first_step=0.25)
        for backend in ("torchdiffeq", "diffrax")
        for label, problem, shape, tolerance in _SHORT
    ),
    Case("torchsde", "spiral SDE, 64 x 2, short", ShortSDE(), (64, 2), 1e-1, first_step=0.25),
)
"""Solves of two to five steps, which are what a regularized model takes: there the fixed part of the cost counts."""

LONG = Case("torchdiffeq", "16 layers, 512 x 20, 200 steps", Layered(), (512, 20), 1e-2, steps=200)
ADJOINTS = (
    Case("torchdiffeq", "MNIST, 128 x 784, adjoint", Mnist(), (128, 784), 1e-5, adjoint=True),
    Case("diffrax", "MNIST, 128 x 784, adjoint", Mnist(), (128, 784), 1e-5, adjoint=True),
    Case("torchsde", "spiral SDE, 64 x 2, adjoint", SpiralSDE(), (64, 2), 1e-2, adjoint=True),
    Case("torchdiffeq", "16 layers, 512 x 20, 40 steps, adjoint", Layered(), (512, 20), 1e-2, steps=40, adjoint=True),
)
"""Solves that no gradient passes through, which are replayed."""
