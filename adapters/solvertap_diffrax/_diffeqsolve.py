"""The tap on `diffeqsolve`: calls it with a tapped solver, and takes the carry out of its solution.

`diffeqsolve` is an object, compiled once, and imported by name before it could be replaced. So the patch changes its
class to a subclass: the object stays the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace as replace_field
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax._term import AdjointTerm

from solvertap import Trace, unobserved
from solvertap.adapting import (
    Adapter,
    Carry,
    Patches,
    Solve,
    open_solve,
    regularizing,
    require,
    require_parameters,
)
from solvertap.errors import InvalidInputError, PenaltyRefusedError
from solvertap_jax.differentiated import by_start_alone

from . import _replay
from ._carrying import keep_backward, replace, split_state, wrap_controller
from ._controllers import TracedController, buffer_of, counted, traced
from ._counts import begins_anew, may_begin_anew_later, solve_cost
from ._extra_step import begin
from ._facts import facts
from ._first_step import choose_first_step
from ._method import name_of
from ._prepared import prepared, tolerances
from ._refusals import refuse
from ._solver import TappedSolver

_ARGUMENTS = (
    *("terms", "solver", "t0", "t1", "dt0", "y0", "args", "saveat", "stepsize_controller", "adjoint"),
    *("max_steps", "solver_state", "controller_state"),
)


_BY_START = (
    "`diffeqsolve` is differentiated by its initial state alone, and not by its field, so this is not "
    "taken for a training pass. If it is one (an encoder before a fixed field), pass "
    '`regularize(passes="all")`.'
)


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places the tap on diffrax 0.7."""
    _probe()
    patches.replace_class(diffrax, "diffeqsolve", lambda original: _tapped_class(adapter, original))


def _probe() -> None:
    require_parameters(diffrax.diffeqsolve, *_ARGUMENTS)
    require_parameters(diffrax.AbstractSolver.init, *inspect.signature(TappedSolver.init).parameters)
    require_parameters(diffrax.AbstractSolver.step, *inspect.signature(TappedSolver.step).parameters)
    controller = diffrax.AbstractStepSizeController
    require_parameters(controller.init, *inspect.signature(TracedController.init).parameters)
    require_parameters(controller.adapt_step_size, *inspect.signature(TracedController.adapt_step_size).parameters)
    require(controller, "wrap")
    require(diffrax.SaveAt, "solver_state", "controller_state")
    require(diffrax.Solution, "stats", "solver_state", "controller_state")


def _tapped_class(adapter: Adapter, original: Any) -> Any:
    signature = inspect.signature(diffrax.diffeqsolve)

    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  # the method of a class made here
        diffeqsolve = partial(original.__call__, self)
        try:
            call = signature.bind(*args, **kwargs)
        except TypeError:  # diffrax raises its own error
            return diffeqsolve(*args, **kwargs)
        call.apply_defaults()
        # The backward solve of an adjoint is not the user's problem; counting it would count twice.
        solve = None if _is_backward(call.arguments["terms"]) else open_solve(adapter)
        if solve is None:
            return diffeqsolve(*args, **kwargs)
        regularizer = regularizing()
        if regularizer is not None and regularizer.passes != "all" and _is_by_start_alone(call.arguments):
            solve.trains = False
            solve.leave_out(PenaltyRefusedError(_BY_START))
        try:
            # diffrax traces the field, with any solve in it, inside this call.
            solution = unobserved().call(_observe, solve, diffeqsolve, call)
        except BaseException:
            solve.abandon()
            raise
        return solve.through(solution)

    members = {"__call__": __call__, "__module__": original.__module__, "__doc__": original.__doc__}
    return type(original)(original.__name__, (original,), members)


def _is_by_start_alone(arguments: dict[str, Any]) -> bool:
    start = [arguments.get(name) for name in ("y0", "t0", "t1", "dt0")]
    field = ("terms", "args", "solver", "stepsize_controller", "event")
    return by_start_alone(start, [arguments.get(name) for name in field])


