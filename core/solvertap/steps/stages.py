"""The stages of a step: the slopes that a method has evaluated anyway."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from ..errors import InvalidInputError
from .arithmetic import over_elements, square, where_finite
from .arrays import Array, State, parts, widened
from .tableau import Tableau


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stages:
    """The slopes of one step.

    Attributes:
        slopes: k_1 ... k_s, which carry gradient: a list of states, each `Inexact[Array, "*state"]` or a tuple of such,
            or one state whose arrays have them stacked, `Inexact[Array, "s *state"]`.
        tableau: where they were evaluated.
        unit: what the slopes are multiplied by, if anything (diffrax stores h k_i); not zero.
        product: contracts a row with the slopes of one part, in full precision, where a library has something better
            than one sum after another.
        contracted: the results of `contract` for some rows, where the slopes themselves were dropped.
        finite: whether every number is finite, where a solver may yet reject the step; see `guarded`.
    """

    slopes: list[State] | State
    tableau: Tableau
    unit: Any = 1.0
    product: Callable[[Sequence[float], Any], Array] | None = None
    contracted: Mapping[tuple[float, ...], State] | None = None
    finite: Array | None = None

    def slope(self, index: int) -> State:
        """The slope k_i of one stage."""
        return tuple(self._clean(k) / self.unit for k in self._stage(index))

    def step_between(self, first: int, last: int) -> State:
        """k_last - k_first, times `unit`."""
        pairs = zip(self._stage(last), self._stage(first), strict=True)
        return tuple(self._clean(a - b) for a, b in pairs)

    def contract(self, row: Sequence[float]) -> State:
        """sum_i row_i k_i, times `unit`.

        Raises:
            InvalidInputError: the slopes were dropped, and the row is not among the `contracted` ones.
        """
        if self.contracted is not None:
            return _found(row, self.contracted)
        # No matrix product: torch's autocast, TF32 and JAX's default precision compute it in fewer digits, and a
        # difference of neighbouring stages would be nothing but their rounding.
        weighted = [(i, x) for i, x in enumerate(row) if x]
        if [x for _, x in weighted] == [-1.0, 1.0]:
            return self.step_between(weighted[0][0], weighted[1][0])
        if self.product is not None and len(weighted) > 2:
            return tuple(self._clean(self.product(row, k)) for k in self._by_part())
        terms = [tuple(x * k for k in self._stage(i)) for i, x in weighted]
        return tuple(self._clean(reduce(operator.add, column)) for column in zip(*terms, strict=True))

    def mean_squares(self, stack_ndim: int = 0) -> list[Array]:
        """For each stage the sum of |k_i|^2 over the elements of all parts, times `unit` squared.

        The first `stack_ndim` axes are not reduced.
        """
        squares = [
            [over_elements("sum", square(self._clean(k)), stack_ndim) for k in self._stage(i)]
            for i in range(len(self.tableau.c))
        ]
        return [reduce(operator.add, row) for row in squares]

    def _by_part(self) -> list[Any]:
        if isinstance(self.slopes, list):
            columns = zip(*(parts(k) for k in self.slopes), strict=True)
            return [[widened(x) for x in column] for column in columns]
        return [widened(k) for k in parts(self.slopes)]

    def _stage(self, index: int) -> tuple[Array, ...]:
        if isinstance(self.slopes, list):
            return tuple(widened(k) for k in parts(self.slopes[index]))
        return tuple(widened(k[index, ...]) for k in parts(self.slopes))

    def _clean(self, x: Array) -> Array:
        # Everything before this is linear. What is cut here takes no gradient back, so that no 0 * inf arises.
        return x if self.finite is None else where_finite(self.finite, x, 0.0)


def _found(row: Sequence[float], contracted: Mapping[tuple[float, ...], State]) -> State:
    found = contracted.get(tuple(row))
    if found is None:
        raise InvalidInputError(
            "A term whose derivative is written out contracts the slopes by a row that its `rows` do not name. "
            "Name it there."
        )
    return found
