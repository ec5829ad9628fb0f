"""Attempts of torchsde as `Step`s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from solvertap import Step

from ._method import half_step_stages, stability_size


def adaptive_step(
    solver: Any,
    noise_type: str,
    attempt: Sequence[Any],
    drifts: Sequence[Any] | None,
    field: Callable[[Any, Any], Any],
) -> Step:
    """An attempt of base_solver.py::integrate, which returns the result of two half steps.

    Args:
        solver, noise_type: the solver, and the noise type of its SDE.
        attempt: t0, t1, y0, the result of the whole step, that of the first half, and that of both halves.
        drifts: the first drift of each of the three; None if no term needs them.
        field: the drift.
    """
    t0, t1, y0, whole, _, halves = attempt
    return Step(
        t0=t0,
        t1=t1,
        y0=y0,
        y1=halves,
        y1_embedded=whole,
        doubled=True,
        rtol=solver.rtol,
        atol=solver.atol,
        stages=None if drifts is None else half_step_stages(drifts[0], drifts[2]),
        field=field,
        stability_size=stability_size(solver, noise_type),
    )


def fixed_step(solver: Any, t0: Any, t1: Any, y0: Any, y1: Any, halves: Any) -> Step:
    """A step of fixed size, and the result of its two half steps, if they were taken."""
    tolerances = {"rtol": solver.rtol, "atol": solver.atol}
    return Step(t0=t0, t1=t1, y0=y0, y1=y1, y1_embedded=halves, doubled=halves is not None, **tolerances)
