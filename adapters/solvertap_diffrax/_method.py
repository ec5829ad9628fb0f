"""What is known of a diffrax solver before it runs: where its stages stand, and what a step costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
from diffrax._heuristics import is_sde

from solvertap import Tableau

_EULER = Tableau(c=(0,), b=(1,), a=((),))
_ONE_DRIFT = diffrax.Euler | diffrax.EulerHeun | diffrax.ItoMilstein | diffrax.StratonovichMilstein


def name_of(solver: Any) -> str:
    """What a solver is called: the name of its class, and that of the solver it is around."""
    inner = getattr(solver, "solver", None)
    name = type(solver).__name__
    return f"{name}({name_of(inner)})" if isinstance(inner, diffrax.AbstractSolver) else name


def tableau(solver: Any, terms: Any) -> Tableau | None:
    """The tableau of the slopes that a step shows; None where it shows none, or mixes them with noise."""
    doubled = isinstance(solver, diffrax.HalfSolver)
    method = _drift_tableau(solver.solver if doubled else solver)
    if is_sde(terms) or not _shows_slopes(solver.solver if doubled else solver, doubled) or method is None:
        return None
    # Doubled, what is shown is the whole step, which is thrown away: its stages lead to another state.
    return Tableau(c=method.c, b=method.b) if doubled else method


def stability_size(solver: Any) -> float | None:
    """That of the drift alone. Of a doubled solver two halves are kept, so that its own is twice as large."""
    if isinstance(solver, diffrax.HalfSolver):
        inner = stability_size(solver.solver)
        return None if inner is None else 2 * inner
    method = _EULER if isinstance(solver, _ONE_DRIFT) else _drift_tableau(solver)
    return None if method is None else method.stability_size


def _shows_slopes(solver: Any, doubled: bool) -> bool:
    # An implicit Euler step shows its first slope through its error, which step doubling hides.
    implicit_euler = isinstance(solver, diffrax.ImplicitEuler)
    return isinstance(solver, diffrax.AbstractRungeKutta) or (implicit_euler and not doubled)


def _drift_tableau(solver: Any) -> Tableau | None:
    if isinstance(solver, diffrax.ImplicitEuler):
        # implicit_euler.py: y_error = (k1 - k0) / 2, k0 being the slope at the start.
        return Tableau(c=(0, 1), b=(0, 1), a=((), (0, 1)))
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.MultiButcherTableau):
        # Stages that combine two slopes each, f = f_explicit + f_implicit: no rows of one tableau.
        first = rows.tableaus[0]
        return Tableau(c=(0.0, *first.c.tolist()), b=first.b_sol.tolist())
    if isinstance(rows, diffrax.ButcherTableau):
        lower: list[list[float]] = [[], *(row.tolist() for row in rows.a_lower)]
        if rows.a_diagonal is not None:
            lower = [[*row, x] for row, x in zip(lower, rows.a_diagonal.tolist(), strict=True)]
        own = type(solver).step is not diffrax.AbstractRungeKutta.step  # whatever it estimates
        e = None if own else rows.b_error.tolist()
        return Tableau(c=(0.0, *rows.c.tolist()), b=rows.b_sol.tolist(), a=lower, e=e)
    if isinstance(rows, diffrax.StochasticButcherTableau):
        lower = [[], *(row.tolist() for row in rows.a)]
        return Tableau(c=(0.0, *rows.c.tolist()), b=rows.b_sol.tolist(), a=lower)
    return None


class Cost(NamedTuple):
    """Evaluations of drift and diffusion, for each attempt and once at the start.

    diffrax does not count, so this is computed. A first-same-as-last method evaluates its first stage again
    until its first step is accepted; how often that is, diffrax does not tell, so a solve whose very first step
    is rejected evaluates once more than is said here for each such rejection.
    """

    drift: int
    diffusion: int
    drift_once: int = 0
    diffusion_once: int = 0

    def total(self, attempts: Any) -> tuple[Any, Any]:
        """Evaluations of the field (the drift, for an SDE), and of the diffusion."""
        return self.drift * attempts + self.drift_once, self.diffusion * attempts + self.diffusion_once


def cost(solver: Any, terms: Any, stiffness: bool, chosen: int = 0, doubles: bool = False) -> Cost | None:
    """The cost of a solver on these terms, the evaluations of a stiffness estimate included; None if unknown.

    Args:
        solver, terms: as given to `diffeqsolve`.
        stiffness: whether the stiffness is measured. It is on every attempt: a traced loop learns of a
            rejection only when the attempt is over.
        chosen: evaluations made before the solve, to choose a first step.
        doubles: whether each step is taken in halves as well, where the solver has no estimate.
    """
    doubled = isinstance(solver, diffrax.HalfSolver)
    known = _cost_of_one(solver.solver if doubled else solver)
    if known is None:
        return None
    drift, diffusion, drift_once, diffusion_once = known
    if doubled:
        drift, diffusion = 3 * drift, 3 * diffusion
        if isinstance(solver.solver, diffrax.AbstractRungeKutta):
            # Two of the three steps start where the first stage is not known yet.
            drift_once, diffusion_once = 2 * drift_once, 2 * diffusion_once
    if doubles and _lacks_estimate(solver):
        drift, diffusion = 3 * drift, 3 * diffusion
    if stiffness:
        shown = tableau(solver, terms)
        drift += 2 if shown is None else shown.stiffness_evaluations
    if not is_sde(terms):
        diffusion = diffusion_once = 0
    return Cost(drift, diffusion, drift_once + chosen, diffusion_once)


def _lacks_estimate(solver: Any) -> bool:
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.StochasticButcherTableau):
        return rows.b_error is None
    return isinstance(solver, _ONE_DRIFT | diffrax.SemiImplicitEuler)


def _cost_of_one(solver: Any) -> Cost | None:
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.ButcherTableau) and not rows.implicit:
        each = rows.num_stages - rows.fsal
        return Cost(each, each, int(rows.fsal), int(rows.fsal))
    if isinstance(rows, diffrax.StochasticButcherTableau):
        return _stochastic_cost(rows)
    if isinstance(solver, diffrax.Euler | diffrax.SemiImplicitEuler | diffrax.LeapfrogMidpoint):
        return Cost(1, 1)
    if isinstance(solver, _ONE_DRIFT):  # a second diffusion: at the predictor, or for its derivative
        return Cost(1, 2)
    return Cost(1, 1, 1, 1) if isinstance(solver, diffrax.ReversibleHeun) else None


def _stochastic_cost(rows: Any) -> Cost:
    stages = len(rows.b_sol)
    drift = stages if rows.ignore_stage_f is None else stages - int(sum(rows.ignore_stage_f))
    if rows.is_additive_noise():
        # srk.py: at both ends of a step in one batch, and once to see that it does not depend on the state.
        return Cost(drift, 1, 0, 1)
    areas = sum(coefficients is not None for coefficients in (rows.coeffs_hh, rows.coeffs_kk))
    noisy = stages if rows.ignore_stage_g is None else stages - int(sum(rows.ignore_stage_g))
    return Cost(drift, noisy * (1 + areas))
