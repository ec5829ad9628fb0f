"""The taps on torchdiffeq.

torchdiffeq makes one solver object for each solve, and the solver holds the field. If somebody observes,
`_before_integrate` replaces that field by a `TappedField`; the other taps act only where they find one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torchdiffeq._impl import adjoint, misc, rk_common, scipy_wrapper, solvers

from solvertap import unobserved
from solvertap.adapting import Adapter, Patches, require, require_parameters
from solvertap_torch.backward import tap_backward, with_graph

from ._ending import end_dense
from ._field import TappedField
from ._fixed_grid import tapped_grid
from ._interpolation import Fit, State
from ._loop import begin, check_outer_loop, is_running, tapped_loop
from ._norm import TappedNorm
from ._own import own_attempt
from ._scipy import tapped_closed, with_field
from ._subclasses import Subclasses


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places every tap. The files and functions named here are those of torchdiffeq 0.2.4 and 0.2.5."""
    _probe()
    runge_kutta = rk_common.RKAdaptiveStepsizeODESolver
    loop, grid, closed = (
        partial(tapped_loop, adapter, patches),
        partial(tapped_grid, adapter),
        partial(tapped_closed, adapter),
    )
    patches.replace(runge_kutta, "_before_integrate", lambda original: _tapped_start(adapter, patches, original))
    patches.replace(runge_kutta, "_adaptive_step", _tapped_attempt)
    patches.replace(runge_kutta, "_interp_fit", _tapped_fit)
    # rk_common.py::_adaptive_step looks these up as module globals at every step.
    patches.replace(rk_common, "_runge_kutta_step", _tapped_runge_kutta_step)
    patches.replace(rk_common, "_compute_error_ratio", _tapped_error_ratio)
    patches.replace(solvers.AdaptiveStepsizeODESolver, "integrate", loop)
    patches.replace(solvers.AdaptiveStepsizeEventODESolver, "integrate_until_event", loop)
    patches.replace(solvers.FixedGridODESolver, "integrate", grid)
    patches.replace(solvers.FixedGridODESolver, "integrate_until_event", grid)
    patches.replace(scipy_wrapper, "convert_func_to_numpy", with_field)
    patches.replace(scipy_wrapper.ScipyWrapperODESolver, "integrate", closed)
    Subclasses(
        patches, loop=loop, grid=grid, closed=closed, attempt=_tapped_attempt, step=_tapped_runge_kutta_step
    ).attach()
    tap_backward(patches, adjoint.OdeintAdjointMethod, "adjoint")


def _probe() -> None:
    runge_kutta = rk_common.RKAdaptiveStepsizeODESolver
    require(runge_kutta, "func", "y0", "dtype", "rtol", "atol", "norm", "tableau", "rk_state")
    require(runge_kutta, "first_step", "step_t", "jump_t")
    require(solvers.FixedGridODESolver, "_step_func", "y0")
    require(scipy_wrapper.ScipyWrapperODESolver, "func", "y0", "rtol", "atol")
    require_parameters(scipy_wrapper.convert_func_to_numpy, "func")
    require(rk_common._RungeKuttaState, "t0", "t1", "dt", "interp_coeff")
    require(rk_common._ButcherTableau, "alpha", "beta", "c_sol")
    require(misc, "_ReverseFunc", "_PerturbFunc", "_TupleFunc", "_rms_norm", "Perturb")
    require_parameters(rk_common._runge_kutta_step, "func", "y0", "f0", "t0", "dt", "t1", "tableau")
    require_parameters(rk_common._compute_error_ratio, "error_estimate", "rtol", "atol", "y0", "y1", "norm")
    require_parameters(runge_kutta._adaptive_step, "rk_state")
    require_parameters(runge_kutta._before_integrate, "t")
    require_parameters(runge_kutta._interp_fit, "y0", "y1", "k", "dt")


