"""The taps on solvers that users write on top of torchdiffeq."""

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

from ._shape import imported_steps, is_builtin, mentioned_names

Tap = Callable[[Callable[..., Any]], Callable[..., Any]]

# The package hides this module behind its function of the same name.
odeint_module: Any = import_module("torchdiffeq._impl.odeint")


class Subclasses:
    """Places the taps on existing classes, and on later ones when they first solve.

    Args:
        patches: records the taps, so that they can be removed.
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
        """Taps the existing classes, and prepares the tapping of later ones."""
        for base, _ in self._by_base[:2]:
            self._follow(base)
        self._follow(solvers.AdaptiveStepsizeODESolver)
        # odeint.py::odeint looks this function up as a module global, and the solver class by the name it returns.
        self.patches.replace(odeint_module, "_check_inputs", self._checked)

    def see(self, cls: type) -> None:
        """Places the taps on the methods that a class and its bases override."""
        if cls in self._known:
            return
        self._known.add(cls)
        if is_builtin(cls) or not cls.__dictoffset__:  # the taps set attributes of the solver
            return
        base, tap = next(pair for pair in self._by_base if issubclass(cls, pair[0]))
        for each in cls.__mro__:
            if is_builtin(each) or each is object:
                continue
            for name in ("integrate", "integrate_until_event"):
                if base is not object or issubclass(cls, solvers.AdaptiveStepsizeODESolver) or _is_solve(each, name):
                    self._replace(each, name, tap)
            if issubclass(cls, rk_common.RKAdaptiveStepsizeODESolver):
                self._replace(each, "_adaptive_step", self._attempt)
        for module, name in imported_steps(cls):
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
            if isinstance(solver, type):  # also one without a base class of torchdiffeq
                self.see(solver)
            return checked

        return _check_inputs


def _is_solve(cls: type, name: str) -> bool:
    """Whether this function solves itself, rather than by calling another solver."""
    function = vars(cls).get(name)
    return isfunction(function) and not mentioned_names(function) & {"odeint", "integrate", "integrate_until_event"}
