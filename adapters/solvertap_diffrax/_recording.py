"""Where diffrax's solves begin: `diffeqsolve` is called with a tapped solver, and what it carried is taken out.

`diffeqsolve` is an object, compiled once and imported by name everywhere before anybody can exchange it. So it
is given a subclass of its own class: the object stays the one that everybody holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax._term import AdjointTerm

from solvertap import (
    Adapter,
    Carry,
    Patches,
    Solve,
    Trace,
    initial_step,
    open_solve,
    regularizing,
    require,
    require_parameters,
    unobserved,
)
from solvertap.errors import AlignError, InvalidInputError, PenaltyRefusedError

from . import _ahead
from ._counted import counted as count_controller
from ._counts import Counts, begins_anew, counts, may_begin_anew_later
from ._differentiated import by_start_alone
from ._method import name_of
from ._prepared import prepared, tolerances
from ._refusals import refuse
from ._riding import got_off, keep_backward, replace, ride
from ._sampling import begin
from ._structure import as_norm, as_state, as_tree
from ._tapped import TappedSolver, TracedAdaptiveController, TracedController

_ARGUMENTS = (
    *("terms", "solver", "t0", "t1", "dt0", "y0", "args", "saveat", "stepsize_controller", "adjoint"),
    *("max_steps", "solver_state", "controller_state"),
)


_BY_START = (
    "`diffeqsolve` is differentiated by its initial state alone, and not by what its field has, so that the pass is "
    'taken not to train; where it does (an encoder before a field that is held fixed), pass `regularize(passes="all")`.'
)


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places the tap on diffrax 0.7, and the one on JAX."""
    _probe()
    patches.replace_class(diffrax, "diffeqsolve", lambda original: _tapped_class(adapter, original))
    _ahead.attach(patches)


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
        except TypeError:  # diffrax says itself what is wrong with them
            return diffeqsolve(*args, **kwargs)
        call.apply_defaults()
        # The backward solve of an adjoint is no step of the user's problem; counting it would count twice.
        solve = None if _is_backward(call.arguments["terms"]) else open_solve(adapter)
        if solve is None:
            return diffeqsolve(*args, **kwargs)
        regularizer = regularizing()
        if regularizer is not None and regularizer.passes != "all" and by_start_alone(call.arguments):
            solve.trains = False
            solve.leave_out(PenaltyRefusedError(_BY_START))
        try:
            # diffrax traces the field, and whatever it solves, inside this call.
            solution = unobserved().call(_observe, solve, diffeqsolve, call)
        except BaseException:
            solve.abandon()
            raise
        return solve.through(solution)

    members = {"__call__": __call__, "__module__": original.__module__, "__doc__": original.__doc__}
    return type(original)(original.__name__, (original,), members)


def _observe(solve: Solve, diffeqsolve: Callable[..., Any], call: inspect.BoundArguments) -> Any:
    arguments = call.arguments
    solve.method = name_of(arguments["solver"])
    refuse(solve, arguments)
    chosen = _choose_first_step(arguments) if solve.align else 0
    told = counts(solve, arguments, chosen)
    anew = begins_anew(told.spent, arguments)
    if not jax.tree.leaves(arguments["y0"]):
        # A state without a single array has nothing to measure: every term of it is zero.
        solution = diffeqsolve(*call.args, **call.kwargs)
        if solve.sampling is not None:
            solve.sampling.like = jnp.zeros(())
        zeros = (jnp.zeros(()),) * len(solve.fold.terms)
        return _finish(solve, solution, told, anew, Carry(0, 0, zeros, (None,) * len(solve.fold.kinds)))
    wanted = arguments["saveat"]
    counted = anew is not None and may_begin_anew_later(arguments)
    if solve.measured or counted:
        keep_backward(arguments)
    tapped = _tap(solve, arguments) if solve.measured else None
    if counted:
        ride(arguments, controller := count_controller(arguments["stepsize_controller"], anew), controller.start())
    solution = diffeqsolve(*call.args, **call.kwargs)
    if counted:
        solution, (_, anew) = got_off(solution, "controller_state")
    trace = None
    if solve.trace_wanted:
        solution, buffer = got_off(solution, "controller_state")
        trace = Trace.of_buffer(buffer)
    carry = None
    if tapped is not None:
        solution, arrays = got_off(solution, "solver_state")
        carry = tapped.carry(arrays, arguments["y0"])
    for name in ("solver_state", "controller_state"):
        if not getattr(wanted, name):
            solution = replace(solution, name, None)
    return _finish(solve, solution, told, anew, carry, trace)


