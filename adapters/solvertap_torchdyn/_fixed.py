"""The steps of torchdyn's loop over a fixed grid: counted, and doubled if a term needs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torchdyn.numerics.solvers import ode

from solvertap import Step
from solvertap.adapting import Solve
from solvertap.errors import FixedStepError
from solvertap_torch import Recompute, refuse_without_gradient

from ._field import TappedField, find
from ._method import ADJOINT


def tapped_fixed(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_fixed_odeint`, tapped."""

    @wraps(original)
    def _fixed_odeint(f: Any, x: Any, t_span: Any, solver: Any, *args: Any, **kwargs: Any) -> Any:
        found = find(f)
        if found is None:
            return original(f, x, t_span, solver, *args, **kwargs)
        field, sign = found
        field.taken = True
        steps = FixedSteps(solver, field, sign, kwargs.get("args"))
        if field.solve.extra_step is not None:
            field.solve.extra_step.begin(steps.restart, sign * t_span[-1].detach())
        return original(f, x, t_span, steps, *args, **kwargs)

    return _fixed_odeint


def refuse_fixed(solve: Solve, kind: Any, x: Any) -> None:
    """Refuses the terms of a solve by a fixed-step solver, unless its steps can be doubled.

    Args:
        solve: about to begin.
        kind: the class of the solver, if it is one.
        x: the initial state.
    """
    doubled = any(term.needs_step_doubling for term in solve.terms)
    if doubled and _is_one_step(kind) and isinstance(x, torch.Tensor):
        refuse_without_gradient(solve, *ADJOINT)
    elif solve.terms and hasattr(kind, "step"):  # what is no solver, torchdyn refuses
        solve.refuse(_without_estimate(kind, doubled), sampled=True)


def _is_one_step(kind: Any) -> bool:
    # A step of the user's may build on earlier ones. ode.py::ImplicitEuler returns a parameter of its optimiser,
    # which carries no gradient.
    step = getattr(kind, "step", None)
    return getattr(step, "__module__", "").startswith("torchdyn.") and step is not ode.ImplicitEuler.step


def _without_estimate(kind: Any, doubled: bool) -> FixedStepError:
    # Said of a solver whose steps can be doubled only.
    instead = "" if doubled else ', measure `LocalError(estimate="doubling", scale="raw")` with `solver="rk4"`'
    return FixedStepError(
        f"A penalty was asked of torchdyn's `{kind.__name__}`, which estimates no error of its "
        f"own{', and whose steps cannot be taken in halves' if doubled else ''}. Use an adaptive method "
        f'such as `solver="dopri5"`{instead}. `observe()` without a term still counts.'
    )


class FixedSteps:
    """Stands in for the solver in the loop of one solve."""

    def __init__(self, solver: Any, field: TappedField, sign: int, args: Any) -> None:
        self.solver = solver
        self.field = field
        self.sign = sign
        self.args = args
        self.checkpoint: Recompute | None = None
        self.begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)

    def step(self, f: Any, x: Any, t: Any, dt: Any, k1: Any = None, args: Any = None) -> Any:  # noqa: ARG002  # always None
        """The solver's own step."""
        solve = self.field.solve
        if not self.begun and isinstance(x, torch.Tensor):
            self.begun, self.checkpoint = True, Recompute.of(solve, x)
        step = partial(_step, self.solver, args)
        take = partial(self.field.take, step, self.checkpoint, self.sign, f)
        result = take(x, t, dt)
        halves = None
        if solve.fold.needs_step_doubling:
            # Measuring must not advance the program's random numbers.
            with solve.adapter.untouched(x), solve.counted_as_measuring(), self.field.apart():
                halves = _in_halves(take, x, t, dt)
        if solve.described:
            solve.step(self._read(t, dt, x, result[1], halves))
        else:
            solve.count(accepted=True)
        return result

    def restart(self, t0: Any, y0: Any, t1: Any) -> Step:
        """A step by the solver from y0 between two of the user's times, whole and in halves."""
        t, dt = self.sign * t0, self.sign * (t1 - t0)
        take = partial(_step, self.solver, self.args, self.field.oriented(self.sign))
        with self.field.apart():
            return self._read(t, dt, y0, take(y0, t, dt)[1], _in_halves(take, y0, t, dt))

    def _read(self, t: Any, dt: Any, y0: Any, y1: Any, halves: Any) -> Step:
        t0, h = self.sign * t.detach(), self.sign * dt.detach()
        y0, y1 = (tuple(y.values()) if isinstance(y, dict) else y for y in (y0, y1))
        return Step(t0=t0, t1=t0 + h, y0=y0, y1=y1, y1_embedded=halves, doubled=halves is not None)


def _step(solver: Any, args: Any, f: Any, x: Any, t: Any, dt: Any) -> Any:
    return solver.step(f, x, t, dt, k1=None, args=args)


def _in_halves(take: Callable[..., Any], x: Any, t: Any, dt: Any) -> Any:
    t, half = t.detach(), dt.detach() / 2
    return take(take(x, t, half)[1], t + half, half)[1]
