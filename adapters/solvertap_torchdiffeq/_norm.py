"""What a solver of torchdiffeq compares with 1, heard as it is computed."""

from __future__ import annotations

from typing import Any

import torch

from ._field import TappedField


class HeardNorm:
    """The solver's own norm, by which the tap on what the solver compares with 1 knows whose solve it is."""

    def __init__(self, field: TappedField, norm: Any, y0: Any) -> None:
        self.field = field
        self.norm = norm
        # In 32 bits or more it is the term itself, which is measured in as many.
        self.is_measure = torch.finfo(y0.dtype).bits >= 32

    def __call__(self, state: Any) -> Any:
        return self.norm(state)

    def heard(self, compute_error_ratio: Any, *inputs: Any) -> Any:
        """What the solver compares with 1: undifferentiated, as rk_common.py::_adaptive_step uses it."""
        recording = torch.is_grad_enabled()
        try:  # an interrupt may come behind any call
            torch._C._set_grad_enabled(False)  # `torch.no_grad` is made of nine calls
            size = compute_error_ratio(*inputs, self.norm)
        finally:
            torch._C._set_grad_enabled(recording)
        self.field.size = size if self.is_measure else None
        return size
