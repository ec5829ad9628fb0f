"""Terms that are a user's own functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .state import Array
from .step import Step
from .terms import Reduce, StepTerm


@dataclass(frozen=True, kw_only=True)
class FunctionTerm(StepTerm):
    """A user's own pure function of a step; see `term`."""

    function: Callable[[Step], Array]

    def measure(self, step: Step) -> Array:
        return self.function(step)


def term(
    function: Callable[[Step], Array],
    *,
    name: str,
    weigh_by_step: bool = False,
    reduce: Reduce = "sum",
) -> StepTerm:
    """A term of your own: a pure function of a `Step` that returns a real scalar.

    Written with operators and the methods of `array_api_compat.array_namespace(step.y1)`, it runs in every
    framework. A term equals another only if it holds the same function object, so make it once, outside the
    training loop: in JAX every new one compiles anew.

    Args:
        function: maps a step to a scalar. Rejected steps do not count; a traced loop calls it on them all the same,
            and drops what it gave.
        name: the key of `Observation.values`.
        weigh_by_step: multiply each value by |h|.
        reduce: "sum", "mean" or "max".

    Raises:
        InvalidInputError: `reduce` is none of the three.
    """
    return FunctionTerm(name=name, function=function, weigh_by_step=weigh_by_step, reduce=reduce)
