"""The attempts of a user's solver, and which of them lead to its new state."""

from __future__ import annotations

from typing import Any

from ._field import TappedField
from ._slope_log import Attempt


def settle_last(field: TappedField) -> None:
    """Settles the last attempt of the solver's own loop, which ends only after an accepted step."""
    if field.attempt:
        field.settle(accepted=True)


def settle_path(field: TappedField, state: Any, moved: bool) -> bool:
    """Settles the attempts of one step of a user's solver; those that lead to its result are accepted.

    Args:
        state: the result.
        moved: whether the step has changed the state.

    Returns:
        Whether any attempt was seen.
    """
    if field.detached:  # the step function is no longer tapped
        field.solve.abandon()
        return True
    if not field.attempt:
        return False
    attempts = [*field.earlier, Attempt(field.attempt, field.log.slopes, field.tableau)]
    field.earlier = []
    y, path = getattr(state, "y1", None), set()
    for n in reversed(range(len(attempts))):
        if attempts[n].inputs[4] is y:
            y = attempts[n].inputs[0]
            path.add(n)
    if moved and not path:  # the solver has changed or copied the attempt's result
        path = {len(attempts) - 1}
    for n, attempt in enumerate(attempts):
        field.attempt, field.log.slopes, field.tableau = attempt
        field.settle(accepted=moved and n in path)
    return True
