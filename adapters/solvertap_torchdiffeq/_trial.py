"""How torchdiffeq solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

from typing import Any

import torch
from torchdiffeq import odeint, odeint_adjoint

from solvertap_torch.trial import TorchTrial


class TorchdiffeqTrial(TorchTrial):
    """By `odeint` and dopri5."""

    reference = "diffrax"

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        options = None if first is None else {"first_step": first}
        return self._solve(odeint, field, parameters, y0, t0, t1, rtol=rtol, atol=atol, options=options)

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        h = float(t1 - t0)
        # One step as long as the interval; `min_step` has it accepted with any error.
        options = {"first_step": h, "min_step": 2 * h, "step_t": torch.tensor([t1], dtype=y0.dtype, device=y0.device)}
        return self._solve(odeint, field, parameters, y0, t0, t1, rtol=rtol, atol=atol, options=options)

    def adjoint(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        options = {"options": {"first_step": first}, "adjoint_params": (parameters,), "adjoint_options": {}}
        return self._solve(odeint_adjoint, field, parameters, y0, t0, t1, rtol=rtol, atol=atol, **options)

    def _solve(self, odeint: Any, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, **options: Any) -> Any:
        times = torch.tensor([t0, t1], dtype=y0.dtype, device=y0.device)
        return odeint(lambda t, y: field(t, y, parameters), y0, times, method="dopri5", **options)[-1]
