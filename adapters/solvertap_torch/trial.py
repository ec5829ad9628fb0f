"""The base of the trials of torch's solvers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from solvertap.adapting import Trial


class TorchTrial(Trial):
    """Arrays are tensors, on the GPU if there is one."""

    def __init__(self, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(0, device=self.device)  # raises where there is no such device

    def array(self, values: Any) -> Any:
        return torch.as_tensor(values, device=self.device)

    def differentiate(self, function: Callable[[Any], tuple[Any, Any]], parameters: Any) -> tuple[Any, Any]:
        parameters = parameters.detach().clone().requires_grad_()
        value, more = function(parameters)
        (gradient,) = torch.autograd.grad(value, parameters)
        return gradient, more

    def reveal(self, function: Callable[..., None], arrays: Sequence[Any]) -> None:
        function(*[x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x for x in arrays])
