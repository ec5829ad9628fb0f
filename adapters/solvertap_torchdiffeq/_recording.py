"""Where torchdiffeq takes its steps, and how one of them reads as a `Step`.

torchdiffeq makes one solver object for each solve, and its solver holds the field: `_before_integrate` puts a
`TappedField` in the place of that field when somebody observes, and the other taps look for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torchdiffeq._impl import adjoint, fixed_grid, misc, rk_common, scipy_wrapper, solvers

from solvertap import Adapter, Patches, Solve, Step, open_solve, require, require_parameters, unobserved
from solvertap.errors import CheckpointError, FixedStepError
from solvertap_torch.backward import refuse_without_gradient, tap_backward

from ._field import Method, TappedField


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places every tap. The files and functions named here are those of torchdiffeq 0.2.4 and 0.2.5."""
    _probe()
    runge_kutta = rk_common.RKAdaptiveStepsizeODESolver
    patches.replace(runge_kutta, "_before_integrate", lambda original: _tapped_start(adapter, patches, original))
    patches.replace(runge_kutta, "_adaptive_step", _tapped_attempt)
    # rk_common.py::_adaptive_step looks this up as a module global at every step.
    patches.replace(rk_common, "_runge_kutta_step", _tapped_runge_kutta_step)
    for owner, name in (
        (solvers.AdaptiveStepsizeODESolver, "integrate"),
        (solvers.AdaptiveStepsizeEventODESolver, "integrate_until_event"),
    ):
        patches.replace(owner, name, lambda original: _tapped_end(patches, original))
    for owner, name in (
        (solvers.FixedGridODESolver, "integrate"),
        (solvers.FixedGridODESolver, "integrate_until_event"),
        (scipy_wrapper.ScipyWrapperODESolver, "integrate"),
    ):
        patches.replace(owner, name, lambda original: _tapped_unadapted(adapter, original))
    tap_backward(patches, adjoint.OdeintAdjointMethod, "adjoint")


def _probe() -> None:
    runge_kutta = rk_common.RKAdaptiveStepsizeODESolver
    require(runge_kutta, "func", "y0", "dtype", "rtol", "atol", "norm", "tableau", "rk_state")
    require(runge_kutta, "first_step", "step_t", "jump_t")
    require(solvers.FixedGridODESolver, "_step_func", "y0")
    require(scipy_wrapper.ScipyWrapperODESolver, "func", "y0")
    require(rk_common._RungeKuttaState, "t0", "t1", "dt")
    require(rk_common._ButcherTableau, "alpha", "beta", "c_sol")
    require(misc, "_ReverseFunc", "_rms_norm", "Perturb")
    require_parameters(rk_common._runge_kutta_step, "func", "y0", "f0", "t0", "dt", "t1", "tableau")
    require_parameters(runge_kutta._adaptive_step, "rk_state")
    require_parameters(runge_kutta._before_integrate, "t")


def _tapped_start(adapter: Adapter, patches: Patches, before_integrate: Callable[..., Any]) -> Callable[..., Any]:
    def _before_integrate(self: Any, t: Any) -> Any:
        solve = open_solve(adapter, like=self.y0)
        if solve is None:
            return before_integrate(self, t)
        refuse_without_gradient(solve, "odeint_adjoint", "odeint")
        self.func = TappedField(self.func, solve, self.y0, Method.of(self), patches.undone)
        if solve.align:
            _land_on_last_time(self, t)
        with unobserved():
            before_integrate(self, t)
        if solve.fold.terms and self.first_step is None:
            # torchdiffeq issue 284: the automatic first step size carries gradient, the later ones do not
            # (misc.py::_optimal_step_size). For cutting it: the penalty holds every h fixed, so that it is
            # what replaying the accepted steps gives; diffrax does the same (pid.py, the comment above
            # `dt0 = lax.stop_gradient(dt0)`). Against: while it is observed, the gradient of the solution
            # loses that path too, a few tenths of a percent where it was measured.
            self.rk_state = self.rk_state._replace(dt=self.rk_state.dt.detach())
        return None

    return _before_integrate


def _tapped_attempt(adaptive_step: Callable[..., Any]) -> Callable[..., Any]:
    def _adaptive_step(self: Any, rk_state: Any) -> Any:
        field = self.func
        if type(field) is not TappedField:
            return adaptive_step(self, rk_state)
        try:
            with unobserved():  # a solve inside the field is part of the field
                new_state = adaptive_step(self, rk_state)
        except BaseException:
            field.solve.abandon()
            raise
        # rk_common.py::_adaptive_step: a rejected step gives its own starting time back, the same tensor.
        field.settle(accepted=new_state.t1 is not rk_state.t1)
        return new_state

    return _adaptive_step


