"""The constants of torchsde's methods: the drifts of an attempt, stability and order."""

from __future__ import annotations

from typing import Any

from solvertap.adapting import Stages, Tableau
from solvertap.errors import AlignError

# Every method begins a step with the drift at its start; an attempt returns the result of two half steps.
_HALVES = Tableau(c=(0.0, 0.5), b=(0.5, 0.5))

_DRIFT_STABILITY = {
    # For a drift alone, R(z) = 1 + z or 1 + z + z^2 / 2. ReversibleHeun is stable on no interval.
    "Euler": 2.0,
    "MilsteinIto": 2.0,
    "MilsteinStratonovich": 2.0,
    "EulerHeun": 2.0,
    "Heun": 2.0,
    "Midpoint": 2.0,
    "LogODEMidpoint": 2.0,
    "SRK": 2.0,
}
_SRI2_STABILITY = 2.512745  # SRK where the noise is not additive: R(z) = 1 + z + z^2 / 2 + z^3 / 6

_STRONG_ORDER = {
    # Guaranteed for any noise, as diffrax has them; torchsde assumes the noise type of the SDE.
    "Euler": 0.5,
    "EulerHeun": 0.5,
    "Heun": 0.5,
    "Midpoint": 0.5,
    "LogODEMidpoint": 0.5,
    "ReversibleHeun": 0.5,
    "MilsteinIto": 1.0,
    "MilsteinStratonovich": 1.0,
    "SRK": 1.5,
}


def method_of(solver: Any) -> str | None:
    """The name of the torchsde class whose `step` a solver uses; None if the user's class overrides `step`."""
    for cls in type(solver).__mro__:
        if cls.__module__.partition(".")[0] == "torchsde":
            return cls.__name__
        if "step" in vars(cls):
            return None
    return None


def stability_size(solver: Any, noise_type: str) -> float | None:
    """The stability size of an attempt, which returns two half steps, for a drift alone."""
    method = method_of(solver)
    size = None if method is None else _DRIFT_STABILITY.get(method)
    if method == "SRK" and noise_type != "additive":
        size = _SRI2_STABILITY
    return None if size is None else 2 * size


def error_order(solver: Any) -> float:
    """The order of a solver's local error in the step size: its strong order plus a half.

    Raises:
        AlignError: the order is unknown.
    """
    order = _STRONG_ORDER.get(method_of(solver) or "", getattr(solver, "strong_order", None))
    if not isinstance(order, (int, float)):
        raise AlignError(
            f"`observe(align=True)` was asked of `{type(solver).__name__}`, whose order is unknown. Give its "
            "class a `strong_order`, use a method of torchsde's own, or leave it out."
        )
    return order + 0.5


def half_step_stages(first: Any, second: Any) -> Stages | None:
    """The drifts at the start of the two half steps as the stages of the attempt; None if unknown."""
    if first is None or second is None:
        return None
    return Stages(slopes=[first, second], tableau=_HALVES)
