"""What only many solves of one place show: growth in training, and a dear backward solve."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median

from .verdict import Verdict

_TENTH = 10
_GROWN = 1.5
_DEARER = 3.0


def growth(evaluations: Sequence[float]) -> Verdict | None:
    """Solves that take more and more evaluations.

    Args:
        evaluations: of one solve each, in order.
    """
    if len(evaluations) < 2 * _TENTH:
        return None
    part = len(evaluations) // _TENTH
    thirds = [median(evaluations[k * len(evaluations) // 3 : (k + 1) * len(evaluations) // 3]) for k in range(3)]
    first, last = mean(evaluations[:part]), mean(evaluations[-part:])
    if last < _GROWN * first or sorted(thirds) != thirds:
        return None
    return Verdict(
        "growth in training",
        f"A solve takes {first:.0f} evaluations at first and {last:.0f} in the end, over {len(evaluations)} solves.",
        "Penalize the local error: `solvertap run --budget loss=0.02`, or `tap.budget`.",
        1 - first / last,
    )


def backward_solve(forward: Sequence[float], adjoint: Sequence[float]) -> Verdict | None:
    """A continuous adjoint that takes many times the steps of its forward solve.

    Args:
        forward, adjoint: attempted steps of one solve each, from the same place or not.
    """
    if not (forward and adjoint):
        return None
    there, back = mean(forward), sum(adjoint) / len(forward)
    if back < _DEARER * there:
        return None
    return Verdict(
        "adjoint",
        f"The continuous adjoint attempts {back:.1f} steps for one forward solve, which attempts {there:.1f}.",
        'Leave the parameters out of its error (`adjoint_options={"norm": "seminorm"}`, `adjoint_norm`), loosen its '
        "tolerance, or differentiate through the solver (`odeint`, `RecursiveCheckpointAdjoint`).",
        1 - there / back,
    )