def _observe(solve: Solve, diffeqsolve: Callable[..., Any], call: inspect.BoundArguments) -> Any:
    arguments = call.arguments
    solve.method = name_of(arguments["solver"])
    if solve.trace_wanted:
        solve.facts = facts(arguments)
    refuse(solve, arguments)
    chosen = choose_first_step(arguments) if solve.align else 0
    cost = solve_cost(solve, arguments, chosen)
    anew = begins_anew(cost.spent, arguments)
    if not jax.tree.leaves(arguments["y0"]):
        # A state without arrays: every term is zero.
        solution = diffeqsolve(*call.args, **call.kwargs)
        if solve.extra_step is not None:
            solve.extra_step.like = jnp.zeros(())
        cost.apply(solve, solution.stats["num_steps"], anew)
        zeros = (jnp.zeros(()),) * len(solve.fold.terms)
        return _finish(solve, solution, Carry(0, 0, zeros, (None,) * len(solve.fold.kinds)))
    wanted = arguments["saveat"]
    counts_anew = anew is not None and may_begin_anew_later(arguments)
    tapping = solve.measured or solve.replay is not None
    if tapping or counts_anew:
        keep_backward(arguments)
    tapped = _tap(solve, arguments) if tapping else None
    if counts_anew:
        wrap_controller(arguments, counted(arguments["stepsize_controller"], anew))
    solution = diffeqsolve(*call.args, **call.kwargs)
    if counts_anew:
        solution, (_, anew) = split_state(solution, "controller_state")
    trace = None
    if solve.trace_wanted:
        solution, arrays = split_state(solution, "controller_state")
        trace = Trace.of_buffer(buffer_of(arrays, solve.groups))
    carry = grid = None
    if tapped is not None:
        solution, arrays = split_state(solution, "solver_state")
        carry, grid = tapped.carry(arrays, arguments["y0"])
        if solve.replay is not None and grid is not None:
            _replay.begin(solve.replay, tapped, arguments, grid, carry.accepted)
    for name in ("solver_state", "controller_state"):
        if not getattr(wanted, name):
            solution = replace(solution, name, None)
    cost.apply(solve, solution.stats["num_steps"], anew)
    if tapped is not None and carry is not None and grid is not None:
        _replay.count(solve, arguments, tapped.inner, grid, carry.accepted)
    return _finish(solve, solution, carry, trace)


def _tap(solve: Solve, arguments: dict[str, Any]) -> TappedSolver:
    """Puts the tapped solver into the arguments, and for a trace the traced controller."""
    solver, controller = arguments["solver"], arguments["stepsize_controller"]
    kept = {"traced": bool(solve.trace_wanted), "groups": solve.groups, **tolerances(controller)}
    tapped = TappedSolver(inner=solver, fold=solve.fold, source=None, **kept)
    if solve.replay is not None:
        tapped = replace_field(tapped, grid=_replay.empty_grid(arguments))
    if solve.extra_step is not None:
        tapped = begin(solve.extra_step, tapped, arguments)
    arguments["solver"] = tapped
    arguments["saveat"] = eqx.tree_at(lambda s: s.solver_state, arguments["saveat"], True)
    if arguments["solver_state"] is not None:
        arguments["solver_state"] = (arguments["solver_state"], tapped.start(prepared(arguments).y0))
    if solve.trace_wanted:
        wrap_controller(arguments, traced(controller, _capacity(solve, arguments), solve.groups))
    return tapped


def _capacity(solve: Solve, arguments: dict[str, Any]) -> int:
    capacity = arguments["max_steps"] if solve.trace_wanted is True else solve.trace_wanted
    if capacity is None:
        raise InvalidInputError(
            "A trace was asked of `diffeqsolve(max_steps=None)`, whose number of steps is unbounded. Say how "
            "many rows it may have, as in `observe(trace=1000)`."
        )
    return int(capacity)


def _finish(solve: Solve, solution: Any, carry: Carry | None, trace: Trace | None = None) -> Any:
    accepted, rejected = (solution.stats[f"num_{kind}_steps"] for kind in ("accepted", "rejected"))
    solve.finish(carry, accepted=accepted, rejected=rejected, trace=trace)
    return solution


def _is_backward(terms: Any) -> bool:
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, AdjointTerm))
    return any(isinstance(leaf, AdjointTerm) for leaf in leaves)
