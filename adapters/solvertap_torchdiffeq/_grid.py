"""Steps that nothing adapts: torchdiffeq's fixed grids."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torchdiffeq._impl import fixed_grid

from solvertap import Adapter, Solve, Step, open_solve, unobserved
from solvertap.errors import CheckpointError, FixedStepError
from solvertap_torch.backward import refuse_without_gradient
from solvertap_torch.exchanged import exchanged

from ._counted import CountedField
from ._field import TappedField
from ._method import name_of


def tapped_grid(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    """The solve of a grid method, whose steps are counted and, where that is asked for, doubled."""

    def tapped(self: Any, *args: Any) -> Any:
        solve = open_solve(adapter, like=self.y0)
        if solve is None:
            return integrate(self, *args)
        solve.method = name_of(self)
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
        field, step_func = TappedField(self.func, solve, self.y0), self._step_func
        if solve.sampling is not None:
            restart = partial(_restarted, step_func, CountedField(self.func, solve))
            times, *event = args
            solve.sampling.begin(restart, None if event else field.sign * times[-1].detach())
        taps = exchanged(self, func=field, _step_func=_counted_step(step_func, solve))
        with solve, taps, unobserved():
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
        halves = None
        if solve.fold.doubles:
            with solve.counted_apart():
                halves = _in_halves(take, t0, dt, t1, y0)
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
