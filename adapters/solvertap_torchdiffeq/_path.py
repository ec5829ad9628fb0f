"""The attempts of a solver of somebody's own, and which of them lead to the state that it keeps."""

from __future__ import annotations

from typing import Any

from ._field import TappedField
from ._slope_log import Attempt


def settle_last(field: TappedField) -> None:
    """Hands over what a loop of the solver's own has left: it ends only after an accepted step."""
    if field.attempt:
        field.settle(accepted=True)


def settle_path(field: TappedField, state: Any, moved: bool) -> bool:
    """Hands over the attempts of one step of a solver's own, some of which lead to its result.

    Args:
        state: the result.
        moved: whether it is another one than before.

    Returns:
        Whether it was seen what it attempted.
    """
    if field.missed:  # the step function was not ours any more
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
    if moved and not path:  # to a state that the solver has changed, or copied
        path = {len(attempts) - 1}
    for n, attempt in enumerate(attempts):
        field.attempt, field.log.slopes, field.tableau = attempt
        field.settle(accepted=moved and n in path)
    return True
