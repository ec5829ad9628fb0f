"""The steps of torchdyn's adaptive loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch.autograd import forward_ad
from torchdyn.numerics.utils import hairer_norm

from solvertap import Step
from solvertap.adapting import Stages, initial_step
from solvertap.errors import AlignError
from solvertap_torch import Recompute

from ._field import TappedField, find
from ._method import Method


def tapped_adaptive(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_adaptive_odeint`, tapped."""

    @wraps(original)
    def _adaptive_odeint(
        f: Any,
        k1: Any,
        x: Any,
        dt: Any,
        t_span: Any,
        solver: Any,
        atol: Any = 1e-4,
        rtol: Any = 1e-4,
        args: Any = None,
        interpolator: Any = None,
        return_all_eval: Any = False,
        seminorm: Any = (False, None),
    ) -> Any:
        found = find(f)
        if found is None:
            return original(f, k1, x, dt, t_span, solver, atol, rtol, args, interpolator, return_all_eval, seminorm)
        field, sign = found
        field.taken = True
        solve = field.solve
        if solve.align:
            _refuse_stops(field, t_span, interpolator)
            h = initial_step(f, t_span[0], x.detach(), 1.0, solver.order, rtol, atol, _norm(seminorm))
            dt = h.detach().to(t_span)
        # utils.py::init_step records gradients, utils.py::adapt_step does not: only the first step size carries one. A
        # penalty holds every step size fixed, so this path is cut where a term is requested, as in torchdiffeq.
        dt = solve.hold(dt)
        steps = AdaptiveSteps(solver, field, sign, x, (rtol, atol, _norm(seminorm)), args)
        if solve.extra_step is not None:
            solve.extra_step.begin(steps.restart, sign * t_span[-1].detach())
        result = original(f, k1, x, dt, t_span, steps, atol, rtol, args, interpolator, return_all_eval, seminorm)
        steps.settle(accepted=True)  # the loop ends with a step that it accepts
        return result

    return _adaptive_odeint


def _refuse_stops(field: TappedField, t_span: Any, interpolator: Any) -> None:
    if len(t_span) > 2 and interpolator is None:
        field.solve.abandon()
        raise AlignError(
            f"`observe(align=True)` was asked of a solve by torchdyn with {len(t_span)} times, at each of which "
            'a step ends. Give it the first and the last time, or `interpolator="4th"` with dopri5, or leave '
            "`align` out."
        )


def _norm(seminorm: Any) -> Any:
    """What the loop compares with 1: None for the core's own root mean square."""
    if not seminorm[0]:
        return None
    return lambda scaled: hairer_norm(scaled[: seminorm[1]])


class AdaptiveSteps:
    """Stands in for the solver in the loop of one solve, and describes its steps."""

    def __init__(self, solver: Any, field: TappedField, sign: int, x: Any, comparison: Any, args: Any) -> None:
        self.solver = solver
        self.field = field
        self.sign = sign
        self.like = x.detach()
        self.rtol, self.atol, self.norm = comparison
        self.args = args
        self.method = Method.of(solver) if field.solve.measured or field.solve.extra_step is not None else None
        self.checkpoint = Recompute.of(field.solve, x)
        self.attempt: tuple[Any, ...] = ()  # the last one until it is settled

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.solver, name)
        if name in ("safety", "min_factor", "max_factor") and self.field.solve.align:
            return _in_digits_of(self.like, value)
        return value

    def step(self, f: Any, x: Any, t: Any, dt: Any, k1: Any = None, args: Any = None) -> Any:
        """The solver's own step."""
        # The loop has accepted the last attempt if it goes on from the tensor that the attempt returned.
        self.settle(accepted=bool(self.attempt) and x is self.attempt[4])
        if forward_ad._current_level >= 0:
            # utils.py::adapt_step is under `no_grad`, which lets tangents through: every step size has one.
            t, dt = self.field.solve.hold(t), self.field.solve.hold(dt)
        step = partial(_step, self.solver, args)
        result = self.field.take(step, self.checkpoint, self.sign, f, x, t, dt, k1)
        self.attempt = (t, dt, x, *result)
        return result

    def settle(self, accepted: bool) -> None:
        """Hands the last attempt over."""
        attempt, self.attempt = self.attempt, ()
        if not attempt:
            return
        solve = self.field.solve
        if solve.described if accepted else solve.shown:
            solve.step(self._read(attempt, accepted))
        else:
            solve.count(accepted)

    def restart(self, t0: Any, y0: Any, t1: Any) -> Step:
        """A step by the solver from y0 between two of the user's times."""
        t, dt = (self.sign * t0).reshape(1), (self.sign * (t1 - t0)).reshape(1)
        with self.field.apart():
            result = _step(self.solver, self.args, self.field.oriented(self.sign), y0, t, dt, None)
        return self._read((t, dt, y0, *result), accepted=True)

    def slope(self, t: Any, y: Any) -> Any:
        """The user's slope at the user's time."""
        with self.field.solve.adapter.untouched(y), self.field.apart():
            return self.field(t, y)

    def _read(self, attempt: tuple[Any, ...], accepted: bool) -> Step:
        t, dt, y0, _, y1, error, slopes = attempt
        t0, h = (self.sign * x.detach().reshape(()).to(self._time) for x in (t, dt))
        stages, method = None, self.method
        if method is not None:
            tableau = method.used(dt, y1) if self.field.solve.measures_stiffness else method.tableau
            stages = Stages(slopes=[self._fit(k) for k in slopes], tableau=tableau, unit=self.sign)
        return Step(
            t0=t0,
            t1=t0 + h,
            y0=self._fit(y0),
            y1=self._fit(y1),
            error=self._fit(error),
            rtol=self.rtol,
            atol=self.atol,
            norm=self.norm,
            stages=stages,
            field=self.slope,
            stability_size=None if method is None else method.stability_size,
            accepted=accepted,
        )

    @property
    def _time(self) -> torch.dtype:
        # The loop adds a step size to times that may be in fewer digits than the state.
        return torch.float64 if self.like.dtype in (torch.float64, torch.complex128) else torch.float32

    def _fit(self, x: Any) -> Any:
        """A state or slope in the shape and dtype of the initial state: a step in another precision is promoted."""
        like = self.like
        return x if x.dtype == like.dtype and x.shape == like.shape else x.expand(like.shape).to(like.dtype)


def _step(solver: Any, args: Any, f: Any, x: Any, t: Any, dt: Any, k1: Any) -> Any:
    return solver.step(f, x, t, dt, k1=k1, args=args)


def _in_digits_of(like: Any, factor: Any) -> Any:
    """A factor of the controller, which torchdyn has in float32, as the decimal that it was given as."""
    return torch.tensor([float(f"{factor.item():.7g}")], dtype=like.real.dtype, device=like.device)
