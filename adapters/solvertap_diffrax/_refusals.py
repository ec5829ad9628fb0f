"""What is refused before diffrax solves."""

from __future__ import annotations

from typing import Any

import diffrax

from solvertap import Solve
from solvertap.errors import CheckpointError, ContinuousAdjointError, NoEstimateError


def refuse(solve: Solve, arguments: dict[str, Any]) -> None:
    """Refuses what cannot be had of such a call of `diffeqsolve`.

    Raises:
        ContinuousAdjointError, NoEstimateError, CheckpointError: why, and what to do.
    """
    if solve.terms:
        _refuse_without_gradient(solve, arguments["adjoint"])
    if any(term.doubles for term in solve.terms) and isinstance(arguments["solver"], diffrax.LeapfrogMidpoint):
        solve.refuse(
            NoEstimateError(
                '`LocalError(estimate="doubling")` was asked of `LeapfrogMidpoint`, whose steps build on earlier '
                "ones and cannot be taken in halves; use a one-step method."
            ),
            sampled=True,
        )
    if solve.checkpoint and isinstance(arguments["adjoint"], diffrax.DirectAdjoint):
        raise CheckpointError(
            "`observe(checkpoint=True)` was asked under `DirectAdjoint`, which keeps every step whole; use "
            "`RecursiveCheckpointAdjoint`, the default, or leave it out."
        )


def _refuse_without_gradient(solve: Solve, adjoint: Any) -> None:
    if isinstance(adjoint, diffrax.ImplicitAdjoint):
        solve.refuse(
            ContinuousAdjointError(
                "A penalty was asked under `ImplicitAdjoint`, whose backward pass never sees the forward steps, and "
                "which gives nothing but the state at rest away, so that it would have no gradient; use "
                "`RecursiveCheckpointAdjoint`, the default, or `observe()` without a term for counts."
            ),
            sampled=True,
        )
    if isinstance(adjoint, diffrax.BacksolveAdjoint) and solve.fold.terms:
        solve.refuse(
            ContinuousAdjointError(
                "A penalty was asked under `BacksolveAdjoint`, whose backward pass never sees the forward steps, so "
                "that it would have no gradient; use `RecursiveCheckpointAdjoint`, the default, or `LocalSample` "
                "around the term, which needs none of that, or `observe()` without a term for counts."
            )
        )
