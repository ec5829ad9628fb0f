"""What one would train with instead of a tap, over JAX: TayNODE, RNODE and STEER.

TayNODE: Kelly, Bettencourt, Johnson, Duvenaud, Learning Differential Equations that are Easy to Solve (NeurIPS 2020,
arXiv 2007.04504). RNODE: Finlay, Jacobsen, Nurbekyan, Oberman, How to Train Your Neural ODE (ICML 2020, arXiv
2002.02798). STEER: Ghosh, Behl, Dupont, Torr, Namboodiri, STEER: Simple Temporal Regularization For Neural ODEs
(NeurIPS 2020, arXiv 2006.10711).

All of it happens in training alone; a model is evaluated by the plain solve. The weights are in `methods`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optimistix
from jax.experimental.jet import jet

from .diffrax_solve import Field, controller_of, solve_ode, times_of
from .trainer import Setting

Solved = tuple[Any, tuple[Any, ...]]


def rival_solve(setting: Setting, parameters: Any, y0: Any, key: Any) -> Solved:
    """The training solve of the rival named in the setting: the states at the times, and the values it penalizes."""
    field = partial(setting.problem.field, parameters)
    return RIVALS[setting.rival or ""](setting, field, y0, times_of(setting.problem, y0), key)


def derivatives(field: Field, t: Any, y: Any, order: int) -> list[Any]:
    """y', y'', ... up to the given order, along the solution through (t, y): total derivatives, t moving too.

    JAX's `jet` knows most primitives, and no function with a derivative of its own, such as `jax.nn.relu`.
    """
    found = [field(t, y)]
    for known in range(1, order):
        # `jet` wants as many coefficients of t as of y: t' = 1, and nothing after it.
        time = [jnp.ones_like(t)] + [jnp.zeros_like(t)] * (known - 1)
        slope, higher = jet(field, (t, y), (time, found))  # type: ignore[no-untyped-call]  # jax's own
        found = [slope, *higher]
    return found


def _taynode(order: int, setting: Setting, field: Field, y0: Any, times: Any, key: Any) -> Solved:  # noqa: ARG001  # draws nothing
    """R_K = int mean |d^K y / dt^K|^2 dt (eq. 1)."""

    def rates(t: Any, y: Any) -> Solved:
        found = derivatives(field, t, y, order)
        return found[0], (_mean_square(found[-1]),)

    return _augmented(setting, rates, 1, y0, times)


def _rnode(setting: Setting, field: Field, y0: Any, times: Any, key: Any) -> Solved:
    """The kinetic int mean |f|^2 dt, and int mean |eps^T df/dy|^2 dt with one eps for the whole solve.

    E |eps^T J|^2 = |J|_F^2. eps is of signs, as in TayNODE's code and by a flag of RNODE's. The factor 1/2 that
    RNODE's code puts before the first is left to the weight.
    """
    signs = jax.random.rademacher(key, y0.shape, y0.dtype)

    def rates(t: Any, y: Any) -> Solved:
        slope, pull = jax.vjp(partial(field, t), y)
        return slope, (_mean_square(slope), _mean_square(pull(signs)[0]))

    return _augmented(setting, rates, 2, y0, times)


def _augmented(setting: Setting, rates: Callable[[Any, Any], Solved], count: int, y0: Any, times: Any) -> Solved:
    """Solves y and, beside it, the integrals of what `rates` gives with the slope."""
    # The steps are those of y alone: RNODE's code gives the integrals tolerances of 1e20, TayNODE's leaves them out
    # of the error (`odeint_sepaux`). Otherwise the penalty would pay for steps that the model does not need.
    controller = controller_of(setting, norm=lambda scaled: optimistix.rms_norm(scaled[0]))
    start = (y0, (jnp.zeros((), y0.dtype),) * count)
    states, integrals = solve_ode(setting, lambda t, state: rates(t, state[0]), start, times, controller).ys
    return states, tuple(x[-1] for x in integrals)


def _steer(setting: Setting, field: Field, y0: Any, times: Any, key: Any) -> Solved:
    return solve_ode(setting, field, y0, steered(times, key)).ys, ()


def steered(times: Any, key: Any) -> Any:
    """Each time but the first drawn around its place, within half of the gap before it.

    On [0, 1] this is t1 ~ U(1 - b, 1 + b) with b = 0.5, and over several times what Pal21's code does
    (`latent_ode.jl::sample_tbounds`): drawn from as far as b = 0.5, they might change places.
    """
    gaps = jnp.diff(times)
    return times.at[1:].add(gaps * jax.random.uniform(key, gaps.shape, gaps.dtype, -0.5, 0.5))


def _mean_square(x: Any) -> Any:
    return jnp.mean(jnp.square(x))


RIVALS: dict[str, Callable[[Setting, Field, Any, Any, Any], Solved]] = {
    "taynode-2": partial(_taynode, 2),
    "taynode-3": partial(_taynode, 3),
    "rnode": _rnode,
    "steer": _steer,
}
