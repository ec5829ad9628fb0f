"""Accepted steps of torchdiffeq, taken again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torchdiffeq._impl import misc

from solvertap import Step
from solvertap.adapting import Stages

from ._counted import CountedField
from ._method import Method
from ._read import read_step


class Again:
    """Takes the steps of an adaptive method again, by torchdiffeq's own `_runge_kutta_step`.

    What it keeps from step to step is the state, and the slope there, of which the first step has none.
    """

    def __init__(self, field: CountedField, method: Method, runge_kutta_step: Callable[..., Any], tableau: Any) -> None:
        self.field = field
        self.method = method
        self.runge_kutta_step = runge_kutta_step
        self.tableau = tableau

    def __call__(self, kept: Any, t0: Any, dt: Any, t1: Any, perturb: Any) -> tuple[Step, Any]:
        """The step of size dt, not t1 - t0, which is rounded. `perturb`: as its first slope is evaluated, if it is."""
        y0, *slope = kept
        field = self.field
        f0 = slope[0] if perturb is None else field(t0, y0, perturb=perturb)
        y1, f1, error, stack = self.runge_kutta_step(field, y0, f0, t0, dt, t1, tableau=self.tableau)
        stages = Stages(slopes=list(stack.unbind(-1)), tableau=self.method.tableau, unit=field.sign)
        attempt = (y0, f0, t0, t1, y1, f1, error, stack)
        step = read_step(self.method, field.sign, partial(slope_before, field), attempt, stages)
        return step, (y1, f1.clone())  # a view would keep the stack alive


def slope_before(field: CountedField, t: Any, y: Any) -> Any:
    """The user's slope at the user's time; at a jump, the slope before it."""
    return field.sign * field(field.sign * t, y, perturb=misc.Perturb.PREV)
