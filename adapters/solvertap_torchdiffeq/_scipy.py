"""SciPy's solvers, whose steps cannot be seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torchdiffeq._impl import dopri5, rk_common

from solvertap import unobserved
from solvertap.adapting import Adapter, Counts, ExtraStep, Solve, initial_step, open_solve
from solvertap.errors import AlignError, FixedStepError
from solvertap_torch.backward import refuse_without_gradient
from solvertap_torch.exchanged import exchanged

from ._counted import CountedField
from ._field import TappedField
from ._method import Method, name_of


def with_field(convert: Callable[..., Any]) -> Callable[..., Any]:
    """The conversion of a field to NumPy, with the original field as an attribute."""

    def convert_func_to_numpy(func: Any, *args: Any) -> Any:
        converted = convert(func, *args)
        converted.solvertap_field = func
        return converted

    return convert_func_to_numpy


def tapped_closed(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    """The solve of SciPy's wrapper: counted, with an extra step for `LocalSample`."""

    @wraps(integrate)
    def tapped(self: Any, t: Any) -> Any:
        if isinstance(self.func, CountedField):  # called by a subclass's own `integrate`
            return integrate(self, t)
        solve = open_solve(adapter, like=self.y0)
        if solve is None:
            return integrate(self, t)
        solve.method = name_of(self)
        if solve.align:
            solve.abandon()
            raise AlignError(
                "`observe(align=True)` was asked of torchdiffeq's `ScipyWrapperODESolver`, whose steps cannot be "
                'seen. Use another method such as `method="dopri5"`, or leave it out.'
            )
        unseen = solve.extra_step is not None and "steps" in solve.extra_step.kinds
        if solve.fold.terms or unseen:
            solve.refuse(
                FixedStepError(
                    "A penalty was asked of torchdiffeq's `ScipyWrapperODESolver`, whose steps cannot be seen. Use "
                    'another method such as `method="dopri5"`, or `LocalSample(term, draw="uniform")`. `observe()` '
                    "without a term still counts."
                ),
                sampled=unseen,
            )
        refuse_without_gradient(solve, "odeint_adjoint", "odeint")
        solve.closed = True
        # The counts, not the solve: SciPy's solver holds the field in a cycle until the garbage collector runs.
        counted = Counts()
        with solve, exchanged(self, func=CountedField(self.func, counted)), unobserved():
            result = integrate(self, t)
            if solve.extra_step is not None and len(t) > 1:
                own = counted.evaluations
                # Measuring must not advance the program's random numbers.
                with adapter.untouched(None), solve.counted_as_measuring():
                    _sample_closed(self, solve, solve.extra_step, partial(integrate, self), t)
                solve.measuring.evaluations += counted.evaluations - own
                counted.evaluations = own
            solve.counts.evaluations += counted.evaluations
            solve.finish()
        return solve.through(result)

    return tapped


def _sample_closed(solver: Any, solve: Solve, extra_step: ExtraStep, integrate: Callable[[Any], Any], t: Any) -> None:
    """Begins an extra step of Dormand and Prince's method, as long as the first step of a solve that starts there.

    Pal23's code uses the same size. SciPy computes the state there in a separate solve.
    """
    t = t.detach()
    method = Method.of_class(dopri5.Dopri5Solver, solver.rtol, solver.atol)
    at = t[0] + extra_step.source.numbers(0, solver.y0) * (t[-1] - t[0])
    y = integrate(torch.stack([t[0], at]))[-1]
    field = TappedField(solver.func.solvertap_field, solve, y, method)
    with torch.no_grad():
        h = initial_step(CountedField(field.field, field.counts), at, y, 1.0, 5, solver.rtol, solver.atol)
    # Cast as in rk_common.py::RKAdaptiveStepsizeODESolver.__init__.
    rows = dopri5.Dopri5Solver.tableau
    alpha, c_sol, c_error = (x.to(y) for x in (rows.alpha, rows.c_sol, rows.c_error))
    tableau = rows._replace(alpha=alpha, beta=[x.to(y) for x in rows.beta], c_sol=c_sol, c_error=c_error)
    extra_step.begin(partial(field.restart, rk_common._runge_kutta_step, tableau), like=y)
    extra_step.start = field.sign * at, y, field.sign * torch.minimum(at + h, t[-1])
