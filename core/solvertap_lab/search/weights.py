"""A method's text with other weights."""

from __future__ import annotations

from collections.abc import Sequence

from solvertap.errors import InvalidInputError

from ..problems.problem import Problem
from ..training.methods import choose_method, split_weight

RANGE = 1e-3, 1e3
"""By which the weight that a method has without a search is multiplied."""


def searched(texts: Sequence[str], problem: Problem) -> list[str]:
    """Those that have a weight to be found.

    Raises:
        InvalidInputError: none has, or the problem has no validation data.
    """
    found = [text for text in texts if choose_method(text, problem).starts]
    if not found:
        raise InvalidInputError(
            f"`--search` finds weights, and none of {', '.join(texts)} has one; give a `--method` that has, as in "
            "`local-error`, or leave `--search` out."
        )
    if problem.validation_batch() is None:
        raise InvalidInputError(
            f"`--search` chooses by the validation data, and {problem.name!r} has none; leave it out."
        )
    return found


def multiplied(text: str, factor: float, problem: Problem) -> str:
    """The method with its weight, given or its own, multiplied; three digits are kept."""
    name = split_weight(text)[0]
    method, unit = choose_method(text, problem), choose_method(f"{name}=1", problem)
    start, stop = method.starts[0] / unit.starts[0], method.stops[0] / unit.stops[0]
    weights = [f"{factor * weight:.3g}" for weight in ((start,) if start == stop else (start, stop))]
    return f"{name}={':'.join(weights)}"
