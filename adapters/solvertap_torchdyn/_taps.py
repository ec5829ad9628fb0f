"""The taps on torchdyn. The files and functions named here are those of torchdyn 1.0.6.

`odeint` is imported by name into other modules of torchdyn and by users, so its code is exchanged. It is handed a
`TappedField`; the loops that it calls, which it looks up as module globals, are tapped where they find one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from typing import Any

from torchdyn.numerics import sensitivity
from torchdyn.numerics.solvers import ode, templates

from solvertap.adapting import Adapter, Patches, require, require_parameters
from solvertap_torch import tapped_function

from ._adaptive import tapped_adaptive
from ._closed import tapped_closed
from ._fixed import tapped_fixed
from ._odeint import tapped_odeint

# The package hides this module behind its function of the same name.
odeint_module: Any = import_module("torchdyn.numerics.odeint")


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places every tap."""
    _probe()
    for name in ("odeint", "odeint_symplectic"):
        patches.replace_code(odeint_module, name, partial(tapped_odeint, adapter, patches))
    for name in ("odeint_hybrid", "odeint_mshooting"):
        patches.replace_code(odeint_module, name, partial(tapped_closed, adapter))
    patches.replace(odeint_module, "_adaptive_odeint", tapped_adaptive)
    patches.replace(odeint_module, "_fixed_odeint", tapped_fixed)
    # core/problems.py imports these by name. Each call makes an `autograd.Function` anew.
    for name in ("_gather_odefunc_adjoint", "_gather_odefunc_interp_adjoint"):
        patches.replace_code(sensitivity, name, _tapped_factory)


def _probe() -> None:
    first = ("f", "x", "t_span", "solver")
    require_parameters(odeint_module.odeint, *first, "atol", "rtol", "interpolator", "seminorm")
    require_parameters(odeint_module.odeint_symplectic, *first, "atol", "rtol")
    require_parameters(odeint_module.odeint_hybrid, *first)
    require_parameters(odeint_module.odeint_mshooting, *first)
    require_parameters(odeint_module._adaptive_odeint, "f", "k1", "x", "dt", "t_span", "solver", "seminorm")
    require_parameters(odeint_module._fixed_odeint, "f", "x", "t_span", "solver", "save_at", "args")
    require(ode, "SOLVER_DICT", "DormandPrince45", "Tsitouras45", "ImplicitEuler")
    require(templates.DiffEqSolver, "step", "tableau", "order", "safety", "min_factor", "max_factor", "stepping_class")
    require_parameters(templates.DiffEqSolver.step, "f", "x", "t", "dt", "k1", "args")


def _tapped_factory(gather: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(gather)
    def gathered(*args: Any) -> Any:
        return tapped_function(gather(*args), "adjoint")

    return gathered
