"""torchdiffeq's fixed-grid methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from torchdiffeq._impl import fixed_adams, fixed_grid

from solvertap import Step, unobserved
from solvertap.adapting import Adapter, Solve, open_solve
from solvertap.errors import CheckpointError, FixedStepError
from solvertap_torch.backward import refuse_without_gradient, with_graph
from solvertap_torch.exchanged import exchanged
from solvertap_torch.memory import Memory

from ._counted import CountedField, divide
from ._field import TappedField
from ._loop import refuse_unseen_steps
from ._method import name_of
from ._shape import Shape


def tapped_grid(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    """The solve of a fixed-grid method: its steps are counted, and doubled if a term needs it."""

    @wraps(integrate)
    def tapped(self: Any, *args: Any) -> Any:
        if type(self.func) is TappedField:  # called by a subclass's own `integrate`
            return integrate(self, *args)
        solve = open_solve(adapter, like=self.y0)
        if solve is None:
            return integrate(self, *args)
        solve.method = name_of(self)
        if not Shape.of(type(self)).seen:
            refuse_unseen_steps(self, solve)
        _refuse(self, solve)
        divide(solve, self.func, self.y0)
        field, step_func = TappedField(self.func, solve, self.y0), self._step_func
        if solve.extra_step is not None:
            restart = partial(_restarted, step_func, CountedField(self.func, solve.counts))
            times, *event = args
            solve.extra_step.begin(restart, None if event else field.sign * times[-1].detach())
        if solve.replay is not None:
            again = _Again(step_func, CountedField(self.func, solve.replay.counts))
            solve.replay.begin(again, (with_graph(self.y0),))
        steps = _CountedSteps(self, step_func, solve)
        with solve, exchanged(self, func=field, _step_func=steps), unobserved():
            result = integrate(self, *args)
            if not steps.taken and solve.counts.evaluations:
                refuse_unseen_steps(self, solve)
                solve.closed = True
        return solve.through(result)

    return tapped


def _refuse(solver: Any, solve: Solve) -> None:
    memory = _has_memory(solver)
    if any(term.needs_step_doubling for term in solve.terms) and not memory:
        refuse_without_gradient(solve, "odeint_adjoint", "odeint")
    elif solve.terms:
        solve.refuse(_with_memory(solver) if memory else _without_estimate(solver), sampled=True)
    if solve.checkpoint and memory:
        _refuse_checkpoint(solver, solve)


def _has_memory(solver: Any) -> bool | None:
    """Whether its steps build on earlier ones; None if only a step will show."""
    if isinstance(solver, fixed_adams.AdamsBashforthMoulton):
        return True
    step = next((cls for cls in type(solver).__mro__ if "_step_func" in vars(cls)), None)
    return False if step is None or step.__module__ == fixed_grid.__name__ else None


def _without_estimate(solver: Any) -> FixedStepError:
    return FixedStepError(
        f"A penalty was asked of torchdiffeq's `{type(solver).__name__}`, which estimates no error of its "
        'own. Use an adaptive method such as `method="dopri5"`, or measure '
        '`LocalError(estimate="doubling", scale="raw")`. `observe()` without a term still counts.'
    )


def _with_memory(solver: Any, attribute: str = "") -> FixedStepError:
    return FixedStepError(
        f"A penalty was asked of torchdiffeq's `{type(solver).__name__}`, whose steps build on earlier "
        f"ones{attribute and f' (`{attribute}`)'}, so none can be taken in halves. Use an adaptive method "
        'such as `method="dopri5"`, or a one-step method such as `method="rk4"` with '
        '`LocalError(estimate="doubling", scale="raw")`. `observe()` without a term still counts.'
    )


def _refuse_checkpoint(solver: Any, solve: Solve) -> None:
    solve.abandon()
    raise CheckpointError(
        f"`observe(checkpoint=True)` was asked of torchdiffeq's `{type(solver).__name__}`, whose steps "
        'build on earlier ones and cannot be recomputed. Use a one-step method such as `method="rk4"`, or '
        "leave it out."
    )


class _CountedSteps:
    """Replaces the `_step_func` of one solve."""

    def __init__(self, solver: Any, step_func: Callable[..., Any], solve: Solve) -> None:
        self.step_func = step_func
        self.solve = solve
        self.taken = False
        again = solve.extra_step is not None or solve.replay is not None or solve.checkpoint
        self.unsure = (solve.fold.needs_step_doubling or again) and _has_memory(solver) is None
        self.solver = solver

    def __call__(self, func: Any, t0: Any, dt: Any, t1: Any, y0: Any) -> Any:
        if type(func) is not TappedField:
            return self.step_func(func, t0, dt, t1, y0)
        self.taken = True
        take = partial(func.recomputed, self.step_func)
        dy, f0 = self._first(take, t0, dt, t1, y0) if self.unsure else take(t0, dt, t1, y0)
        halves = None
        if self.solve.fold.needs_step_doubling:
            # Measuring must not advance the program's random numbers.
            with self.solve.adapter.untouched(y0), self.solve.counted_as_measuring():
                halves = _in_halves(take, t0, dt, t1, y0)
        if self.solve.replay is not None:
            self.solve.replay.note(t0, dt, t1)
        self.solve.step(_fixed_step(func.sign, t0, t1, y0, y0 + dy, halves))
        return dy, f0

    def _first(self, take: Callable[..., Any], *inputs: Any) -> Any:
        """The first step of an unknown method, which shows whether its steps build on earlier ones."""
        self.unsure = False
        memory = Memory(self.solver, "torchdiffeq")
        result = take(*inputs)
        attribute = memory.found(self.solver)
        if attribute is not None and self.solve.checkpoint:
            _refuse_checkpoint(self.solver, self.solve)
        if attribute is not None:
            self.solve.refuse(_with_memory(self.solver, attribute), sampled=True)
        return result


def _restarted(step_func: Callable[..., Any], field: CountedField, t0: Any, y0: Any, t1: Any) -> Step:
    t0, t1 = field.sign * t0, field.sign * t1
    take = partial(step_func, field)
    dy, _ = take(t0, t1 - t0, t1, y0)
    return _fixed_step(field.sign, t0, t1, y0, y0 + dy, _in_halves(take, t0, t1 - t0, t1, y0))


class _Again:
    """Takes the steps of a fixed grid again, also in halves."""

    def __init__(self, step_func: Callable[..., Any], field: CountedField) -> None:
        self.step_func = step_func
        self.field = field

    def __call__(self, kept: Any, t0: Any, dt: Any, t1: Any) -> tuple[Step, Any]:
        (y0,), take = kept, partial(self.step_func, self.field)
        dy, _ = take(t0, dt, t1, y0)
        step = _fixed_step(self.field.sign, t0, t1, y0, y0 + dy, _in_halves(take, t0, dt, t1, y0))
        return step, (step.y1,)


def _fixed_step(sign: float, t0: Any, t1: Any, y0: Any, y1: Any, halves: Any) -> Step:
    times = {"t0": sign * t0.detach(), "t1": sign * t1.detach()}
    return Step(**times, y0=y0, y1=y1, y1_embedded=halves, doubled=halves is not None)


def _in_halves(take: Callable[..., Any], *inputs: Any) -> Any:
    t0, dt, t1, y0 = inputs
    half, middle = dt / 2, (t0 + dt / 2).detach()
    half = half.detach() if hasattr(half, "detach") else half  # solvers.py: a number, except in an event's solve
    dy, _ = take(t0.detach(), half, middle, y0)
    y = y0 + dy
    dy, _ = take(middle, half, t1.detach(), y)
    return y + dy