def _tap(solve: Solve, arguments: dict[str, Any]) -> TappedSolver:
    """Puts the tapped solver, and for a trace the traced controller, into the arguments."""
    solver, controller, y0 = arguments["solver"], arguments["stepsize_controller"], prepared(arguments).y0
    tapped = TappedSolver(
        inner=solver, fold=solve.fold, draws=None, traced=bool(solve.trace_wanted), **tolerances(controller)
    )
    if solve.sampling is not None:
        tapped = begin(solve.sampling, tapped, arguments)
    arguments["solver"] = tapped
    arguments["saveat"] = eqx.tree_at(lambda s: s.solver_state, arguments["saveat"], True)
    if arguments["solver_state"] is not None:
        arguments["solver_state"] = (arguments["solver_state"], tapped.start(y0))
    if solve.trace_wanted:
        adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
        kind = TracedAdaptiveController if adaptive else TracedController
        traced = kind.of(controller, _capacity(solve, arguments))
        ride(arguments, traced, traced.start(y0))
    return tapped


def _capacity(solve: Solve, arguments: dict[str, Any]) -> int:
    capacity = arguments["max_steps"] if solve.trace_wanted is True else solve.trace_wanted
    if capacity is None:
        raise InvalidInputError(
            "A trace was asked of `diffeqsolve(max_steps=None)`, whose steps nothing bounds; say how many rows it may "
            "have, as in `observe(trace=1000)`."
        )
    return int(capacity)


def _choose_first_step(arguments: dict[str, Any]) -> int:
    """Takes the reference first step where the user left it open; says how many evaluations that took."""
    controller, solver, t0 = (arguments[name] for name in ("stepsize_controller", "solver", "t0"))
    terms = arguments["terms"]
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    if arguments["dt0"] is not None or not adaptive:
        return 0
    if not isinstance(terms, diffrax.ODETerm):
        raise AlignError(
            f"`observe(align=True)` was asked of `diffeqsolve` with a `{type(terms).__name__}` and `dt0=None`, and it "
            "chooses the first step of an `ODETerm` alone; give `dt0`, or leave it out."
        )
    direction = jnp.where(t0 < arguments["t1"], 1, -1)
    leaves, structure = jax.tree.flatten(arguments["y0"])
    h = initial_step(
        lambda t, y: as_state(terms.vf(t, as_tree(structure, y), arguments["args"])),
        t0,
        as_state(leaves),
        direction,
        solver.order(terms),
        controller.rtol,
        controller.atol,
        as_norm(controller.norm, structure),
    )
    # diffrax stops this gradient too, for a first step it chooses itself (pid.py::init).
    arguments["dt0"] = jax.lax.stop_gradient(direction * h)
    return 2


def _finish(
    solve: Solve, solution: Any, told: Counts, anew: Any, carry: Carry | None, trace: Trace | None = None
) -> Any:
    told.tell(solve, solution.stats["num_steps"], anew)
    accepted, rejected = (solution.stats[f"num_{kind}_steps"] for kind in ("accepted", "rejected"))
    solve.finish(carry, accepted=accepted, rejected=rejected, trace=trace)
    return solution


def _is_backward(terms: Any) -> bool:
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, AdjointTerm))
    return any(isinstance(leaf, AdjointTerm) for leaf in leaves)
