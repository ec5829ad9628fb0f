"""The field of an observed solve, and how one of its steps reads as a `Step`."""

from __future__ import annotations

from functools import cache
from typing import Any

from torchdiffeq._impl import misc

from solvertap import Solve, Stages, Step, Tableau, unobserved


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
        self.heard: list[tuple[Any, int]] | None = None  # what it returns during an attempt, and in which version
        self.slopes: list[tuple[Any, int]] = []  # those of the last attempt

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.solve.evaluations += 1
        with unobserved():
            slope = self.field(*args, **kwargs)
        if self.heard is not None:
            self.heard.append((slope, slope._version))
        return slope

    def __getattr__(self, name: str) -> Any:
        return getattr(self.field, name)

    def slope(self, t: Any, y: Any) -> Any:
        """The user's slope at the user's time, and before a jump there, as where the last stage is evaluated."""
        return self.sign * self(self.sign * t, y, perturb=misc.Perturb.PREV)

    def begin(self, f0: Any) -> None:
        """An attempt begins, with the slope at its start."""
        if not self.solve.fold.terms:
            return
        first = f0, f0._version
        if self.attempt and f0 is self.attempt[1]:  # the last attempt was rejected
            first = self.slopes[0]
        elif self.attempt and f0 is self.attempt[5]:
            # It was accepted: this is the last slope of its stack. What the field returned is the same, and does not
            # keep the stack.
            first = self.slopes[-1]
        self.heard = [first]

    def end(self, y0: Any, f0: Any, t0: Any, t1: Any, result: Any) -> None:
        """An attempt ends; what the field is asked for after it is not of this step."""
        self.attempt = (y0, f0, t0, t1, *result)
        if self.heard is not None:
            self.slopes, self.heard = self.heard, None

    def step(self, accepted: bool) -> Step:
        """The last attempt."""
        y0, _, t0, t1, y1, _, error, stack = self.attempt
        t0, t1 = self._user_time(t0), self._user_time(t1)
        if not (self.solve.measured or self.solve.fold.heard_of):
            return Step(t0=t0, t1=t1, y0=y0, y1=y1, accepted=accepted)
        method: Any = type(self.solver)
        tableau, stability_size = _known(method)
        return Step(
            t0=t0,
            t1=t1,
            y0=y0,
            y1=y1,
            error=error,
            rtol=self.solver.rtol,
            atol=self.solver.atol,
            # The default norm is the core's own. Any other is the user's, or the mixed norm of a tuple state.
            norm=None if self.solver.norm is misc._rms_norm else self.solver.norm,
            stages=Stages(slopes=self._slopes(stack), tableau=tableau, unit=self.sign),
            field=self.slope,
            stability_size=stability_size,
            accepted=accepted,
        )

    def _slopes(self, stack: Any) -> list[Any]:
        # What the field returned is what torch keeps in most cases; the stack is what it would keep for us alone. They
        # differ where the field returns a buffer that it writes to again, or another shape or dtype than the state's.
        like = stack.dtype, stack.shape[:-1]
        whole = len(self.slopes) == stack.shape[-1]
        if whole and all((k.dtype, k.shape) == like and k._version == version for k, version in self.slopes):
            return [k for k, _ in self.slopes]
        return list(stack.unbind(-1))

    def _user_time(self, t: Any) -> Any:
        t = t.detach() if t.requires_grad else t
        return t if self.sign == 1 else self.sign * t


def tableau_of(solver: Any) -> Tableau:
    """The tableau of a solver class."""
    # rk_common.py::_ButcherTableau: alpha leaves the first node out, beta the first row.
    rows = solver.tableau
    return Tableau(
        c=(0.0, *rows.alpha.tolist()),
        b=rows.c_sol.tolist(),
        a=((), *(row.tolist() for row in rows.beta)),
        e=rows.c_error.tolist(),
    )


@cache
def _known(solver: Any) -> tuple[Tableau, float | None]:
    tableau = tableau_of(solver)
    return tableau, tableau.stability_size
