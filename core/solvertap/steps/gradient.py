"""The derivative of a measure, as a framework uses it.

A framework that records the operations of a measure keeps what each of them needs, and goes back through them one by
one. With the derivative written out, it keeps only the states and slopes that it has anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .arithmetic import where_finite
from .arrays import Array, State, array_namespace, parts
from .step import Step


class Gradient(NamedTuple):
    """The derivative of a measure by each array of a step; None where it does not depend on them.

    Of a complex array x it is d/dRe(x) + i d/dIm(x). Of several steps together it is that of each measure by its own
    step.

    Attributes:
        y0, y1, error, y1_embedded: in the form of the attributes of `Step`; parts in half precision are single here.
        rows: triples of a row, a state x and a factor c, a number or one for each step: the derivative by
            `Stages.contract(row)` is c x, that by k_i is row_i c x.
    """

    y0: State | None = None
    y1: State | None = None
    error: State | None = None
    y1_embedded: State | None = None
    rows: tuple[tuple[Sequence[float], State, Array], ...] = ()


def settled(step: Step, size: Array) -> Callable[[Array], Array]:
    """A function that replaces the entries of attempts whose measure is not finite by zeros."""
    # Of an accepted step a NaN is the truth. Of an attempt it would come back as 0 * NaN, though the step is rejected.
    if step.accepted is True:
        return lambda x: x
    finite = array_namespace(size).isfinite(size)
    return lambda x: where_finite(finite, x, 0.0)


def _elements(step: Step) -> int:
    return sum(math.prod(x.shape[step.stack_ndim :]) for x in parts(step.y1))
