"""Where torchdiffeq takes its steps, and how one of them reads as a `Step`.

torchdiffeq makes one solver object for each solve, and its solver holds the field: `_before_integrate` puts a
`TappedField` in the place of that field when somebody observes, and the other taps look for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torchdiffeq._impl import adjoint, dopri5, fixed_grid, misc, rk_common, scipy_wrapper, solvers

from solvertap import (
    Adapter,
    Patches,
    Sampling,
    Solve,
    Step,
    initial_step,
    open_solve,
    require,
    require_parameters,
    unobserved,
)
from solvertap.errors import CheckpointError, FixedStepError
from solvertap_torch.backward import refuse_without_gradient, tap_backward

from ._field import CountedField, Method, TappedField


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
    ):
        patches.replace(owner, name, lambda original: _tapped_unadapted(adapter, original))
    patches.replace(scipy_wrapper, "convert_func_to_numpy", _with_field)
    patches.replace(
        scipy_wrapper.ScipyWrapperODESolver, "integrate", lambda original: _tapped_closed(adapter, original)
    )
    tap_backward(patches, adjoint.OdeintAdjointMethod, "adjoint")


def _probe() -> None:
    runge_kutta = rk_common.RKAdaptiveStepsizeODESolver
    require(runge_kutta, "func", "y0", "dtype", "rtol", "atol", "norm", "tableau", "rk_state")
    require(runge_kutta, "first_step", "step_t", "jump_t")
    require(solvers.FixedGridODESolver, "_step_func", "y0")
    require(scipy_wrapper.ScipyWrapperODESolver, "func", "y0", "rtol", "atol")
    require_parameters(scipy_wrapper.convert_func_to_numpy, "func")
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
        if solve.sampling is not None:
            # One time alone: an event ends the solve, where it will.
            end = None if len(t) < 2 else self.func.sign * t[-1].detach()
            solve.sampling.begin(partial(self.func.restart, rk_common._runge_kutta_step, self.tableau), end)
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
                with self.func.solve as solve:
                    solve.finish()
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
        if any(term.doubles for term in solve.terms) and _is_one_step(self):
            refuse_without_gradient(solve, "odeint_adjoint", "odeint")
        elif solve.terms:
            solve.refuse(
                FixedStepError(
                    f"A penalty was asked of torchdiffeq's `{type(self).__name__}`, which estimates no error of its "
                    'own; use an adaptive method such as `method="dopri5"`, with a one-step method '
                    '`LocalError(estimate="doubling", scale="raw")`, or `observe()` without a term for counts.'
                ),
                sampled=True,
            )
        if solve.checkpoint and not _is_one_step(self):
            _refuse_with_memory(self, solve)
        self.func = TappedField(self.func, solve, self.y0)
        if solve.sampling is not None:
            restart = partial(_restarted, self._step_func, CountedField(self.func.field, solve))
            times, *event = args
            solve.sampling.begin(restart, None if event else self.func.sign * times[-1].detach())
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
        take = partial(func.replayed, step_func)
        dy, f0 = take(t0, dt, t1, y0)
        halves = _in_halves(take, t0, dt, t1, y0) if solve.fold.doubles else None
        solve.step(_fixed_step(func.sign, t0, t1, y0, y0 + dy, halves))
        return dy, f0

    return _step_func


def _restarted(step_func: Callable[..., Any], field: CountedField, t0: Any, y0: Any, t1: Any) -> Step:
    t0, t1 = field.sign * t0, field.sign * t1
    take = partial(step_func, field)
    dy, _ = take(t0, t1 - t0, t1, y0)
    return _fixed_step(field.sign, t0, t1, y0, y0 + dy, _in_halves(take, t0, t1 - t0, t1, y0))


def _fixed_step(sign: float, t0: Any, t1: Any, y0: Any, y1: Any, halves: Any) -> Step:
    times = {"t0": sign * t0.detach(), "t1": sign * t1.detach()}
    return Step(**times, y0=y0, y1=y1, y1_embedded=halves, doubled=halves is not None)


def _in_halves(take: Callable[..., Any], *inputs: Any) -> Any:
    t0, dt, t1, y0 = inputs
    half, middle = (dt / 2).detach(), (t0 + dt / 2).detach()
    dy, _ = take(t0.detach(), half, middle, y0)
    y = y0 + dy
    dy, _ = take(middle, half, t1.detach(), y)
    return y + dy


def _with_field(convert: Callable[..., Any]) -> Callable[..., Any]:
    def convert_func_to_numpy(func: Any, *args: Any) -> Any:
        converted = convert(func, *args)
        converted.solvertap_field = func
        return converted

    return convert_func_to_numpy


def _tapped_closed(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    def tapped(self: Any, t: Any) -> Any:
        solve = open_solve(adapter, like=self.y0)
        if solve is None:
            return integrate(self, t)
        if solve.fold.terms or (solve.sampling is not None and "steps" in solve.sampling.kinds):
            solve.refuse(
                FixedStepError(
                    "A penalty was asked of torchdiffeq's `ScipyWrapperODESolver`, whose steps nobody sees; use "
                    'another method such as `method="dopri5"`, or `LocalSample(term, draw="uniform")`, or `observe()` '
                    "without a term for counts."
                ),
                sampled=solve.sampling is not None and "steps" in solve.sampling.kinds,
            )
        refuse_without_gradient(solve, "odeint_adjoint", "odeint")
        self.func = TappedField(self.func, solve, self.y0)
        with solve, unobserved():
            result = integrate(self, t)
            if solve.sampling is not None and len(t) > 1:
                _sample_closed(self, solve.sampling, partial(integrate, self), t)
            solve.finish()
        return solve.through(result)

    return tapped


def _sample_closed(solver: Any, sampling: Sampling, integrate: Callable[[Any], Any], t: Any) -> None:
    """One step of Dormand and Prince's method, as long as a solve that begins there would make its first.

    Pal23's code has that size too. The state there is where SciPy itself gets to, in a solve of its own.
    """
    t = t.detach()
    method = Method.of_class(dopri5.Dopri5Solver, solver.rtol, solver.atol)
    field = TappedField(solver.func.solvertap_field, solver.func.solve, solver.y0, method)
    at = t[0] + sampling.draws.numbers(0, solver.y0) * (t[-1] - t[0])
    y = integrate(torch.stack([t[0], at]))[-1]
    with torch.no_grad():
        h = initial_step(CountedField(field.field, field.solve), at, y, 1.0, 5, solver.rtol, solver.atol)
    # rk_common.py::RKAdaptiveStepsizeODESolver.__init__ casts them so.
    rows = dopri5.Dopri5Solver.tableau
    alpha, c_sol, c_error = (x.to(y) for x in (rows.alpha, rows.c_sol, rows.c_error))
    tableau = rows._replace(alpha=alpha, beta=[x.to(y) for x in rows.beta], c_sol=c_sol, c_error=c_error)
    sampling.begin(partial(field.restart, rk_common._runge_kutta_step, tableau), like=y)
    sampling.start = field.sign * at, y, field.sign * torch.minimum(at + h, t[-1])


def _land_on_last_time(solver: Any, t: Any) -> None:
    if len(t) < 2:  # an event ends the solve where it will
        return
    last = t[-1:].detach().to(solver.dtype)
    wanted = [times for times in (solver.step_t, solver.jump_t) if times is not None]
    if not any((times == last).any() for times in wanted):
        solver.step_t = last if solver.step_t is None else torch.cat([solver.step_t, last])
