"""An attempt of torchdiffeq's adaptive methods as a `Step`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from solvertap import Step
from solvertap.adapting import Stages

from ._method import Method


def read_step(
    method: Method,
    sign: float,
    slope: Callable[[Any, Any], Any],
    attempt: tuple[Any, ...],
    stages: Stages,
    ratio: Any = None,
    accepted: bool = True,
) -> Step:
    """The step.

    Args:
        method: its constants.
        sign: of the user's time in the solver's.
        slope: the user's, at the user's time.
        attempt: y0, f0, t0, t1, and what `_runge_kutta_step` returned.
        stages: of the attempt.
        ratio: `Step.error_ratio`.
        accepted: whether the attempt was.
    """
    y0, _, t0, t1, y1, _, error, _ = attempt
    if sign != 1 or t0.requires_grad or t1.requires_grad:
        t0, t1 = sign * t0.detach(), sign * t1.detach()
    return Step(
        t0=t0,
        t1=t1,
        y0=y0,
        y1=y1,
        error=error,
        error_ratio=ratio,
        rtol=method.rtol,
        atol=method.atol,
        norm=method.norm,
        stages=stages,
        field=slope,
        stability_size=method.stability_size,
        accepted=accepted,
    )
