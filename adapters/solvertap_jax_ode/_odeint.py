"""The tap on `odeint`, whose code is exchanged: whoever has imported it by name is observed, too."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.experimental import ode
from jax.flatten_util import ravel_pytree

from solvertap import Step, unobserved
from solvertap.adapting import (
    Adapter,
    Facts,
    Patches,
    Ridden,
    Solve,
    open_solve,
    regularizing,
    require,
    require_parameters,
)
from solvertap.errors import ContinuousAdjointError, PenaltyRefusedError
from solvertap_jax.differentiated import by_start_alone
from solvertap_jax.structure import as_state, as_tree

from ._replay import begin
from ._riding import solve_riding, with_globals
from ._step import STAGES, TABLEAU, is_state, read_step

_ode: Any = ode  # its functions have no types
_PROBLEM = ("func", "rtol", "atol", "mxstep", "hmax", "y0", "ts")
_BY_START = (
    "`odeint` is differentiated by its initial state alone, and not by its field, so this is not taken "
    "for a training pass. If it is one (an encoder before a fixed field), pass "
    '`regularize(passes="all")`.'
)
_UNBOUNDED = (
    "`replay=True` was asked of `odeint(mxstep=inf)`, the default, whose number of steps is unbounded. "
    "Pass `mxstep=1000`, say, or put `LocalSample` around the term, which needs no forward steps."
)


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places the tap on the `odeint` of JAX 0.8 to 0.10."""
    require(ode, "odeint", "lax")
    require_parameters(_ode.initial_step_size, "fun", "t0", "y0", "order", "rtol", "atol", "f0")
    for name in ("_odeint_wrapper", "_odeint"):
        require(ode, name)
        require_parameters(getattr(_ode, name), *_PROBLEM)
    require_parameters(_ode._odeint_rev, *_PROBLEM[:5], "res", "g")
    require_parameters(_ode.runge_kutta_step, "func", "y0", "f0", "t0", "dt")
    require_parameters(_ode.mean_error_ratio, "error_estimate", "rtol", "atol", "y0", "y1")
    patches.replace_code(ode, "odeint", partial(_tapped, adapter))


def _tapped(adapter: Adapter, original: Callable[..., Any]) -> Callable[..., Any]:
    def odeint(func: Any, y0: Any, t: Any, *args: Any, **options: Any) -> Any:
        solvable = is_state(y0) and len(getattr(t, "shape", ())) == 1
        solve = open_solve(adapter) if solvable and not _is_backward(func) else None
        if solve is None:
            return original(func, y0, t, *args, **options)
        regularizer = regularizing()
        if regularizer is not None and regularizer.passes != "all" and by_start_alone((y0, t), [func, args]):
            solve.trains = False
            solve.leave_out(PenaltyRefusedError(_BY_START))
        try:
            # JAX traces the field, with any solve in it, inside this call.
            solution = unobserved().call(_observe, solve, original, func, y0, t, args, options)
        except BaseException:
            solve.abandon()
            raise
        return solve.through(solution)

    return odeint


def _is_backward(func: Any) -> bool:
    """Whether the backward pass of `odeint` calls it, with a field that `_odeint_rev` has defined."""
    name = getattr(func, "__qualname__", "")
    return getattr(func, "__module__", None) == ode.__name__ and name.startswith("_odeint_rev.")


def _observe(
    solve: Solve, original: Callable[..., Any], func: Any, y0: Any, t: Any, args: Any, options: dict[str, Any]
) -> Any:
    rtol, atol, mxstep = (options[name] for name in ("rtol", "atol", "mxstep"))
    solve.method = "dopri5"
    if solve.trace_wanted:
        solve.facts = Facts.make(as_state(y0), TABLEAU, TABLEAU.stability_size, rtol, atol)
    solve.check_tolerances(rtol, atol, as_state(y0))
    if solve.extra_step is not None:
        restart = partial(_restart, solve, func, jax.tree.structure(y0), t.dtype, args, rtol, atol)
        solve.extra_step.begin(restart, t[-1], as_state(y0))
    # `mxstep` is the most attempts between two of the times.
    bound = int(mxstep) * (len(t) - 1) if math.isfinite(mxstep) else None
    if bound is None and solve.replay is not None:
        solve.refuse_replay(ContinuousAdjointError(_UNBOUNDED))
    ride = solve.ride(as_state(y0), bound, noted=(t[0], t[0]))
    static, ends = ride.without_arrays(), list[Ridden]()

    def wrapper(func: Any, rtol: Any, atol: Any, mxstep: Any, hmax: Any, *inputs: Any) -> Any:
        solution, ridden = solve_riding(static, solve.align, func, rtol, atol, mxstep, hmax, ride.carry, *inputs)
        ends.append(ridden)
        return solution

    solution = with_globals(original, _odeint_wrapper=wrapper)(func, y0, t, *args, **options)
    (ridden,) = ends
    # Two before the first attempt: the slope there, and one to choose the first step.
    solve.counts.evaluations = 2 + STAGES * (ridden.accepted + ridden.rejected)
    if solve.replay is not None:
        begin(solve.replay, func, y0, t, args, rtol, atol, ridden.accepted)
    solve.finish(ride, ridden)
    return solution


def _restart(
    solve: Solve, func: Any, structure: Any, time: Any, args: Any, rtol: Any, atol: Any, t0: Any, y0: Any, t1: Any
) -> Step:
    """One step from anywhere, with gradient to what the field depends on."""
    t0, t1 = t0.astype(time), t1.astype(time)
    flat, unravel = ravel_pytree(as_tree(structure, y0))

    def slope(y: Any, t: Any) -> Any:
        return ravel_pytree(unobserved().call(func, unravel(y), t, *args))[0]

    def field(t: Any, y: Any) -> Any:
        solve.counts.evaluations += 1
        return as_state(unobserved().call(func, as_tree(structure, y), t, *args))

    solve.counts.evaluations += STAGES + 1
    with jax.default_matmul_precision("highest"):
        attempt = _ode.runge_kutta_step(slope, flat, slope(flat, t0), t0, t1 - t0)
    return read_step(flat, t0, t1 - t0, attempt, unravel, rtol, atol, field)
