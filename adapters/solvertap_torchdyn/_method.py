"""What is known of torchdyn's methods."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torchdyn.numerics.solvers import ode

from solvertap.adapting import Tableau

ADJOINT = 'sensitivity="adjoint"', 'sensitivity="autograd"', "or, of a `NeuralODE`, call `trajectory`"
"""The option whose backward pass solves an adjoint, and what to use instead."""

_KNOWN = (ode.DormandPrince45, ode.Tsitouras45)


def class_of(solver: Any) -> Any:
    """The class of a solver that was given by name or as an object; None if no method has that name."""
    return ode.SOLVER_DICT.get(solver) if isinstance(solver, str) else type(solver)


def name_of(solver: Any) -> str:
    """The first name of a solver's method in `odeint(solver=...)`; else the name of its class."""
    kind = class_of(solver)
    names = [name for name, each in ode.SOLVER_DICT.items() if each is kind]
    return names[0] if names else str(getattr(kind, "__name__", solver))


def is_adaptive(solver: Any) -> bool:
    """Whether a solver chooses its step sizes."""
    kind = _stepping(class_of(solver)) if isinstance(solver, str) else getattr(solver, "stepping_class", "")
    return bool(kind == "adaptive")


@cache
def _stepping(kind: Any) -> str:
    return "" if kind is None else str(kind().stepping_class)  # set when a solver is made


@dataclass(frozen=True)
class Method:
    """The constants of one solver's steps."""

    tableau: Tableau
    last_rows: Any  # of the tableau, as torchdyn has them
    stability_size: float | None

    @classmethod
    def of(cls, solver: Any) -> Method | None:
        """The constants of a solver of torchdyn's own; None for a step of the user's, or a tableau that is trained."""
        if type(solver).step not in [kind.step for kind in _KNOWN] or "step" in vars(solver):
            return None
        c, a, b, e = solver.tableau
        if any(x.requires_grad for x in (c, *a, b, e)):
            return None
        # templates.py::sync_device_dtype gives it the dtype of the state, a complex one too.
        c, b, e, *a = (x.real for x in (c, b, e, *a))
        # _constants.py: c lacks the first node, a the first row, and b has the weight of the last slope, zero.
        rows = [row.tolist() for row in a]
        tableau = Tableau(c=(0.0, *c.tolist()), b=b.tolist(), a=((), *rows), e=e.tolist())
        return cls(tableau, a[-2:], tableau.stability_size)

    def used(self, dt: Any, y: Any) -> Tableau:
        """The tableau with the last two rows as a step has used them.

        utils.py::adapt_step multiplies the step size by factors in float32 of shape (1,), which makes it one. ode.py
        then rounds `dt * a[5][0]` to float32, also where the state is in float64. The states of the last two stages
        are close to each other, so that without the rounding their difference was wrong in the fifth digit.
        """
        if dt.ndim == 0 or torch.finfo(dt.dtype).bits >= torch.finfo(y.dtype).bits:
            return self.tableau
        rows = [((row.to(dt.dtype) * dt).double() / dt.double()).tolist() for row in self.last_rows]
        a = self.tableau.a
        assert a is not None
        return replace(self.tableau, a=(*a[:-2], *rows))
