"""The field of an observed solve, and how one of its steps reads as a `Step`."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torchdiffeq._impl import misc

from solvertap import Solve, Stages, Step, end_gap, unobserved


class TappedField:
    """A solver's field while its solve is observed: counts evaluations, and holds what the taps exchange."""

    def __init__(self, field: Any, solve: Solve, solver: Any) -> None:
        self.field = field
        self.solve = solve
        self.solver = solver
        # misc.py::_check_inputs negates the field and its time for a solve backwards in time.
        self.sign = -1.0 if isinstance(getattr(field, "base_func", None), misc._ReverseFunc) else 1.0
        self.attempt: tuple[Any, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.solve.evaluations += 1
        with unobserved():
            return self.field(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)

    def slope(self, t: Any, y: Any) -> Any:
        """The user's slope at the user's time."""
        return self.sign * self(self.sign * t, y)

    def step(self, accepted: bool) -> Step:
        """The last attempt."""
        y0, t0, t1, y1, _, error, slopes = self.attempt
        method: Any = type(self.solver)
        gap = _end_gap(method, y0.dtype, y0.device)
        return Step(
            t0=self.sign * t0.detach(),
            t1=self.sign * t1.detach(),
            y0=y0,
            y1=y1,
            error=error,
            rtol=self.solver.rtol,
            atol=self.solver.atol,
            # The default norm is the core's own. Any other is the user's, or the mixed norm of a tuple state.
            norm=None if self.solver.norm is misc._rms_norm else self.solver.norm,
            stages=None if gap is None else Stages(slopes=slopes, end_gap=gap, axis=-1),
            field=self.slope,
            accepted=accepted,
        )


@cache
def _end_gap(solver: Any, dtype: Any, device: Any) -> Any:
    # Once for each method and device: a constant made at every step would be copied to the device at every step.
    tableau = solver.tableau
    gap = end_gap((0.0, *tableau.alpha.tolist()), ((), *(row.tolist() for row in tableau.beta)))
    return None if gap is None else torch.tensor(gap, dtype=dtype, device=device)
