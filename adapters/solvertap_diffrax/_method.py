"""What is known of a diffrax solver before it runs: where its stages stand, and what a step costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import diffrax
from diffrax._heuristics import is_sde

from solvertap import end_gap


def explicit_tableau(solver: Any) -> diffrax.ButcherTableau | None:
    """The tableau of an explicit Runge-Kutta method."""
    tableau = getattr(solver, "tableau", None)
    return tableau if isinstance(tableau, diffrax.ButcherTableau) and not tableau.implicit else None


def stage_gap(solver: Any) -> tuple[float, ...] | None:
    """The difference of the last two rows of the tableau, where both stages stand at the end of the step."""
    tableau = None if isinstance(solver, diffrax.HalfSolver) else explicit_tableau(solver)
    return None if tableau is None else end_gap((0.0, *tableau.c), ((), *tableau.a_lower))


class Cost(NamedTuple):
    """Evaluations of the field for each attempt, for each accepted step, and once; None where it cannot be told.

    diffrax does not count, so this is computed. A first-same-as-last method evaluates its first stage again
    until its first step is accepted; how often that is, diffrax does not tell, so a solve whose very first step
    is rejected evaluates once more than is said here for each such rejection.
    """

    attempt: int | None
    accepted: int
    once: int
    stochastic: bool

    def total(self, accepted: Any, attempts: Any) -> tuple[Any, Any]:
        """Evaluations of the field (the drift, for an SDE), and of the diffusion."""
        if self.attempt is None:
            return None, None
        steps = self.attempt * attempts + self.once
        return steps + self.accepted * accepted, steps if self.stochastic else 0


def cost(solver: Any, terms: Any, stiffness: bool, once: int = 0) -> Cost:
    """The cost of a solver on these terms, the evaluations of a stiffness estimate included.

    Args:
        solver, terms: as given to `diffeqsolve`.
        stiffness: whether the stiffness is measured on accepted steps.
        once: evaluations made before the solve, to choose a first step.
    """
    doubled = isinstance(solver, diffrax.HalfSolver)
    attempt, first = _evaluations(solver.solver if doubled else solver)
    if attempt is not None and doubled:
        # Three steps of the method, two of which start where its first stage is not known yet.
        attempt, first = 3 * attempt, 2 * first
    extra = 2 if stiffness and stage_gap(solver) is None else 0
    return Cost(attempt, extra, first + once, is_sde(terms))


def _evaluations(solver: Any) -> tuple[int | None, int]:
    """For each attempt, and once more at the start."""
    tableau = explicit_tableau(solver)
    if tableau is not None:
        return tableau.num_stages - tableau.fsal, int(tableau.fsal)
    if isinstance(solver, diffrax.Euler | diffrax.ItoMilstein | diffrax.StratonovichMilstein):
        return 1, 0
    if isinstance(solver, diffrax.ReversibleHeun):
        return 1, 1
    return None, 0
