"""Counts the evaluations of an SDE by a solver of torchsde."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torchsde._core import adjoint_sde, base_sde

from solvertap import unobserved
from solvertap.adapting import Counts

FIELDS = {
    # base_sde.py::ForwardSDE: evaluations in each of the user's methods: (drift, diffusion).
    "f": (1, 0),
    "g": (0, 1),
    "f_and_g": (1, 1),
    "g_prod": (0, 1),
    "f_and_g_prod": (1, 1),
}


class EvaluationCounter:
    """Stands between a solver and its SDE for the length of a block: counts evaluations and notes the first drift.

    The counts are those of a solve, or of the recomputation in a backward pass.
    """

    def __init__(self, solver: Any, counts: Counts) -> None:
        self.solver = solver
        self.counts = counts
        self.sde = solver.sde
        while isinstance(self.sde, adjoint_sde.AdjointSDE):  # it evaluates the user's SDE through this
            self.sde = self.sde.forward_sde
        self.first_drift: Any = None
        self._start: Any = None  # the state in which a step begins
        self._shadows = ExitStack()

    def __enter__(self) -> EvaluationCounter:
        try:
            self._shadows.enter_context(unobserved())  # a solve inside the SDE is part of the SDE
            self._shadow_fields()
        except BaseException:  # an interrupt
            self._shadows.close()
            raise
        return self

    def _shadow_fields(self) -> None:
        for name, (drift, diffusion) in FIELDS.items():
            method = getattr(self.sde, name, None)  # an SDE that is no ForwardSDE lacks some
            method = getattr(method, "uncounted", method)  # a step may be recomputed during the solve
            if method is not None and not self._is_default(method):
                self.shadow(self.sde, name, self._counted(method, drift, diffusion))

    def __exit__(self, *_: object) -> None:
        self._shadows.close()

    def shadow(self, owner: Any, name: str, value: Any) -> None:
        """Replaces an attribute until the block ends."""
        # Not by `nn.Module.__setattr__`, which refuses a function in place of a drift that is a module.
        attributes = vars(owner)
        if name in attributes:
            self._shadows.callback(attributes.__setitem__, name, attributes[name])
        else:
            self._shadows.callback(attributes.pop, name)
        attributes[name] = value

    def take(self, step: Callable[..., Any], t0: Any, t1: Any, y0: Any, *extra0: Any) -> tuple[Any, ...]:
        """A step of the solver: its first drift, its result, and the solver's extra state for the next step."""
        self._start = y0
        # Only reversible Heun has an extra state: the drift it starts from.
        self.first_drift = extra0[0] if extra0 else None
        y1, extra1 = step(t0, t1, y0, extra0)
        return self.first_drift, y1, *extra1

    def drift(self, t: Any, y: Any) -> Any:
        """The drift of the SDE."""
        sde = self.sde
        base = getattr(sde, "_base_sde", sde)
        if hasattr(base, "f"):
            return sde.f(t, y)
        if hasattr(base, "f_and_g"):
            return sde.f_and_g(t, y)[0]
        return sde.f_and_g_prod(t, y, y.new_zeros(self.solver.bm.shape))[0]

    def _is_default(self, method: Any) -> bool:
        """Whether it is a default of ForwardSDE, which calls the user's methods; those are counted themselves."""
        function = getattr(method, "__func__", None)
        return getattr(method, "__self__", None) is self.sde and function in vars(base_sde.ForwardSDE).values()

    def _counted(self, method: Callable[..., Any], drift: int, diffusion: int) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.counts.evaluations += drift
            self.counts.diffusion_evaluations += diffusion
            result = method(*args)
            # A user's step may evaluate its first drift elsewhere.
            if drift and self.first_drift is None and len(args) > 1 and args[1] is self._start:
                self.first_drift = result[0] if isinstance(result, tuple) else result
            return result

        counted.uncounted = method  # type: ignore[attr-defined]
        return counted
