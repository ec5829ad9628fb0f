"""The tap on the `integrate` of solvers that users write on top of torchsde."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isfunction, unwrap
from typing import Any
from weakref import WeakSet

from torchsde._core import base_solver

from solvertap.adapting import Patches
from solvertap.errors import FixedStepError
from solvertap_torch.subclasses import all_subclasses, on_construction


class Subclasses:
    """Places the tap on existing classes, and on later ones when a solver of them is constructed."""

    def __init__(self, patches: Patches, integrate: Callable[[Any], Any]) -> None:
        self.patches = patches
        self._integrate = integrate
        self._known: WeakSet[type] = WeakSet()

    def attach(self) -> None:
        """Taps the existing classes, and prepares the tapping of later ones."""
        for cls in all_subclasses(base_solver.BaseSDESolver):
            self.see(cls)
        self.patches.replace(base_solver.BaseSDESolver, "__init__", on_construction(self.see))

    def see(self, cls: type) -> None:
        """Places the tap on the `integrate` of a class and of its bases."""
        if cls in self._known:
            return
        self._known.add(cls)
        for each in cls.__mro__:
            if not _is_builtin(each) and isfunction(vars(each).get("integrate")):
                self.patches.replace(each, "integrate", self._integrate)


def leads_to_steps(solver: Any) -> bool:
    """Whether the user's class calls `step`, or its base's `integrate`, in its own loop or in another method."""
    functions = _own_functions(solver)
    if "integrate" not in functions:
        return True
    return any({"step", "integrate"} & set(functions[name].__code__.co_names) for name in functions if name != "step")


def has_own_loop(solver: Any) -> bool:
    """Whether the user's class has an `integrate` of its own."""
    return "integrate" in _own_functions(solver)


def _own_functions(solver: Any) -> dict[str, Any]:
    own = [each for each in type(solver).__mro__ if not _is_builtin(each)]
    return {name: unwrap(x) for each in reversed(own) for name, x in vars(each).items() if isfunction(x)}


def unseen_steps(solver: Any) -> FixedStepError:
    """The refusal of a penalty for a solver whose steps cannot be seen."""
    return FixedStepError(
        f"A penalty was asked of `{type(solver).__name__}`, whose `integrate` takes steps in another way "
        "than torchsde does, so accepted steps cannot be seen. Inherit `BaseSDESolver.integrate`, or call "
        "`self.step` as it does: once whole and in two halves for each attempt. `observe()` without a term "
        "still counts."
    )


def _is_builtin(cls: type) -> bool:
    return cls is object or cls.__module__.partition(".")[0] == "torchsde"
