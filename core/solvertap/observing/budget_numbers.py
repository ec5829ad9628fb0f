"""The arithmetic of a budget on scalars: NumPy's, or those of JAX where a step is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from array_api_compat import is_jax_array

from ..errors import InvalidInputError, NothingObservedError
from ..solves.stats import Stats
from ..steps.arrays import Array, array_namespace

_MUCH_WORSE = 0.5  # of the lowest loss
_GIVEN_BACK = 0.03  # of what the loss had fallen by; docs/mathematics.md has the two trainings that it lies between
_TINY = 1e-30  # in the place of a part of nothing


def count_of(stats: Stats, evaluations: bool) -> Any:
    """The steps that a solve attempted, or its evaluations: of the slowest sample of a batch, and at least one.

    Raises:
        InvalidInputError: the solver does not show them.
        NothingObservedError: there is no solve.
    """
    if isinstance(stats.solves, int) and not stats.solves:
        raise NothingObservedError(
            "`budget` was updated after a block that saw no solve; update it after one whose solves it weighs."
        )
    one, other = (stats.evaluations, stats.diffusion_evaluations) if evaluations else (stats.accepted, stats.rejected)
    if one is None or other is None:
        what = "evaluations" if evaluations else "steps"
        raise InvalidInputError(f"`budget` counts {what}, which the solver does not show; give another target.")
    per_solve = (one + other) / stats.solves
    if not hasattr(per_solve, "shape"):
        return max(per_solve, 1.0)
    xp = array_namespace(per_solve)
    return xp.clip(xp.max(per_solve), 1, None)


def squared_norms(by_loss: Sequence[Any], by_penalty: Sequence[Any]) -> tuple[Any, Any]:
    """The squared norms of two gradients, over those parameters that the second one depends on."""
    norms: list[Any] = [0.0, 0.0]
    for pair in zip(by_loss, by_penalty, strict=True):
        if pair[1] is None:
            continue
        xp = array_namespace(pair[1])
        its = xp.sum(xp.abs(pair[1]) ** 2)
        nothing = xp.zeros_like(its)
        mine = nothing if pair[0] is None else xp.sum(xp.abs(pair[0]) ** 2)
        norms = [norms[0] + xp.where(its > 0, mine, nothing), norms[1] + its]
    return norms[0], norms[1]


def log_ratio(above: Array, below: Array) -> tuple[Array, Array]:
    """Half the logarithm of the ratio of two squared norms, and whether they have one; zero where they have none."""
    xp = array_namespace(above)
    usable = xp.isfinite(above) & xp.isfinite(below) & (above > 0) & (below > 0)
    return (xp.log(xp.where(usable, above, 1)) - xp.log(xp.where(usable, below, 1))) / 2, usable


def is_harmed(loss: Array, best: Array, first: Array) -> Array:
    """Whether a loss is worse than its best by half, and has given back a notable part of what it had fallen by.

    Near zero a loss is worse by half for a while in many a training, and a weight that falls then makes nothing better.
    """
    xp = array_namespace(loss)
    return loss - best > xp.maximum(_MUCH_WORSE * xp.abs(best), _GIVEN_BACK * (first - best))


def nearness(loss: Array, best: Array, part: float) -> Array:
    """1 where a loss is at its best level, and 0 where it is a part of that level away from it."""
    xp = array_namespace(loss)
    return 1 - xp.abs(loss - best) / xp.maximum(part * xp.abs(best), _TINY)


def running_mean(n: Array, before: Array, now: Array, part: float) -> Array:
    """The running mean after n values and one more; n may be a truth, whether there were any."""
    return array_namespace(n).where(n > 0, before + part * (now - before), now)


def scalar_like(x: Any, like: Array, dtype: Any) -> Array:
    """A scalar as an array of JAX where another is one, else as a NumPy scalar, which waits for a device."""
    if not is_jax_array(like):
        import numpy as np

        return np.float64(x.item() if hasattr(x, "item") else x)  # a tensor with gradient warns of `float`
    xp = array_namespace(like)
    return xp.asarray(x, dtype=dtype)
