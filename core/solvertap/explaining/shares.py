"""One sample of a batch, or one part of a state, that makes the steps small for all."""

from __future__ import annotations

from .anatomy import Anatomy, Column
from .verdict import Verdict, percent


def one_sample(anatomy: Anatomy) -> Verdict | None:
    """A sample of the batch with most of E^2."""
    return _one(
        anatomy,
        anatomy.sample_squares,
        "sample",
        "Solve it apart or leave it out, or let every sample take steps of its own (torchode, `vmap` in JAX).",
    )


def one_part(anatomy: Anatomy) -> Verdict | None:
    """A part of the state with most of E^2."""
    return _one(
        anatomy,
        anatomy.part_squares,
        "part",
        "Give it a tolerance of its own (`atol` as an array), scale it, or leave it out of the norm.",
    )


def _one(anatomy: Anatomy, squares: Column | None, kind: str, remedy: str) -> Verdict | None:
    import numpy as np

    if squares is None or squares.shape[1] < 2:
        return None
    squares, groups = squares[anatomy.accepted], squares.shape[1]
    total = squares.sum(1)
    squares, total = squares[total > 0], total[total > 0]
    if len(total) < 3 or not np.isfinite(total).all():
        return None
    shares = squares.sum(0) / total.sum()
    worst = int(np.argmax(shares))
    if shares[worst] < max(0.5, min(0.9, 3 / groups)):
        return None
    # What the mean square of the others is, over that of all.
    rest = np.clip((1 - squares[:, worst] / total) * groups / (groups - 1), 0, 1)
    fewer = ""
    if anatomy.facts.error_order is not None:
        steps = max(1, round(float(np.sum(rest ** (0.5 / anatomy.facts.error_order)))))
        fewer = f"; the others alone would take about {steps} of these {len(total)} steps"
    return Verdict(
        f"one {kind}",
        f"{kind.capitalize()} {worst} of {groups} has {percent(shares[worst])} of the squared error{fewer}.",
        remedy,
        float(shares[worst]),
    )
