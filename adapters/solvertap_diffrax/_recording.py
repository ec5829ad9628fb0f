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
    Stiffness,
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
from ._differentiated import by_start_alone
from ._method import Cost, cost, name_of
from ._refusals import refuse
from ._sampling import begin, with_samples
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
    measures_stiffness = solve.trace_wanted or any(isinstance(term.plain, Stiffness) for term in solve.fold.terms)
    spent = cost(arguments["solver"], arguments["terms"], measures_stiffness, chosen, solve.fold.doubles)
    if solve.sampling is not None:
        bare, spent = spent, with_samples(spent, solve.sampling, arguments["solver"], arguments["terms"])
        if bare is not None and spent is not None:
            solve.sample_evaluations = spent.drift_once - bare.drift_once
    if not solve.measured or not jax.tree.leaves(arguments["y0"]):
        solution = diffeqsolve(*call.args, **call.kwargs)
        # A state without a single array has nothing to measure: every term of it is zero.
        zeros = (jnp.zeros(()),) * len(solve.fold.terms)
        if solve.sampling is not None:
            solve.sampling.like = jnp.zeros(())
        _finish(solve, solution, spent, Carry(0, 0, zeros, (None,) * len(solve.fold.kinds)))
        return solution
    tapped, state, controller_state = _tap(solve, arguments)
    solution = diffeqsolve(*call.args, **call.kwargs)
    inner, arrays = solution.solver_state
    carry = tapped.carry(arrays, arguments["y0"])
    solution = _replace(solution, "solver_state", inner if state else None)
    trace = None
    if solve.trace_wanted:
        inner, buffer = solution.controller_state
        solution = _replace(solution, "controller_state", inner if controller_state else None)
        trace = Trace.of_buffer(buffer)
    _finish(solve, solution, spent, carry, trace)
    return solution


def _tap(solve: Solve, arguments: dict[str, Any]) -> tuple[TappedSolver, bool, bool]:
    """Puts the tapped solver into the arguments; says which states the user wanted to have back."""
    solver, controller, saveat = (arguments[name] for name in ("solver", "stepsize_controller", "saveat"))
    wanted = saveat.solver_state, saveat.controller_state
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    tapped = arguments["solver"] = TappedSolver(
        inner=solver,
        fold=solve.fold,
        rtol=controller.rtol if adaptive else None,
        atol=controller.atol if adaptive else None,
        norm=controller.norm if adaptive else None,
        draws=None,
        traced=solve.trace_wanted,
    )
    if solve.sampling is not None:
        tapped = arguments["solver"] = begin(solve.sampling, tapped, arguments)
    adjoint = arguments["adjoint"]
    if isinstance(adjoint, diffrax.BacksolveAdjoint):  # whose own solve nobody is to fold
        arguments["adjoint"] = type(adjoint)(**{"solver": solver, **adjoint.kwargs})
    saveat = eqx.tree_at(lambda s: s.solver_state, saveat, True)
    if arguments["solver_state"] is not None:
        arguments["solver_state"] = (arguments["solver_state"], tapped.start(arguments["y0"]))
    if solve.trace_wanted:
        if arguments["max_steps"] is None:
            raise InvalidInputError(
                "A trace was asked of `diffeqsolve(max_steps=None)`; it needs a bound on the steps."
            )
        kind = TracedAdaptiveController if adaptive else TracedController
        arguments["stepsize_controller"] = traced = kind.of(controller, arguments["max_steps"])
        saveat = eqx.tree_at(lambda s: s.controller_state, saveat, True)
        if arguments["controller_state"] is not None:
            arguments["controller_state"] = (arguments["controller_state"], traced.start(arguments["y0"]))
    arguments["saveat"] = saveat
    return tapped, *wanted


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


def _finish(solve: Solve, solution: Any, spent: Cost | None, carry: Any = None, trace: Trace | None = None) -> None:
    accepted = solution.stats["num_accepted_steps"]
    counts = (None, None) if spent is None else spent.total(solution.stats["num_steps"])
    solve.evaluations, solve.diffusion_evaluations = counts
    solve.finish(carry, accepted=accepted, rejected=solution.stats["num_rejected_steps"], trace=trace)


def _is_backward(terms: Any) -> bool:
    leaves = jax.tree.leaves(terms, is_leaf=lambda x: isinstance(x, AdjointTerm))
    return any(isinstance(leaf, AdjointTerm) for leaf in leaves)


def _replace(solution: Any, name: str, value: Any) -> Any:
    return eqx.tree_at(lambda s: getattr(s, name), solution, value, is_leaf=lambda x: x is None)
