"""How `odeint` solves a problem that it is given, for `solvertap doctor` and the conformance kit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import ode

from solvertap_jax import JaxTrial

_ode: Any = ode  # its functions have no types
_STEPS = 100  # a trace and a replay need a bound


class JaxOdeTrial(JaxTrial):
    """By `odeint`, which chooses every step size itself, the first one too."""

    reference = "diffrax"

    def solve(
        self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float, first: Any
    ) -> Any:
        del first
        times = jnp.asarray([t0, t1], y0.dtype)
        return _ode.odeint(lambda y, t, p: field(t, y, p), y0, times, parameters, rtol=rtol, atol=atol, mxstep=_STEPS)[
            -1
        ]

    def one_step(self, field: Any, parameters: Any, y0: Any, t0: Any, t1: Any, *, rtol: float, atol: float) -> Any:
        del rtol, atol  # it is taken whatever its error is
        t0, t1 = (jnp.asarray(t, y0.dtype) for t in (t0, t1))

        def slope(y: Any, t: Any) -> Any:
            return field(t, y.reshape(y0.shape), parameters).ravel()

        with jax.default_matmul_precision("highest"):
            y1, *_ = _ode.runge_kutta_step(slope, y0.ravel(), slope(y0.ravel(), t0), t0, t1 - t0)
        return y1.reshape(y0.shape)
