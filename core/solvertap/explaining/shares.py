"""One sample of a batch, or one part of a state, that makes the steps small for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .anatomy import Anatomy
from .verdict import Verdict, percent

if TYPE_CHECKING:
    from .anatomy import Column

_FEWER = 0.7  # of the steps: the error of the others may be a hundredth, and they would take most of the steps still


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


def shares_of(anatomy: Anatomy, squares: Column | None) -> Column | None:
    """The share of each group in the sum of E^2 over the accepted steps; None where it is not known.

    Args:
        anatomy: of the solve.
        squares: of it, those of the samples or of the parts.
    """
    known = _of_accepted(anatomy, squares)
    if known is None:
        return None
    shares: Column = known.sum(0) / known.sum()
    return shares


def _of_accepted(anatomy: Anatomy, squares: Column | None) -> Column | None:
    """The squares of the accepted steps in which there is an error, of which there have to be three."""
    import numpy as np

    if squares is None or squares.shape[1] < 2:
        return None
    squares = np.asarray(squares, dtype=float)[anatomy.accepted[: len(squares)]]
    squares = squares[squares.sum(1) > 0]
    return squares if len(squares) >= 3 and np.isfinite(squares).all() else None


def _one(anatomy: Anatomy, squares: Column | None, kind: str, remedy: str) -> Verdict | None:
    import numpy as np

    known = _of_accepted(anatomy, squares)
    if known is None:
        return None
    shares, (steps, groups) = known.sum(0) / known.sum(), known.shape
    worst = int(np.argmax(shares))
    if shares[worst] < max(0.5, min(0.9, 3 / groups)):
        return None
    fewer = ""
    if anatomy.facts.error_order is not None:
        # What the mean square of the others is, over that of all.
        rest = np.clip((1 - known[:, worst] / known.sum(1)) * groups / (groups - 1), 0, 1)
        alone = max(1, round(float(np.sum(rest ** (0.5 / anatomy.facts.error_order)))))
        if alone > _FEWER * steps:
            return None
        fewer = f"; the others alone would take about {alone} of these {steps} steps"
    return Verdict(
        f"one {kind}",
        f"{kind.capitalize()} {worst} of {groups} has {percent(shares[worst])} of the squared error{fewer}.",
        remedy,
        float(shares[worst]),
    )
