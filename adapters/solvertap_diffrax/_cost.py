"""The evaluations of a diffrax solver, computed because diffrax does not count them."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
import jax
from diffrax._heuristics import is_sde

from ._drift import has_drift
from ._method import ONE_DRIFT, has_builtin, is_builtin, is_half, lacks_estimate, tableau


class Cost(NamedTuple):
    """Evaluations of drift and diffusion: per attempt, once per solve, and per attempt that begins anew.

    An attempt of a first-same-as-last method begins anew, without the slope of a previous step, until the first step is
    accepted, and after a jump.
    """

    drift: int = 0
    diffusion: int = 0
    drift_once: int = 0
    diffusion_once: int = 0
    drift_anew: int = 0
    diffusion_anew: int = 0
    begins_anew: bool = False

    def total(self, attempts: Any, anew: Any = None) -> tuple[Any, Any]:
        """Evaluations of the field (the drift, for an SDE), and of the diffusion.

        Args:
            attempts: their number.
            anew: how many of them began anew; by default only the first, if `begins_anew`.
        """
        anew = int(self.begins_anew) if anew is None else anew
        drift = self.drift * attempts + self.drift_anew * anew + self.drift_once
        return drift, self.diffusion * attempts + self.diffusion_anew * anew + self.diffusion_once


def cost(solver: Any, terms: Any) -> Cost | None:
    """The cost of a solver on these terms; None if unknown."""
    doubled = is_half(solver)
    known = _cost_of_one(solver.solver if doubled else solver)
    if known is None or (known.begins_anew and _is_expensive(terms)):
        return None
    if doubled:  # the whole step and the first half begin alike
        known = known._replace(
            drift=3 * known.drift,
            diffusion=3 * known.diffusion,
            drift_anew=2 * known.drift_anew,
            diffusion_anew=2 * known.diffusion_anew,
        )
    return known if is_sde(terms) else known._replace(diffusion=0, diffusion_once=0, diffusion_anew=0)


def measuring(solver: Any, terms: Any, stiffness: bool, needs_step_doubling: bool) -> Cost | None:
    """What measuring adds to the cost of a solver; None if unknown.

    Args:
        solver, terms: as given to `diffeqsolve`.
        stiffness: whether the stiffness is measured, on every attempt: a traced loop learns of a rejection only after
            the attempt.
        needs_step_doubling: whether each step is also taken in halves if the solver has no estimate.
    """
    spent = cost(solver, terms)
    if not stiffness and not needs_step_doubling:
        return Cost()
    if spent is None:
        return None
    doubled = needs_step_doubling and lacks_estimate(solver)
    # The first half step begins anew if the step does.
    added = spent._replace(drift=2 * spent.drift, diffusion=2 * spent.diffusion) if doubled else Cost()
    added = added._replace(drift_once=0, diffusion_once=0)
    if stiffness and (doubled or not lacks_estimate(solver) or _needs_no_estimate(solver, terms)):
        shown = tableau(solver, terms)
        smooth = has_drift(terms) if shown is None else True
        added = added._replace(drift=added.drift + smooth * (2 if shown is None else shown.stiffness_evaluations))
    return added


def _needs_no_estimate(solver: Any, terms: Any) -> bool:
    """Whether the stiffness needs only the stages."""
    shown = tableau(solver, terms)
    return shown is not None and (shown.end_gaps is not None or any(shown.last_gap or ()))


def _is_expensive(terms: Any) -> bool:
    """Whether a term may declare its vector field expensive; diffrax then reuses no slope between steps."""
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, diffrax.AbstractTerm) and not _is_several(x))
    return not all(has_builtin(term, "is_vf_expensive") for term in leaves)


def _is_several(term: Any) -> bool:
    return isinstance(term, diffrax.MultiTerm)


def _cost_of_one(solver: Any) -> Cost | None:
    if not is_builtin(solver):
        return None
    rows = getattr(solver, "tableau", None)
    if isinstance(rows, diffrax.ButcherTableau) and not rows.implicit:
        each, anew = rows.num_stages - rows.fsal, int(rows.fsal)
        return Cost(each, each, drift_anew=anew, diffusion_anew=anew, begins_anew=rows.fsal)
    if isinstance(rows, diffrax.StochasticButcherTableau):
        return _stochastic_cost(rows)
    if issubclass(type(solver), (diffrax.Euler, diffrax.SemiImplicitEuler, diffrax.LeapfrogMidpoint)):
        return Cost(1, 1)
    if issubclass(type(solver), ONE_DRIFT):  # the second diffusion is at the predictor, or for its derivative
        return Cost(1, 2)
    # Its `init` evaluates both, and a step after a jump does so again.
    return Cost(1, 1, 1, 1, 1, 1) if issubclass(type(solver), diffrax.ReversibleHeun) else None


def _stochastic_cost(rows: Any) -> Cost:
    stages = len(rows.b_sol)
    drift = stages if rows.ignore_stage_f is None else stages - int(sum(rows.ignore_stage_f))
    if rows.is_additive_noise():
        # srk.py: both ends of a step in one batch, and once to check that it does not depend on the state.
        return Cost(drift, 1, 0, 1)
    areas = sum(coefficients is not None for coefficients in (rows.coeffs_hh, rows.coeffs_kk))
    noisy = stages if rows.ignore_stage_g is None else stages - int(sum(rows.ignore_stage_g))
    return Cost(drift, noisy * (1 + areas))
