"""Requests refused before diffrax solves."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax

from solvertap.adapting import Solve
from solvertap.errors import (
    CheckpointError,
    ContinuousAdjointError,
    InvalidInputError,
    NoEstimateError,
    PenaltyRefusedError,
)
from solvertap_jax.structure import as_state

from ._adjoints import is_forward_mode, solver_state
from ._method import is_builtin
from ._prepared import prepared
from ._replay import unreplayable


def refuse(solve: Solve, arguments: dict[str, Any]) -> None:
    """Refuses requests that a call of `diffeqsolve` cannot fulfil.

    Raises:
        PenaltyRefusedError, CheckpointError, InvalidInputError: why, and what to do.
    """
    adjoint = arguments["adjoint"]
    if solve.shared:
        solve.divide(as_state(arguments["y0"]))
    if solve.terms:
        _refuse_without_gradient(solve, adjoint, arguments)
    if any(term.needs_step_doubling for term in solve.terms):
        _refuse_halves(solve, arguments)
    if solve.checkpoint and isinstance(adjoint, diffrax.DirectAdjoint):
        raise CheckpointError(
            "`observe(checkpoint=True)` was asked under `DirectAdjoint`, which saves every step in full. Use "
            "`RecursiveCheckpointAdjoint`, the default, or leave it out."
        )
    if solve.trace_wanted and solver_state(adjoint) == "withheld":
        raise InvalidInputError(
            f"A trace was asked under `{type(adjoint).__name__}`, which returns nothing but the steady state. "
            "Use `RecursiveCheckpointAdjoint`, the default, or `observe()` for counts."
        )


def _refuse_without_gradient(solve: Solve, adjoint: Any, arguments: dict[str, Any]) -> None:
    name, state = type(adjoint).__name__, solver_state(adjoint)
    if state == "withheld":
        solve.refuse(
            ContinuousAdjointError(
                f"A penalty was asked under `{name}`, which returns nothing but the steady state, so it would have "
                "no gradient. Use `RecursiveCheckpointAdjoint`, the default. `observe()` without a term still "
                "counts."
            ),
            sampled=True,
        )
    elif state == "unknown":
        solve.refuse(
            ContinuousAdjointError(
                f"A penalty was asked under `{name}`, whose `loop` is its own, so it is unknown whether it "
                "differentiates the solver state. If it does, its class says so: `solver_state = "
                '"differentiated"`, or `"returned"` for `LocalSample` alone. Otherwise use '
                "`RecursiveCheckpointAdjoint`, the default, or `observe()` without a term."
            ),
            sampled=True,
        )
    elif state == "returned":
        reason = unreplayable(arguments)
        if not reason:
            solve.postpone()
        if solve.fold.terms:
            helps = "Pass `replay=True` to take its steps once more with gradient, or use"
            _refuse_returned(solve, name, f"`replay=True` does not help, as {reason}; use" if reason else helps)
    if is_forward_mode(adjoint):
        solve.leave_out(
            PenaltyRefusedError(
                f"`regularize` cannot add a penalty under `{name}`, which has no backward pass to carry its "
                "gradient. Use `RecursiveCheckpointAdjoint`, the default, or add `seen.penalty` of an `observe` "
                "block to the loss yourself."
            )
        )


def _refuse_returned(solve: Solve, name: str, use: str) -> None:
    solve.refuse(
        ContinuousAdjointError(
            f"A penalty was asked under `{name}`, whose backward pass never sees the forward steps, so it would "
            f"have no gradient. {use} `RecursiveCheckpointAdjoint`, the default, or `LocalSample` around "
            "the term, which needs no forward steps. `observe()` without a term still counts."
        )
    )


def _refuse_halves(solve: Solve, arguments: dict[str, Any]) -> None:
    solver = arguments["solver"]
    if issubclass(type(solver), diffrax.LeapfrogMidpoint):
        solve.refuse(
            NoEstimateError(
                '`LocalError(estimate="doubling")` was asked of `LeapfrogMidpoint`, whose steps build on earlier '
                "ones and cannot be taken in halves. Use a one-step method."
            ),
            sampled=True,
        )
    elif not is_builtin(solver) and _carries_state(solver, arguments):
        solve.refuse(
            NoEstimateError(
                f'`LocalError(estimate="doubling")` was asked of `{type(solver).__name__}`, which carries a state '
                "from step to step, so it is unknown whether its steps can be taken in halves. If they can, put "
                "`diffrax.HalfSolver` around it and measure `LocalError()`."
            ),
            sampled=True,
        )


def _carries_state(solver: Any, arguments: dict[str, Any]) -> bool:
    problem = prepared(arguments)
    state = eqx.filter_eval_shape(solver.init, problem.terms, problem.t0, problem.t1, problem.y0, arguments["args"])
    return bool(jax.tree.leaves(state))
