"""How torchsde solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torchsde import BrownianInterval, sdeint, sdeint_adjoint

from solvertap_torch.trial import TorchTrial


class _SDE(torch.nn.Module):
    """The field as the drift, and a diffusion."""

    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self, field: Any, parameters: Any) -> None:
        super().__init__()
        self.field = field
        self.parameter = parameters

    def f(self, t: Any, y: Any) -> Any:
        return self.field(t, y, self.parameter)

    def g(self, t: Any, y: Any) -> Any:  # noqa: ARG002  # torchsde's signature
        return 0.3 * torch.sin(y @ self.parameter.reshape(2, 2).T)


class TorchsdeTrial(TorchTrial):
    """By `sdeint` and Heun's method, always on the same Brownian path."""

    rtol = atol = 3e-3
    first = 0.3
    calls_before = 1
    reference = ""  # the parity of SDEs needs one Brownian path in two libraries

    def field(self, t: Any, y: Any, parameters: Any) -> Any:
        return 3 * torch.tanh(y @ parameters.reshape(2, 2)) + torch.sin(20 * t)

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        steps = {} if first is None else {"dt": first}
        return self._solve(sdeint, field, parameters, y0, t0, t1, rtol=rtol, atol=atol, **steps)

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        # One step, cut at the last time; `dt_min` has it accepted with any error.
        h = 2 * float(t1 - t0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Hitting minimum allowed step size")
            return self._solve(sdeint, field, parameters, y0, t0, t1, rtol=rtol, atol=atol, dt=h, dt_min=h)

    def adjoint(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        options = {"adjoint_params": (parameters,), "dt": first}
        return self._solve(sdeint_adjoint, field, parameters, y0, t0, t1, rtol=rtol, atol=atol, **options)

    def _solve(self, sdeint: Any, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, **options: Any) -> Any:
        times = torch.tensor([t0, t1], dtype=y0.dtype, device=y0.device)
        path = BrownianInterval(
            self.t0,
            self.t1,
            size=tuple(y0.shape),
            dtype=y0.dtype,
            device=y0.device,
            entropy=7,
            tol=1e-5,
            halfway_tree=True,  # the path does not depend on the order of the queries
        )
        sde = _SDE(field, parameters)
        return sdeint(sde, y0, times, bm=path, method="heun", adaptive=True, **options)[-1]
