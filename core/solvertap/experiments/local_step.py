"""One step from a random time of a solution, and its local error.

Pal, Edelman, Rackauckas, Locally Regularized Neural Differential Equations: Some Black Boxes Were Meant to Remain
Closed! (ICML 2023, arXiv 2303.02262).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from ..blocks import observe, unobserved
from ..builtin_terms import LocalError
from .diffrax_solve import Field

Solve = Callable[..., Any]
Start = tuple[Any, Any, Any]
"""A time, the state there, and the size of the accepted step it lies in."""


def anywhere(solve: Solve, times: Any, key: Any) -> tuple[Any, Start]:
    """The states at the times, and a start drawn uniformly over the time; `solve` saves what it is told to."""
    t = jax.random.uniform(key, (), times.dtype, times[0], times[-1])
    ends = diffrax.SubSaveAt(t0=True, steps=True, fn=lambda t, y, args: t)  # noqa: ARG005  # as diffrax calls it
    saved = (diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(ts=t[None]), ends)
    solution = solve(saveat=diffrax.SaveAt(subs=saved))
    states, y, ends = solution.ys
    # Behind the last step there is infinity, which the last time must not be taken to lie before.
    end = jnp.minimum(jnp.searchsorted(ends, t, side="right"), solution.stats["num_accepted_steps"])
    return states, (t, y[0], ends[end] - ends[end - 1])


def at_a_step(solve: Solve, times: Any, key: Any) -> tuple[Any, Start]:
    """The states at the times, and a start drawn among those of the accepted steps, each as likely."""
    solution = solve(solver=_Reservoir(key=key), saveat=diffrax.SaveAt(ts=times, solver_state=True))
    _, (_, start) = solution.solver_state
    return solution.ys, start


class _Reservoir(diffrax.Dopri5):
    """Dopri5 that keeps the start of one of its accepted steps, for to save the state at each would take them all.

    It rides in the solver state, which diffrax throws away with a rejected step.
    """

    key: Any = None

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return super().init(terms, t0, t1, y0, args), (jnp.asarray(0), (t0, y0, t1 - t0))

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        inner, (count, kept) = solver_state
        y1, error, dense_info, inner, result = super().step(terms, t0, t1, y0, args, inner, made_jump)
        count = count + 1
        # The n-th start takes the place of the one kept with probability 1 / n.
        taken = count * jax.random.uniform(jax.random.fold_in(self.key, count)) < 1
        # No gradient flows into what is kept (see `one_step_error`), so the backward pass need not carry it either.
        kept = jax.tree.map(partial(jnp.where, taken), stop_gradient((t0, y0, t1 - t0)), kept)
        return y1, error, dense_info, (inner, (count, kept)), result


def one_step_error(field: Field, start: Start, tolerance: float) -> Any:
    """E |h| of one step of Dopri5 from (t, y) to t + h; t, y and h are held fixed.

    Pal23's method needs no gradient through the solution: that is what lets it work under a continuous adjoint. Its
    code also holds the first slope of the step fixed, and restarts Hairer's rule at t where we take h from the solve.
    """
    t, y, h = stop_gradient(start)
    # Seen by an observation of its own alone: it is no step of the training solve.
    with unobserved(), observe(LocalError(rtol=tolerance, atol=tolerance)) as seen:
        term = diffrax.ODETerm(lambda t, y, _: field(t, y))
        one_step = diffrax.ConstantStepSize()
        diffrax.diffeqsolve(term, diffrax.Dopri5(), t, t + h, h, y, stepsize_controller=one_step, max_steps=1)
    return seen.values["local_error"]
