"""One step from a random time of a solution, and its local error.

Pal, Edelman, Rackauckas, Locally Regularized Neural Differential Equations: Some Black Boxes Were Meant to Remain
Closed! (ICML 2023, arXiv 2303.02262).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from ..blocks import observe, unobserved
from ..builtin_terms import LocalError
from .diffrax_solve import Field


class Remembering(diffrax.Dopri5):
    """Dopri5 that keeps one time of its solution, the state there, and the size of the accepted step it lies in.

    They ride in the solver state, which diffrax keeps for accepted steps only, so that no step need be stored.

    Attributes:
        place: the time; or a key, which draws it among the starts of the accepted steps, each as likely.
    """

    place: Any = None

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return super().init(terms, t0, t1, y0, args), (jnp.asarray(0), (t0, y0, t1 - t0))

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        inner, (count, kept) = solver_state
        y1, error, dense_info, inner, result = super().step(terms, t0, t1, y0, args, inner, made_jump)
        count = count + 1
        if jnp.issubdtype(self.place.dtype, jax.dtypes.prng_key):
            # A reservoir of one: the n-th start takes the place of the one kept with probability 1 / n.
            taken = count * jax.random.uniform(jax.random.fold_in(self.place, count)) < 1
            t, y = t0, y0
        else:
            taken = t0 <= self.place
            t, y = self.place, self.interpolation_cls(t0=t0, t1=t1, **dense_info).evaluate(self.place)
        # No gradient flows into what is kept (see `one_step_error`), so the backward pass need not carry it either.
        kept = jax.tree.map(partial(jnp.where, taken), stop_gradient((t, y, t1 - t0)), kept)
        return y1, error, dense_info, (inner, (count, kept)), result


def remembered(solution: Any) -> tuple[Any, Any, Any]:
    """The time, state and step size that the solver has kept."""
    _, (_, kept) = solution.solver_state
    t, y, h = kept
    return t, y, h


def one_step_error(field: Field, t: Any, y: Any, h: Any, tolerance: float) -> Any:
    """E |h| of the step of Dopri5 from (t, y) to t + h; t, y and h are held fixed.

    Pal23's method needs no gradient through the solution: that is what lets it work under a continuous adjoint. Its
    code also holds the first slope of the step fixed, and restarts Hairer's rule at t where we take h from the solve.
    """
    t, y, h = stop_gradient((t, y, h))
    # Seen by an observation of its own alone: it is no step of the training solve.
    with unobserved(), observe(LocalError(rtol=tolerance, atol=tolerance)) as seen:
        term = diffrax.ODETerm(lambda t, y, _: field(t, y))
        one_step = diffrax.ConstantStepSize()
        diffrax.diffeqsolve(term, diffrax.Dopri5(), t, t + h, h, y, stepsize_controller=one_step, max_steps=1)
    return seen.values["local_error"]
