"""What is read from the traces of an observation."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidInputError, NothingObservedError
from ..explaining.places import Explanation, Places
from ..solves.listeners import traced
from ..solves.request import FORWARD_NAME
from ..solves.samples import summed
from ..solves.solve import Solve
from ..solves.trace import Trace


def refuse_untraced(wanted: bool | int) -> None:
    """Refuses to read a trace where none was requested."""
    if not wanted:
        raise InvalidInputError("No trace was kept; ask for it with `observe(..., trace=True)`.")


def trace_of(solves: Sequence[Solve]) -> Trace:
    """The trace of the one solve of a block; see `Observation.trace`."""
    solve, *others = solves
    if others:
        raise InvalidInputError(
            f"This block holds {len(others) + 1} solves; read the trace of one of them, as in "
            f"`[solve.trace for solve in seen.{'failed' if solve.abandoned else 'solves'}]`."
        )
    if solve.abandoned and not solve.attempted:
        raise NothingObservedError(
            "The solve failed before it had attempted a step, or in a compiled loop, whose steps are lost with "
            "it. Let it end without raising, as diffrax does with `throw=False`."
        )
    return solve.trace


def explanations_of(solves: Sequence[Solve]) -> list[Explanation]:
    """What limits the steps of these solves; see `Observation.explain`."""
    places = Places()
    for solve in solves:
        if solve.phase.name == "adjoint":
            places.add_backward(solve.place, summed(solve.stats, solve.adapter.to_numpy))
        elif solve.phase.name == FORWARD_NAME and solve.attempted:
            for each in traced(solve):
                places.add(each)
    return places.explain()
