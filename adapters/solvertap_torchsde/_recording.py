"""Where torchsde takes its steps, and how one of them reads as a `Step`.

torchsde doubles its steps: `BaseSDESolver.integrate` takes each step once whole and once in two halves, keeps
the halves and estimates the error from the difference. Both results pass through `solver.step`, so that one
tap on `integrate` is enough: for the length of a solve it stands between the loop and `solver.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torchsde._core import adaptive_stepping, adjoint, adjoint_sde, base_sde, base_solver
from torchsde._core.methods import reversible_heun

from solvertap import Adapter, Patches, Solve, Step, open_solve, require, require_parameters, unobserved
from solvertap.errors import FixedStepError
from solvertap_torch.backward import refuse_without_gradient, tap_backward

from ._method import half_step_stages, stability_size
from ._reference import with_reference_steps

_FIELDS = {
    # base_sde.py::ForwardSDE: what each of the user's methods evaluates: (drift, diffusion).
    "f": (1, 0),
    "g": (0, 1),
    "f_and_g": (1, 1),
    "g_prod": (0, 1),
    "f_and_g_prod": (1, 1),
}

_BEGUN = "_solvertap_begun"


def attach(adapter: Adapter, patches: Patches) -> None:
    """Places the taps. The files and functions named here are those of torchsde 0.2.6."""
    _probe()
    patches.replace(base_solver.BaseSDESolver, "integrate", lambda original: _tapped(adapter, original))
    patches.replace(reversible_heun.ReversibleHeun, "init_extra_solver_state", _tapped_init)
    tap_backward(patches, adjoint._SdeintAdjointMethod, "adjoint")


def _probe() -> None:
    require(base_solver.BaseSDESolver, "sde", "bm", "adaptive", "rtol", "atol")
    require(base_sde.ForwardSDE, *_FIELDS, "_base_sde", "noise_type")
    require(adjoint_sde.AdjointSDE, "forward_sde")
    require(adaptive_stepping, "compute_error", "update_step_size")
    require_parameters(base_solver.BaseSDESolver.integrate, "y0", "ts", "extra0")
    require_parameters(base_solver.BaseSDESolver.step, "t0", "t1", "y0", "extra0")


def _tapped(adapter: Adapter, integrate: Callable[..., Any]) -> Callable[..., Any]:
    def tapped(self: Any, y0: Any, ts: Any, extra0: Any) -> Any:
        solve = open_solve(adapter, like=y0)
        if solve is None:
            return integrate(self, y0, ts, extra0)
        if solve.fold.terms:
            _refuse(self, solve)
        if vars(self).pop(_BEGUN, False):
            solve.evaluations += 1
            solve.diffusion_evaluations += 1
        with solve, Tap(self, solve) as tap:
            run = with_reference_steps(integrate, tap) if solve.align and self.adaptive else integrate
            result = run(self, y0, ts, extra0)
            tap.settle(accepted=True)  # base_solver.py::integrate leaves its loop only after an accepted step
            return result

    return tapped


def _tapped_init(init: Callable[..., Any]) -> Callable[..., Any]:
    def init_extra_solver_state(self: Any, t0: Any, y0: Any) -> Any:
        # sdeint.py calls it before the solve begins; it evaluates drift and diffusion once.
        vars(self)[_BEGUN] = True
        return init(self, t0, y0)

    return init_extra_solver_state


class Tap:
    """Stands between the loop of one solve and its solver, and gives both back as they were."""

    def __init__(self, solver: Any, solve: Solve) -> None:
        self.solver = solver
        self.solve = solve
        self.sde = solver.sde
        while isinstance(self.sde, adjoint_sde.AdjointSDE):  # which evaluates the user's through it
            self.sde = self.sde.forward_sde
        self.take_step = solver.step
        self.calls = 0
        self.results: list[Any] = []
        self.drift: Any = None
        self.drifts: list[Any] = []
        self.pending: Step | None = None
        self.shadows = ExitStack()

    def __enter__(self) -> Tap:
        sde = self.sde
        self._shadow(self.solver, "step", self.step if self.solver.adaptive else self.fixed_step)
        for name, (drift, diffusion) in _FIELDS.items():
            method = getattr(sde, name)
            # A default of ForwardSDE goes through the user's methods, which count for themselves.
            if getattr(method, "__self__", None) is not sde:
                self._shadow(sde, name, self._counted(method, drift, diffusion))
        return self

    def __exit__(self, *_: object) -> None:
        self.shadows.close()

    def step(self, t0: Any, t1: Any, y0: Any, extra0: Any) -> Any:
        """One of the three calls of an attempt: the whole step, then the two halves."""
        if self.calls % 3 == 0:
            # An attempt that starts from the result of the last one tells that it was accepted.
            self.settle(accepted=self.pending is not None and y0 is self.pending.y1)
            self.results, self.drifts = [t0, t1, y0], []
        self.calls += 1
        # Of the methods, reversible Heun alone keeps something from step to step: the drift it starts from.
        self.drift = extra0[0] if extra0 else None
        result = self.take_step(t0, t1, y0, extra0)
        self.results.append(result[0])
        self.drifts.append(self.drift)
        if self.calls % 3 == 0:
            start, end, y0, whole, _, halves = self.results
            self.pending = Step(
                t0=start,
                t1=end,
                y0=y0,
                y1=halves,
                y1_embedded=whole,
                rtol=self.solver.rtol,
                atol=self.solver.atol,
                stages=half_step_stages(self.drifts[0], self.drifts[2]) if self.solve.measured else None,
                field=self._drift,
                stability_size=stability_size(type(self.solver).__name__, self.sde.noise_type),
            )
        return result

    @property
    def attempt(self) -> Step:
        """The attempt that has just been made."""
        assert self.pending is not None
        return self.pending

    def fixed_step(self, t0: Any, t1: Any, y0: Any, extra0: Any) -> Any:
        result = self.take_step(t0, t1, y0, extra0)
        self.solve.step(Step(t0=t0, t1=t1, y0=y0, y1=result[0]))
        return result

    def settle(self, accepted: bool) -> None:
        """Hands the last attempt over, now that it is known whether it was accepted."""
        if self.pending is not None:
            self.solve.step(replace(self.pending, accepted=accepted))
            self.pending = None

    def _drift(self, t: Any, y: Any) -> Any:
        sde = self.sde
        if hasattr(sde._base_sde, "f"):
            return sde.f(t, y)
        if hasattr(sde._base_sde, "f_and_g"):
            return sde.f_and_g(t, y)[0]
        return sde.f_and_g_prod(t, y, y.new_zeros(self.solver.bm.shape))[0]

    def _shadow(self, owner: Any, name: str, value: Any) -> None:
        # Past `nn.Module.__setattr__`, which would refuse a function where a drift is itself a module.
        attributes = vars(owner)
        if name in attributes:
            self.shadows.callback(attributes.__setitem__, name, attributes[name])
        else:
            self.shadows.callback(attributes.pop, name)
        attributes[name] = value

    def _counted(self, method: Callable[..., Any], drift: int, diffusion: int) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.solve.evaluations += drift
            self.solve.diffusion_evaluations += diffusion
            with unobserved():
                result = method(*args)
            if drift and self.drift is None:
                self.drift = result[0] if isinstance(result, tuple) else result
            return result

        return counted


def _refuse(solver: Any, solve: Solve) -> None:
    if not solver.adaptive:
        solve.abandon()
        raise FixedStepError(
            "A penalty was asked of `sdeint(adaptive=False)`, the default, which estimates no error; pass "
            "`adaptive=True`, or use `observe()` without a term for counts."
        )
    refuse_without_gradient(solve, "sdeint_adjoint", "sdeint")
