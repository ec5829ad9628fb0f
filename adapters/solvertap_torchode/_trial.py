"""How torchode solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchode

from solvertap_torch.trial import TorchTrial

_torchode: Any = torchode  # its annotations are types of its own, which no tensor has


class TorchodeTrial(TorchTrial):
    """By `Dopri5`, without the gradient of step sizes; a state of several numbers is a batch of one."""

    reference = "torchdiffeq"

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        term = _torchode.ODETerm(_OfOne(field, parameters, y0))
        return self._solve(_adjoint(term, _controller(term, rtol, atol)), y0, t0, t1, first)

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        term = _torchode.ODETerm(_OfOne(field, parameters, y0))
        controller = _controller(term, rtol, atol)
        whole = _torchode.FixedStepController()
        controller.init, controller.adapt_step_size = whole.init, whole.adapt_step_size
        return self._solve(_adjoint(term, controller), y0, t0, t1, float(t1 - t0))

    def adjoint(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        term = _torchode.ODETerm(_OfOne(field, parameters, y0))
        return self._solve(
            _torchode.BacksolveAdjoint(term, _torchode.Dopri5(term), _controller(term, rtol, atol)), y0, t0, t1, first
        )

    def solve_batch(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        term = _torchode.ODETerm(lambda t, y: field(t[:, None], y, parameters))
        adjoint = _adjoint(term, _controller(term, rtol, atol))
        return adjoint.solve(_torchode.InitialValueProblem(y0, t0, t1), dt0=torch.full_like(t0, first)).ys[:, -1]

    def own_counts(self) -> Mapping[str, int]:
        steps, accepted, evaluations = (int(self._counted[name]) for name in ("n_steps", "n_accepted", "n_f_evals"))
        return {"accepted": accepted, "rejected": steps - accepted, "evaluations": evaluations}

    def _solve(self, adjoint: Any, y0: Any, t0: Any, t1: Any, first: Any) -> Any:
        start, end = (torch.full((1,), float(t), dtype=y0.dtype, device=y0.device) for t in (t0, t1))
        dt = None if first is None else torch.full_like(start, first)
        solution = adjoint.solve(_torchode.InitialValueProblem(y0.reshape(1, -1), start, end), dt0=dt)
        self._counted = solution.stats
        return solution.ys[0, -1].reshape(y0.shape)


class _OfOne(torch.nn.Module):
    """A field of one state, as torchode calls it: with a batch of one, or with a sample of it under `vmap`."""

    def __init__(self, field: Any, parameters: Any, y0: Any) -> None:
        super().__init__()
        self.field, self.shape = field, y0.shape
        self._parameters["given"] = parameters  # the tensor itself, which a continuous adjoint differentiates by

    def forward(self, t: Any, y: Any) -> Any:
        return self.field(t.reshape(()), y.reshape(self.shape), self.given).reshape(y.shape)


def _adjoint(term: Any, controller: Any) -> Any:
    return _torchode.AutoDiffAdjoint(_torchode.Dopri5(term), controller, backprop_through_step_size_control=False)


def _controller(term: Any, rtol: float, atol: float) -> Any:
    controller = _torchode.IntegralController(atol, rtol, term=term)
    # step_size_controllers.py rounds the tolerances to torch's default dtype.
    controller.atol, controller.rtol = (torch.tensor(x, dtype=torch.float64) for x in (atol, rtol))
    return controller
