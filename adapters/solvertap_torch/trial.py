"""The base of the trial problems of torch's solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from solvertap.adapting import Trial


class TorchTrial(Trial):
    """Two samples of two numbers, and a matrix of parameters; on the GPU if there is one."""

    t0, t1 = 0.0, 1.0
    rtol = atol = 1e-5

    def __init__(self, device: str | None) -> None:
        place: dict[str, Any] = {
            "dtype": torch.float64,
            "device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
        }
        self.y0 = torch.tensor([[1.0, -0.5], [0.3, 0.8]], **place)
        self.parameters = torch.tensor([1.2, -0.4, 0.7, 0.5], **place)

    def differentiate(self, function: Callable[[Any], tuple[Any, Any]]) -> tuple[Any, Any]:
        parameters = self.parameters.clone().requires_grad_()
        value, more = function(parameters)
        (gradient,) = torch.autograd.grad(value, parameters)
        return gradient, more
