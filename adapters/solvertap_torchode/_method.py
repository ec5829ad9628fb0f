"""What is constant over the steps of a solve of torchode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torchode import step_size_controllers
from torchode.single_step_methods.runge_kutta import ButcherTableau, ERKInterpolationData, ExplicitRungeKutta

from solvertap.adapting import Stages, Tableau
from solvertap_torch.version import version_of

_read: WeakKeyDictionary[ButcherTableau, Tableau] = WeakKeyDictionary()


@dataclass(frozen=True)
class Method:
    """The constants of the steps. It holds no state.

    Attributes:
        tableau: None of a method that is no explicit Runge-Kutta method of torchode's.
        first_known: whether the first slope of a step is that of the last one.
        rtol, atol: None of a controller that has none.
        norm: maps a state to one number for each sample; None for the root mean square.
    """

    tableau: Tableau | None
    first_known: bool
    rtol: Any
    atol: Any
    norm: Any

    @classmethod
    def of(cls, method: Any, controller: Any) -> Method:
        """The constants of a method under a controller."""
        tableau = method.tableau if isinstance(method, ExplicitRungeKutta) else None
        norm = getattr(controller, "norm", None)
        norm = None if norm is step_size_controllers.rms_norm else norm
        rtol, atol = (_number(getattr(controller, name, None)) for name in ("rtol", "atol"))
        return cls(None if tableau is None else _tableau(tableau), bool(tableau and tableau.fsal), rtol, atol, norm)

    @property
    def stability_size(self) -> float | None:
        """As of `Step`."""
        return None if self.tableau is None else self.tableau.stability_size

    def stages(self, state: Any, data: Any, heard: list[Any]) -> Stages | None:
        """The slopes of one attempt.

        Args:
            state: of the method, before the attempt.
            data: what torchode interpolates by.
            heard: each slope that the term has returned during the attempt, and its version then.
        """
        if self.tableau is None or not isinstance(data, ERKInterpolationData):
            return None
        # runge_kutta.py::step collects the slopes in one tensor, whose graph goes through all of them for each of them.
        # What the field returned holds the same numbers, unless it was changed since or has another dtype.
        first = [state.prev_vf1] if self.first_known and state.prev_vf1 is not None else []
        slopes = [*first, *(slope for slope, _ in heard)]
        same = all(version_of(slope) == version for slope, version in heard) and all(
            slope.dtype == data.k.dtype and slope.shape == data.k.shape[1:] for slope in slopes
        )
        if len(slopes) == len(self.tableau.c) and same:
            return Stages(slopes=slopes, tableau=self.tableau)
        return Stages(slopes=data.k, tableau=self.tableau)


def _tableau(tableau: ButcherTableau) -> Tableau:
    known = _read.get(tableau)
    if known is None:
        rows = (tableau.c, tableau.b, tableau.a, tableau.b_err)
        c, b, a, e = (x.tolist() for x in rows)
        known = _read[tableau] = Tableau(c=c, b=b, a=a, e=e)
    return known


def _number(x: Any) -> Any:
    """A tolerance as a number, where reading it waits for no device."""
    on_host = isinstance(x, torch.Tensor) and x.numel() == 1 and x.device.type == "cpu" and not x.requires_grad
    return x.item() if on_host else x
