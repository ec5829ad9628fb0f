"""The field of an observed solve, and how one of its steps reads as a `Step`."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torchdiffeq._impl import misc

from solvertap import Coefficients, Solve, Stages, Step, Tableau, unobserved


class TappedField:
    """A solver's field while its solve is observed: counts evaluations, and holds what the taps exchange."""

    def __init__(self, field: Any, solve: Solve, solver: Any, undone: int = 0) -> None:
        self.field = field
        self.solve = solve
        self.solver = solver
        self.undone = undone  # `Patches.undone` when the solve began
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
        """The user's slope at the user's time, and before a jump there, as where the last stage is evaluated."""
        return self.sign * self(self.sign * t, y, perturb=misc.Perturb.PREV)

    def step(self, accepted: bool) -> Step:
        """The last attempt."""
        y0, t0, t1, y1, _, error, slopes = self.attempt
        method: Any = type(self.solver)
        tableau, coefficients, stability_size = _known(method, y0.dtype, y0.device)
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
            stages=Stages(
                slopes=slopes,
                axis=-1,
                tableau=tableau,
                coefficients=coefficients,
                unit=self.sign,
            ),
            field=self.slope,
            stability_size=stability_size,
            accepted=accepted,
        )


def tableau_of(solver: Any) -> Tableau:
    """The tableau of a solver class."""
    # rk_common.py::_ButcherTableau: alpha leaves the first node out, beta the first row.
    rows = solver.tableau
    return Tableau(c=(0.0, *rows.alpha.tolist()), b=rows.c_sol.tolist(), a=((), *(row.tolist() for row in rows.beta)))


@cache
def _known(solver: Any, dtype: Any, device: Any) -> tuple[Tableau, Coefficients, float | None]:
    # Once for each method and device: a constant made at every step would be copied to the device at every step.
    tableau = tableau_of(solver)
    return tableau, tableau.coefficients(torch.empty((), dtype=dtype, device=device)), tableau.stability_size
