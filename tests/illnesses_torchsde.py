"""Adaptive solves of torchsde that have exactly one illness, and solves that have none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")
torchsde = pytest.importorskip("torchsde")

import solvertap as tap


@dataclass(frozen=True)
class Case:
    """One solve by Milstein's method, whose noise is diagonal.

    Attributes:
        drift, diffusion: map t and y to what they are there.
        tolerance: rtol and atol.
        first: the size of the first step; torchsde chooses none.
        end: from 0.
        bits: of the numbers.
        samples, size: of the state.
    """

    drift: Callable[[Any, Any], Any]
    diffusion: Callable[[Any, Any], Any]
    tolerance: float = 1e-2
    first: float = 0.1
    end: float = 1.0
    bits: int = 64
    samples: int = 4
    size: int = 2


class SDE(torch.nn.Module):
    sde_type, noise_type = "ito", "diagonal"

    def __init__(self, case):
        super().__init__()
        self.case = case
        self.layer = torch.nn.Dropout(0.2)

    def f(self, t, y):
        return self.case.drift(t, self.layer(y))

    def g(self, t, y):
        return self.case.diffusion(t, y)


def _hard(y, axis):
    """The noise of the third sample, or component, is a hundred times that of the others."""
    large = torch.arange(y.shape[axis]) == 2
    return torch.where(large[:, None] if axis == 0 else large, 1.0, 0.01)


# A share of rejections above a third was not to be had: torchsde lets a step grow to 1.4 times the one before at most.
ILL = {
    "stability": Case(lambda t, y: -300 * (y - torch.cos(t)), lambda t, y: 1e-4 + 0 * y, 1e-3, 1e-2),
    "rounding": Case(lambda t, y: -y, lambda t, y: 1e-6 * y, 2e-8, 1e-3, end=0.02, bits=32),
    "accuracy": Case(lambda t, y: -y, lambda t, y: 0.5 * y, 1e-4, 1e-2),
    "first step": Case(lambda t, y: -y, lambda t, y: 1e-3 * y, first=1e-6),
    "one sample": Case(lambda t, y: -y, lambda t, y: _hard(y, 0) * y, 1e-3, 0.02, samples=8),
    "one part": Case(lambda t, y: -y, lambda t, y: _hard(y, 1) * y, 1e-3, 0.02, size=8),
}

HEALTHY = {
    "geometric": Case(lambda t, y: -y, lambda t, y: 0.2 * y),
    "additive": Case(lambda t, y: -y, lambda t, y: 0.1 + 0 * y),
    "oscillator": Case(lambda t, y: torch.stack([y[..., 1], -y[..., 0]], -1), lambda t, y: 0.05 * y, end=2.0),
    "double well": Case(lambda t, y: y - y**3, lambda t, y: 0.1 + 0 * y),
    "single precision": Case(lambda t, y: -y, lambda t, y: 0.2 * y, 1e-2, bits=32),
    "tighter": Case(lambda t, y: -y, lambda t, y: 0.1 * y, 1e-3, 0.05),
}


def by_torchsde(case, by=None, training=False, seed=0, adaptive=True):
    """What was seen of the solve of a case, with its trace."""
    dtype = torch.float64 if case.bits == 64 else torch.float32
    torch.manual_seed(seed)
    path = torchsde.BrownianInterval(0.0, case.end, (case.samples, case.size), dtype, entropy=seed)
    times = torch.tensor([0.0, case.end], dtype=dtype)
    with tap.observe(trace=True, by=by) as seen:
        torchsde.sdeint(
            SDE(case).train(training),
            torch.ones(case.samples, case.size, dtype=dtype),
            times,
            bm=path,
            method="milstein",
            adaptive=adaptive,
            dt=case.first,
            dt_min=1e-8,
            rtol=case.tolerance,
            atol=case.tolerance,
        )
    return seen
