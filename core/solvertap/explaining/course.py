"""What only many solves of one place show: growth in training, and a dear backward solve."""

from __future__ import annotations

from collections.abc import Sequence

from .verdict import Verdict

_TENTH = 10
_GROWN = 1.5
_DEARER = 3.0


def growth(evaluations: Sequence[float], solves: int) -> Verdict | None:
    """Solves that take more and more evaluations.

    Args:
        evaluations: of one solve each, in order.
        solves: how many there were, of which these are a part.
    """
    if len(evaluations) < 2 * _TENTH:
        return None
    import numpy as np

    part = len(evaluations) // _TENTH
    thirds = [float(np.median(third)) for third in np.array_split(np.asarray(evaluations), 3)]
    first, last = sum(evaluations[:part]) / part, sum(evaluations[-part:]) / part
    if last < _GROWN * first or sorted(thirds) != thirds:
        return None
    return Verdict(
        "growth in training",
        f"A solve takes {first:.0f} evaluations at first and {last:.0f} in the end, over {solves} solves.",
        f"Penalize the local error: `solvertap run --budget evaluations={last / 2:.0f}`, or `tap.budget`.",
        1 - first / last,
    )


def backward_solve(forward: float, backward: float) -> Verdict | None:
    """A continuous adjoint that takes many times the steps of its forward solve.

    Args:
        forward, backward: attempted steps of one forward solve, and of the backward solves for it, in the mean.
    """
    if backward < _DEARER * forward:
        return None
    return Verdict(
        "adjoint",
        f"The continuous adjoint attempts {backward:.1f} steps for one forward solve, which attempts {forward:.1f}.",
        'Leave the parameters out of its error (`adjoint_options={"norm": "seminorm"}`, `adjoint_norm`), loosen its '
        "tolerance, or differentiate through the solver (`odeint`, `RecursiveCheckpointAdjoint`).",
        1 - forward / backward,
    )
