"""Solvers that somebody has written on top of torchdiffeq: the taps on what they have made their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import isfunction
from typing import Any
from weakref import WeakSet

from torchdiffeq._impl import rk_common, scipy_wrapper, solvers

from solvertap.adapting import Patches
from solvertap_torch.subclasses import all_subclasses, on_construction

from ._shape import bare_steps, is_torchdiffeqs, mentioned

Tap = Callable[[Callable[..., Any]], Callable[..., Any]]

# The package hides this module behind its function of the same name.
odeint_module: Any = import_module("torchdiffeq._impl.odeint")


class Subclasses:
    """Places the taps on classes as they turn up: those there are, and from then on those that solve.

    Args:
        patches: where everything is given back.
        loop, grid, closed: around `integrate` and `integrate_until_event` of an adaptive method, of a fixed grid, of
            SciPy's wrapper; `loop` also around those of a class that inherits from none of the three.
        attempt: around `_adaptive_step`.
        step: around torchdiffeq's step function.
    """

    def __init__(self, patches: Patches, *, loop: Tap, grid: Tap, closed: Tap, attempt: Tap, step: Tap) -> None:
        self.patches = patches
        self._by_base = (
            (solvers.FixedGridODESolver, grid),
            (scipy_wrapper.ScipyWrapperODESolver, closed),
            (object, loop),
        )
        self._attempt = attempt
        self._step = step
        self._known: WeakSet[type] = WeakSet()

    def attach(self) -> None:
        """Sees the classes there are, and has those seen that solve from now on."""
        for base, _ in self._by_base[:2]:
            self._follow(base)
        self._follow(solvers.AdaptiveStepsizeODESolver)
        # odeint.py::odeint looks this up as a module global, and the class by the name that it gives back.
        self.patches.replace(odeint_module, "_check_inputs", self._checked)

    def see(self, cls: type) -> None:
        """Places the taps on what a class and those above it have made their own."""
        if cls in self._known:
            return
        self._known.add(cls)
        if is_torchdiffeqs(cls) or not cls.__dictoffset__:  # we note something on a solver
            return
        base, tap = next(pair for pair in self._by_base if issubclass(cls, pair[0]))
        for each in cls.__mro__:
            if is_torchdiffeqs(each) or each is object:
                continue
            for name in ("integrate", "integrate_until_event"):
                if base is not object or issubclass(cls, solvers.AdaptiveStepsizeODESolver) or _is_all(each, name):
                    self._replace(each, name, tap)
            if issubclass(cls, rk_common.RKAdaptiveStepsizeODESolver):
                self._replace(each, "_adaptive_step", self._attempt)
        for module, name in bare_steps(cls):
            self.patches.replace(module, name, self._step)

    def _replace(self, owner: type, name: str, tap: Tap) -> None:
        if isfunction(vars(owner).get(name)):
            self.patches.replace(owner, name, tap)

    def _follow(self, base: type) -> None:
        for cls in all_subclasses(base):
            self.see(cls)
        self.patches.replace(base, "__init__", on_construction(self.see))

    def _checked(self, check: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(check)
        def _check_inputs(*args: Any, **kwargs: Any) -> Any:
            checked = check(*args, **kwargs)
            method = checked[6]  # misc.py::_check_inputs: shapes, func, y0, t, rtol, atol, method, ...
            solver = odeint_module.SOLVERS.get(method) if isinstance(method, str) else method
            if isinstance(solver, type):  # one of no base of ours as well
                self.see(solver)
            return checked

        return _check_inputs


def _is_all(cls: type, name: str) -> bool:
    """Whether the solve is this function's own, and not that of another solver which it asks."""
    function = vars(cls).get(name)
    return isfunction(function) and not mentioned(function) & {"odeint", "integrate", "integrate_until_event"}
