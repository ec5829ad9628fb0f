"""Terms that are a user's own functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from ..steps.arrays import Array
from ..steps.step import Step
from .step_term import Reduce, StepTerm


@dataclass(frozen=True, kw_only=True)
class FunctionTerm(StepTerm):
    """A user's own pure function of a step; see `term`.

    It equals another whose function is the same, or is the same code and closes over the same: a lambda that is written
    inside a function is another object each time, and would compile anew each time.
    """

    function: Callable[[Step], Array] = field(compare=False)
    meaning: object = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "meaning", _meaning(self.function))

    def __getstate__(self) -> dict[str, Any]:
        # The meaning has a code object, which is not pickled, and addresses, which mean nothing in another process.
        return {name: value for name, value in vars(self).items() if name != "meaning"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, meaning=_meaning(state["function"]))

    def measure(self, step: Step) -> Array:
        return self.function(step)


def _meaning(function: Any) -> object:
    """A key that is equal for two functions that compute the same; the function itself where that is not known."""
    if type(function) is not FunctionType or function.__dict__:
        return function
    try:
        closed = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell that is not filled yet
        return function
    given = (*closed, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return function.__code__, id(function.__globals__), *map(_Same, given)


class _Same:
    """Equal to another of the same number, text or object."""

    def __init__(self, x: object) -> None:
        self._x = x  # a reference, so that no other object gets its id
        plain = isinstance(x, int | float | complex | str | bytes | None)
        # 1 and 1.0 are equal, and give other dtypes; so are 0.0 and -0.0.
        self._key = (type(x), repr(x)) if plain else (type(x), id(x))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def term(
    function: Callable[[Step], Array],
    *,
    name: str,
    weigh_by_step: bool = False,
    reduce: Reduce = "sum",
    replay: bool = False,
) -> StepTerm:
    """A term of your own: a pure function of a `Step` that returns a `Float[Array, ""]`.

    Written with operators and the methods of `array_api_compat.array_namespace(step.y1)`, it runs in every
    framework. In JAX a term that equals none before it compiles anew. It equals another of the same function, or of one
    with the same code that closes over the same numbers, texts and objects; so a function that closes over an array is
    best made once, outside the training loop.

    Args:
        function: maps a step to a `Float[Array, ""]`. Rejected steps do not count; a traced loop calls it on them
            all the same, and drops what it gave.
        name: the key of `Observation.values`.
        weigh_by_step: multiply each value by |h|.
        reduce: "sum", "mean" or "max".
        replay: as of `StepTerm`.

    Raises:
        InvalidInputError: `reduce` is none of the three.
    """
    return FunctionTerm(name=name, function=function, weigh_by_step=weigh_by_step, reduce=reduce, replay=replay)