def _tapped_start(adapter: Adapter, patches: Patches, before_integrate: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(before_integrate)
    def _before_integrate(self: Any, t: Any) -> Any:
        field = self.func
        if not is_running(self):
            field = begin(adapter, patches, self)
            if field is not None:
                check_outer_loop(field, t)
        if type(field) is not TappedField:
            return before_integrate(self, t)
        solve = field.solve
        if solve.extra_step is not None:
            # A single time: an event ends the solve, at a time not known yet.
            end = None if len(t) < 2 else self.func.sign * t[-1].detach()
            solve.extra_step.begin(partial(self.func.restart, rk_common._runge_kutta_step, self.tableau), end)
        if solve.replay is not None:
            again = field.again(rk_common._runge_kutta_step, self.tableau)
            solve.replay.begin(again, (with_graph(self.y0),))
        if solve.align:
            _land_on_last_time(self, t)
        try:
            unobserved().call(before_integrate, self, t)
        except BaseException:
            solve.abandon()
            raise
        field.before = solve.counts.evaluations
        if field.shape.plain and field.method is not None and field.method.norm is None:
            field.norm, self.norm = self.norm, TappedNorm(field, self.norm, self.y0)
        if solve.fold.terms and field.shape.plain and self.first_step is None:
            # torchdiffeq issue 284: the automatic first step size carries gradient, the later ones do not
            # (misc.py::_optimal_step_size). For cutting it: the penalty holds every h fixed, so its gradient is
            # that of replaying the accepted steps; diffrax does the same (pid.py, the comment above
            # `dt0 = lax.stop_gradient(dt0)`). Against: an observed solution loses this path of its gradient
            # too, a few tenths of a percent where it was measured.
            self.rk_state = self.rk_state._replace(dt=solve.hold(self.rk_state.dt))
        return None

    return _before_integrate


def _tapped_attempt(adaptive_step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(adaptive_step)
    def _adaptive_step(self: Any, rk_state: Any) -> Any:
        field = self.func
        if type(field) is not TappedField or field.attempting:
            return adaptive_step(self, rk_state)
        if not field.shape.plain:
            return own_attempt(self, adaptive_step, rk_state)
        field.attempting = True
        try:
            # A solve inside the field is part of the field.
            new_state = State(*unobserved().call(adaptive_step, self, rk_state))
            # rk_common.py::_adaptive_step: a rejected step returns its own starting time, the same tensor.
            field.settle(accepted=new_state.t1 is not rk_state.t1)
        except BaseException:
            field.solve.abandon()
            raise
        finally:
            field.attempting = False
        return new_state if field.end is None else end_dense(self, field, new_state)

    return _adaptive_step


def _tapped_fit(interp_fit: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(interp_fit)
    def _interp_fit(self: Any, y0: Any, y1: Any, k: Any, dt: Any) -> Any:
        # Deferred only in a tapped attempt: a user's own loop reads the coefficients directly. Not deferred in a solve
        # with jumps: rk_common.py::_adaptive_step evaluates the field after a jump once the step is fitted, and torch
        # adds gradients in the order in which it has recorded their nodes.
        field = self.func
        if type(field) is TappedField and field.attempting and field.shape.plain and not len(self.jump_t):
            return Fit(interp_fit, self, y0, y1, k, dt)
        return interp_fit(self, y0, y1, k, dt)

    return _interp_fit


def _tapped_runge_kutta_step(runge_kutta_step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(runge_kutta_step)
    def _runge_kutta_step(func: Any, y0: Any, f0: Any, t0: Any, dt: Any, t1: Any, tableau: Any) -> Any:
        # Untapped if the taps were removed since the solve began, except inside a running attempt.
        if type(func) is not TappedField or (not func.attempting and func.detached):
            return runge_kutta_step(func, y0, f0, t0, dt, t1, tableau=tableau)
        return func.attempt_step(runge_kutta_step, (y0, f0, t0, dt, t1), tableau)

    return _runge_kutta_step


def _tapped_error_ratio(compute_error_ratio: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(compute_error_ratio)
    def _compute_error_ratio(error_estimate: Any, rtol: Any, atol: Any, y0: Any, y1: Any, norm: Any) -> Any:
        if type(norm) is not TappedNorm:
            return compute_error_ratio(error_estimate, rtol, atol, y0, y1, norm)
        return norm.error_ratio(compute_error_ratio, error_estimate, rtol, atol, y0, y1)

    return _compute_error_ratio


def _land_on_last_time(solver: Any, t: Any) -> None:
    if len(t) < 2:  # an event ends the solve at a time not known yet
        return
    last = t[-1:].detach().to(solver.dtype)
    wanted = [times for times in (solver.step_t, solver.jump_t) if times is not None]
    if not any((times == last).any() for times in wanted):
        solver.step_t = last if solver.step_t is None else torch.cat([solver.step_t, last])
