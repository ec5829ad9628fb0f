"""How diffrax solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

from typing import Any

import diffrax
import jax.numpy as jnp

from solvertap_jax.trial import JaxTrial

_BACKSOLVE: Any = diffrax.BacksolveAdjoint  # not typed


class DiffraxTrial(JaxTrial):
    """By `diffeqsolve` and Dormand and Prince's method."""

    reference = "torchdiffeq"

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        controller = diffrax.PIDController(rtol=rtol, atol=atol)
        return self._solve(field, parameters, y0, t0, t1, first, controller)

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        del rtol, atol  # it is taken whatever its error is
        return self._solve(field, parameters, y0, t0, t1, None, diffrax.StepTo(jnp.stack([t0, t1])))

    def adjoint(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        controller = diffrax.PIDController(rtol=rtol, atol=atol)
        return self._solve(field, parameters, y0, t0, t1, first, controller, adjoint=_BACKSOLVE())

    def _solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, first: Any, controller: Any, **options: Any
    ) -> Any:
        solution: Any = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Dopri5(),
            t0,
            t1,
            first,
            y0,
            parameters,
            stepsize_controller=controller,
            max_steps=64,
            **options,
        )
        return solution.ys[-1]
