"""A field that is no function: it gives two answers at one place."""

from __future__ import annotations

from collections.abc import Sequence

from .verdict import Verdict


def field_noise(random_layers: Sequence[str]) -> Verdict | None:
    """Layers in training mode, whose answers change from evaluation to evaluation."""
    if not random_layers:
        return None
    names = " and ".join(random_layers)
    return Verdict(
        "field noise",
        f"The field has {names} in training mode: evaluated twice it gives two answers, or changes what it holds, and "
        "the solver takes the difference for an error.",
        "Put the layers into evaluation mode, leave them out of the field, or draw once for each solve.",
        1.0,
    )
