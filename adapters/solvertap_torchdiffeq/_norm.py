"""The error ratio that a solver of torchdiffeq compares with 1."""

from __future__ import annotations

from typing import Any

import torch

from ._field import TappedField


class TappedNorm:
    """The solver's own norm, through which the tap on the error ratio finds the solve."""

    def __init__(self, field: TappedField, norm: Any, y0: Any) -> None:
        self.field = field
        self.norm = norm
        # Terms are measured in at least 32 bits; a ratio in fewer is another number.
        self.is_measure = torch.finfo(y0.dtype).bits >= 32

    def __call__(self, state: Any) -> Any:
        return self.norm(state)

    def error_ratio(self, compute_error_ratio: Any, *inputs: Any) -> Any:
        """The error ratio, without gradient, as rk_common.py::_adaptive_step uses it."""
        recording = torch.is_grad_enabled()
        try:  # an interrupt may come after any call
            torch._C._set_grad_enabled(False)  # `torch.no_grad` makes nine calls
            ratio = compute_error_ratio(*inputs, self.norm)
        finally:
            torch._C._set_grad_enabled(recording)
        self.field.error_ratio = ratio if self.is_measure else None
        return ratio
