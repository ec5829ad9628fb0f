"""The taps on torchsde.

torchsde doubles its steps: `BaseSDESolver.integrate` takes each step once whole and once in two halves, returns
the result of the halves, and estimates the error from the difference. Both results pass through `solver.step`, so one
tap on `integrate` is enough: for the length of a solve it stands between the loop and `solver.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from typing import Any

from torchsde._core import adaptive_stepping, adjoint, adjoint_sde, base_sde, base_solver
from torchsde._core.methods import reversible_heun

from solvertap import unobserved
from solvertap.adapting import Adapter, Patches, Solve, open_solve, require, require_parameters
from solvertap.errors import FixedStepError
from solvertap_torch.backward import refuse_without_gradient, tap_backward, with_graph
from solvertap_torch.random_layers import random_layers

from ._begun import pop_mark, tapped_init
from ._brownian import probe
from ._counting import FIELDS
from ._method import error_order
from ._reference_steps import with_reference_steps
from ._replay import Again, unreplayable
from ._subclasses import Subclasses, leads_to_steps, unseen_steps
from ._tap import Tap

_sdeint = import_module("torchsde._core.sdeint")  # the package has a function of that name


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places the taps. The files and functions named here are those of torchsde 0.2.6."""
    _probe()
    integrate = partial(_tapped, adapter)
    patches.replace(base_solver.BaseSDESolver, "integrate", integrate)
    Subclasses(patches, integrate).attach()
    patches.replace(_sdeint, "check_contract", _tapped_check)
    patches.replace(reversible_heun.ReversibleHeun, "init_extra_solver_state", tapped_init)
    tap_backward(patches, adjoint._SdeintAdjointMethod, "adjoint")


def _tapped_check(check_contract: Callable[..., Any]) -> Callable[..., Any]:
    """The look at what drift and diffusion return, before the solve; a solve that they make is part of them."""

    @wraps(check_contract)
    def checked(*args: Any, **kwargs: Any) -> Any:
        return unobserved().call(check_contract, *args, **kwargs)

    return checked


def _probe() -> None:
    require(_sdeint, "check_contract")
    require(base_solver.BaseSDESolver, "sde", "bm", "adaptive", "rtol", "atol")
    require(base_sde.ForwardSDE, *FIELDS, "_base_sde", "noise_type")
    require(adjoint_sde.AdjointSDE, "forward_sde")
    probe()
    require(adaptive_stepping, "compute_error", "update_step_size")
    require_parameters(base_solver.BaseSDESolver.integrate, "y0", "ts", "extra0")
    require_parameters(base_solver.BaseSDESolver.step, "t0", "t1", "y0", "extra0")


def _tapped(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(integrate)
    def tapped(self: Any, y0: Any, ts: Any, extra0: Any) -> Any:
        if (running := Tap.of(self)) is not None:  # called by a subclass's own `integrate`
            return _run(integrate, running)(self, y0, ts, extra0)
        solve = open_solve(adapter, like=y0)
        if solve is None:
            return integrate(self, y0, ts, extra0)
        solve.method = type(self).__name__
        if solve.trace_wanted:
            solve.random_layers = random_layers(self.sde)
        if solve.terms:
            _refuse(self, solve)
            if not leads_to_steps(self):
                solve.refuse(unseen_steps(self), sampled=True)
        if pop_mark(self):
            solve.counts.evaluations += 1
            solve.counts.diffusion_evaluations += 1
        again = None if solve.replay is None else Again(self, solve.replay.counts)
        with solve, Tap(self, solve, y0) as tap:
            if self.adaptive:
                solve.check_tolerances(self.rtol, self.atol, y0)
            if solve.extra_step is not None:
                solve.extra_step.begin(tap.restart, ts[-1])
            if again is not None and solve.replay is not None:
                solve.replay.begin(again, tuple(map(with_graph, (y0, *extra0))))
            result = _run(integrate, tap)(self, y0, ts, extra0)
            tap.settle(accepted=True)  # base_solver.py::integrate leaves its loop only after an accepted step
            tap.close()
            solve.finish()  # it may take an extra step
        return solve.through(result)

    return tapped


def _run(integrate: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    """The loop; under `align` torchsde's own loop with the reference steps."""
    if not (tap.solve.align and tap.solver.adaptive and integrate.__module__ == base_solver.__name__):
        return integrate
    tap.aligned = True
    return with_reference_steps(integrate, lambda: tap.attempt, error_order(tap.solver))


def _refuse(solver: Any, solve: Solve) -> None:
    if not solver.adaptive and not any(term.needs_step_doubling for term in solve.terms):
        solve.refuse(
            FixedStepError(
                "A penalty was asked of `sdeint(adaptive=False)`, the default, which estimates no error. Pass "
                '`adaptive=True`, or measure `LocalError(estimate="doubling")`. `observe()` without a term still '
                "counts."
            ),
            sampled=True,
        )
    refuse_without_gradient(solve, "sdeint_adjoint", "sdeint", unreplayable=unreplayable(solver))
