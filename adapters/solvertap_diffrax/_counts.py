"""How often the solver, the event and the terms of a diffrax solve evaluate the field."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from diffrax._event import SteadyStateEvent, steady_state_event
from diffrax._heuristics import is_sde

from solvertap.adapting import Solve

from ._adjoints import solver_state
from ._cost import Cost, cost, measuring
from ._extra_step import sampling_cost

_STEADY = steady_state_event().__code__
_NO_REJECTIONS = (diffrax.StepTo, diffrax.ConstantStepSize)  # and no jumps


class SolveCost(NamedTuple):
    """The cost of a solve.

    Attributes:
        spent: of the solver and of diffrax's own event; None if unknown.
        added: of the terms; None if unknown.
    """

    spent: Cost | None
    added: Cost | None

    def apply(self, solve: Solve, attempts: Any, anew: Any) -> None:
        """Sets the counts of a solve.

        Args:
            solve: the solve.
            attempts: the number of attempted steps.
            anew: how many of them began anew; None if not counted.
        """
        anew = None if anew is None else jnp.asarray(anew, int)
        own, added = ((None, None) if x is None else x.total(attempts, anew) for x in self)
        solve.counts.evaluations, solve.counts.diffusion_evaluations = own
        solve.measuring.evaluations, solve.measuring.diffusion_evaluations = added


def solve_cost(solve: Solve, arguments: dict[str, Any], chosen: int) -> SolveCost:
    """The cost of a call of `diffeqsolve`.

    Args:
        solve: the solve.
        arguments: of `diffeqsolve`.
        chosen: evaluations before the solve, to choose a first step.
    """
    solver, terms = arguments["solver"], arguments["terms"]
    spent = cost(solver, terms)
    if spent is not None:
        events = _evaluating_events(arguments)
        noisy = events * is_sde(terms)
        if arguments["solver_state"] is not None:  # an earlier solve has called `init`
            spent = spent._replace(drift_once=0, diffusion_once=0)
        # _integrate.py: an event is evaluated before the solve, and after every attempt.
        spent = spent._replace(
            drift=spent.drift + events,
            diffusion=spent.diffusion + noisy,
            drift_once=spent.drift_once + events + chosen,
            diffusion_once=spent.diffusion_once + noisy,
        )
    added = measuring(solver, terms, solve.measures_stiffness, solve.fold.needs_step_doubling)
    samples = Cost() if solve.extra_step is None else sampling_cost(solve.extra_step, solver, terms)
    if added is not None and samples is not None:
        added = added._replace(drift_once=samples.drift_once, diffusion_once=samples.diffusion_once)
    return SolveCost(spent, None if samples is None else added)


def begins_anew(spent: Cost | None, arguments: dict[str, Any]) -> Any:
    """Whether the first attempt begins anew; None if no count depends on it."""
    if spent is None or not spent.drift_anew:
        return None
    jumped = False if arguments["made_jump"] is None else arguments["made_jump"]
    if not spent.begins_anew or arguments["solver_state"] is None:
        return spent.begins_anew or jumped
    return arguments["solver_state"][0] | jumped  # runge_kutta.py: (first_step, f0)


def may_begin_anew_later(arguments: dict[str, Any]) -> bool:
    """Whether a later attempt may begin anew, and a controller can count them."""
    counts = solver_state(arguments["adjoint"]) in ("differentiated", "returned")
    return counts and type(arguments["stepsize_controller"]) not in _NO_REJECTIONS


def _evaluating_events(arguments: dict[str, Any]) -> int:
    """The number of diffrax's own events that evaluate the field."""
    event = arguments.get("event")
    conditions = [] if event is None else jax.tree.leaves(event.cond_fn, is_leaf=callable)
    old = arguments.get("discrete_terminating_event")
    found = [getattr(condition, "__code__", None) is _STEADY for condition in conditions]
    return sum(found) + isinstance(old, SteadyStateEvent)