def _tapped_runge_kutta_step(runge_kutta_step: Callable[..., Any]) -> Callable[..., Any]:
    def _runge_kutta_step(func: Any, y0: Any, f0: Any, t0: Any, dt: Any, t1: Any, tableau: Any) -> Any:
        if type(func) is not TappedField:
            return runge_kutta_step(func, y0, f0, t0, dt, t1, tableau=tableau)
        return func.attempt_step(runge_kutta_step, (y0, f0, t0, dt, t1), tableau)

    return _runge_kutta_step


def _tapped_end(patches: Patches, integrate: Callable[..., Any]) -> Callable[..., Any]:
    def tapped(self: Any, *args: Any) -> Any:
        try:
            result = integrate(self, *args)
        except BaseException:
            if type(self.func) is TappedField:
                self.func.solve.abandon()
            raise
        if type(self.func) is TappedField:
            if self.func.undone == patches.undone:
                self.func.solve.finish()
                result = self.func.solve.through(result)
            else:  # detached meanwhile, by another thread or by the field: steps are missing
                self.func.solve.abandon()
        return result

    return tapped


def _tapped_unadapted(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    def tapped(self: Any, *args: Any) -> Any:
        solve = open_solve(adapter, like=self.y0)
        if solve is None:
            return integrate(self, *args)
        if solve.fold.doubles and _is_one_step(self):
            refuse_without_gradient(solve, "odeint_adjoint", "odeint")
        elif solve.fold.terms:
            solve.refuse(
                FixedStepError(
                    f"A penalty was asked of torchdiffeq's `{type(self).__name__}`, which estimates no error of its "
                    'own; use an adaptive method such as `method="dopri5"`, with a one-step method '
                    '`LocalError(estimate="doubling", scale="raw")`, or `observe()` without a term for counts.'
                )
            )
        if solve.checkpoint and hasattr(self, "_step_func") and not _is_one_step(self):
            _refuse_with_memory(self, solve)
        self.func = TappedField(self.func, solve, self.y0)
        if hasattr(self, "_step_func"):  # what SciPy does between two calls of the field stays closed
            self._step_func = _counted_step(self._step_func, solve)
        with solve, unobserved():
            result = integrate(self, *args)
        return solve.through(result)

    return tapped


def _is_one_step(solver: Any) -> bool:
    # solvers.py: what a grid method does in a step is `_step_func`; the Adams methods are in a file of their own.
    step_func = getattr(type(solver), "_step_func", None)
    return step_func is not None and step_func.__module__ == fixed_grid.__name__


def _refuse_with_memory(solver: Any, solve: Solve) -> None:
    solve.abandon()
    raise CheckpointError(
        f"`observe(checkpoint=True)` was asked of torchdiffeq's `{type(solver).__name__}`, whose steps build on "
        'earlier ones and cannot be taken once more; use a one-step method such as `method="rk4"`, or leave it out.'
    )


def _counted_step(step_func: Callable[..., Any], solve: Solve) -> Callable[..., Any]:
    def _step_func(func: Any, t0: Any, dt: Any, t1: Any, y0: Any) -> Any:
        dy, f0 = func.replayed(step_func, t0, dt, t1, y0)
        halves = _in_halves(partial(func.replayed, step_func), t0, dt, t1, y0) if solve.fold.doubles else None
        times = {"t0": func.sign * t0.detach(), "t1": func.sign * t1.detach()}
        doubled = halves is not None
        solve.step(Step(**times, y0=y0, y1=y0 + dy, y1_embedded=halves, doubled=doubled))
        return dy, f0

    return _step_func


def _in_halves(take: Callable[..., Any], *inputs: Any) -> Any:
    t0, dt, t1, y0 = inputs
    half, middle = (dt / 2).detach(), (t0 + dt / 2).detach()
    dy, _ = take(t0.detach(), half, middle, y0)
    y = y0 + dy
    dy, _ = take(middle, half, t1.detach(), y)
    return y + dy


def _land_on_last_time(solver: Any, t: Any) -> None:
    if len(t) < 2:  # an event ends the solve where it will
        return
    last = t[-1:].detach().to(solver.dtype)
    wanted = [times for times in (solver.step_t, solver.jump_t) if times is not None]
    if not any((times == last).any() for times in wanted):
        solver.step_t = last if solver.step_t is None else torch.cat([solver.step_t, last])
