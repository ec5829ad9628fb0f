"""The constants of torchdiffeq's adaptive methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._C._functorch import maybe_current_level  # pyright: ignore[reportMissingImports]  # a compiled module
from torchdiffeq._impl import misc
from torchdiffeq._impl.odeint import SOLVERS

from solvertap.adapting import Tableau


@dataclass(frozen=True)
class Method:
    """The constants of one solver's steps. It holds no state, so a graph may hold it."""

    tableau: Tableau
    stability_size: float | None
    rtol: Any
    atol: Any
    norm: Any

    @classmethod
    def of(cls, solver: Any) -> Method:
        """The constants of an adaptive solver."""
        # The default norm is the core's own. Any other is the user's, or the mixed norm of a tuple state.
        norm = None if solver.norm is misc._rms_norm else solver.norm
        return cls.of_class(type(solver), solver.rtol, solver.atol, norm)

    @classmethod
    def of_class(cls, solver: Any, rtol: Any, atol: Any, norm: Any = None) -> Method:
        """The constants of a class of solvers."""
        return cls(*_known(solver), rtol, atol, norm)


def name_of(solver: Any) -> str:
    """The name of a solver's method in `odeint(method=...)`, with SciPy's name of it; else the name of its class."""
    kind = type(solver)
    for name, each in SOLVERS.items():
        if each is kind:
            return f"{name}({solver.solver})" if name == "scipy_solver" else name
    return kind.__name__


def tableau_of(solver: Any) -> Tableau:
    """The tableau of a solver class."""
    # rk_common.py::_ButcherTableau: alpha lacks the first node, beta the first row.
    rows = solver.tableau
    return Tableau(
        c=(0.0, *rows.alpha.tolist()),
        b=rows.c_sol.tolist(),
        a=((), *(row.tolist() for row in rows.beta)),
        e=rows.c_error.tolist(),
    )


_synchronised: set[str] = set()  # kinds of devices


def host_tolerances(solver: Any) -> tuple[Any, Any]:
    """The tolerances of a solver as numbers; unchanged if they are traced or have several elements.

    rk_common.py::RKAdaptiveStepsizeODESolver.__init__ has put them on the device of the state. Reading them
    synchronises with a GPU once in a process; torchdiffeq synchronises at every step.
    """
    rtol, atol = given = solver.rtol, solver.atol
    if maybe_current_level() is not None or not all(isinstance(x, torch.Tensor) and x.numel() == 1 for x in given):
        return given
    kind = rtol.device.type
    if kind in ("meta", *_synchronised) or any(x.requires_grad for x in given):
        return given
    if kind != "cpu":
        _synchronised.add(kind)
        return rtol.item(), atol.item()
    return rtol.numpy().item(), atol.numpy().item()


@cache
def _known(solver: Any) -> tuple[Tableau, float | None]:
    tableau = tableau_of(solver)
    return tableau, tableau.stability_size
