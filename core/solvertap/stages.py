"""The stages of a step: the slopes a method has evaluated anyway, and what its tableau says of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import pairwise
from typing import Any

from .errors import InvalidInputError
from .namespaces import array_namespace
from .safe import square, where_finite, widened
from .state import Array, State, parts

_A_STABLE = 100.0  # A method stable for all -100 <= h lambda < 0 is taken to be stable for every step.


@dataclass(frozen=True)
class Tableau:
    """Where a method evaluates its slopes, in the symbols of Butcher.

    Attributes:
        c: the nodes as fractions of the step, s of them, the first included.
        b: the weights of the solution, s of them.
        a: the rows of the stages, each with as many leading entries as it needs (a diagonal included); None
            where a stage is no combination of the slopes alone, such as one that saw noise.
        e: the weights of the error estimate y1 - ŷ1, s of them; None where it is no combination of the slopes alone,
            or nobody says.
    """

    c: Sequence[float]
    b: Sequence[float]
    a: Sequence[Sequence[float]] | None = None
    e: Sequence[float] | None = None

    def __post_init__(self) -> None:
        # Tuples of floats, so that a tableau hashes by its numbers whatever array they came in.
        stages = len(self.c)
        object.__setattr__(self, "c", tuple(float(x) for x in self.c))
        object.__setattr__(self, "b", tuple(float(x) for x in self.b))
        if self.a is not None:
            rows = tuple(tuple(float(x) for x in row) for row in self.a)
            object.__setattr__(self, "a", tuple(row + (0.0,) * (stages - len(row)) for row in rows))
        if self.e is not None:
            object.__setattr__(self, "e", tuple(float(x) for x in self.e))

    @cached_property
    def end_gaps(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The row of k_s - k_(s-1), and a_s - a_(s-1), if the last two stages stand at the end of the step.

        Contracted with the slopes they give the difference of two slopes at one time, and of their states over h,
        which is what a stiffness estimate needs, without rebuilding either state. None if the stages stand elsewhere.
        """
        if self.a is None or len(self.c) < 2 or self.c[-1] != 1 or self.c[-2] != 1:
            return None
        slopes = (*[0.0] * (len(self.c) - 2), -1.0, 1.0)
        return slopes, tuple(x - y for x, y in zip(self.a[-1], self.a[-2], strict=True))

    @cached_property
    def last_gap(self) -> tuple[float, ...] | None:
        """a_s - b, the last stage against the solution, if that stage stands at the end of the step."""
        if self.a is None or self.c[-1] != 1:
            return None
        return tuple(x - y for x, y in zip(self.a[-1], self.b, strict=True))

    @property
    def stiffness_evaluations(self) -> int:
        """Evaluations of the field that a stiffness estimate takes beyond the stages: 0, 1 or 2."""
        if self.end_gaps is not None:
            return 0
        return 2 if self.last_gap is None else 1

    @cached_property
    def mean_weights(self) -> tuple[float, ...]:
        """Weights for the mean over the step of something known at the nodes, by the trapezoidal rule.

        Never negative, as some of b are: what is not negative at the nodes has a mean that is not.
        """
        return _mean_weights(tuple(self.c))

    @cached_property
    def stability_size(self) -> float | None:
        """The largest x for which the method is stable on y' = -y with steps up to x; None if there is none.

        Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.2: |R(-x)| <= 1. It is what
        OrdinaryDiffEq.jl calls `alg_stability_size`. Explicit and diagonally implicit methods only.
        """
        return _stability_size(self)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stages:
    """The slopes of one step.

    Attributes:
        slopes: k_1 ... k_s, which carry gradient: a list of states, or one state whose arrays have them stacked
            along their first axis.
        tableau: where they were evaluated.
        unit: what the slopes are multiplied by, if anything (diffrax stores h k_i); not zero.
        product: contracts a row with slopes in the form of `slopes`, of one part, in full precision, where a library
            has something better than one sum after another.
        contracted: what `contract` is known to give of some rows, and all that is left of the slopes then.
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
            InvalidInputError: the slopes are gone, and the row is not among those that are `contracted`.
        """
        if self.contracted is not None:
            return _found(row, self.contracted)
        # Not by any matrix product: torch's autocast, TF32 and JAX's default precision compute those in fewer digits,
        # and what is left of a difference of neighbouring stages would be their rounding.
        weighted = [(i, x) for i, x in enumerate(row) if x]
        if [x for _, x in weighted] == [-1.0, 1.0]:
            return self.step_between(weighted[0][0], weighted[1][0])
        if self.product is not None and len(weighted) > 2:
            return tuple(self._clean(self.product(row, k)) for k in self._by_part())
        terms = [tuple(x * k for k in self._stage(i)) for i, x in weighted]
        return tuple(self._clean(reduce(operator.add, column)) for column in zip(*terms, strict=True))

    def mean_squares(self) -> list[Array]:
        """For each stage the sum of |k_i|^2 over the elements of all parts, times `unit` squared."""
        squares = [[_sum(square(self._clean(k))) for k in self._stage(i)] for i in range(len(self.tableau.c))]
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
        # Linear up to here: what is cut here takes no gradient back, and so no 0 * inf either.
        return x if self.finite is None else where_finite(self.finite, x, 0.0)


def _found(row: Sequence[float], contracted: Mapping[tuple[float, ...], State]) -> State:
    found = contracted.get(tuple(row))
    if found is None:
        raise InvalidInputError(
            "A term whose derivative is written out contracts the slopes by a row that its `rows` do not name; name it "
            "there."
        )
    return found


def _sum(x: Array) -> Array:
    return array_namespace(x).sum(x)


@cache
def _mean_weights(c: tuple[float, ...]) -> tuple[float, ...]:
    """The integrals over [0, 1] of the hats at the nodes, the first and the last going on level."""
    knots = sorted(set(c))
    integral = dict.fromkeys(knots, 0.0)
    integral[knots[0]] += max(0.0, min(knots[0], 1.0))
    integral[knots[-1]] += max(0.0, 1.0 - max(knots[-1], 0.0))
    for left, right in pairwise(knots):
        low, high = max(left, 0.0), min(right, 1.0)  # some implicit methods look past the step
        if low < high:
            share = ((low + high) / 2 - left) / (right - left)
            integral[left] += (high - low) * (1 - share)
            integral[right] += (high - low) * share
    return tuple(integral[x] / c.count(x) for x in c)


@cache
def _stability_size(tableau: Tableau) -> float | None:
    if tableau.a is None:
        return None
    grid = 0.01
    for n in range(1, int(_A_STABLE / grid) + 1):
        if abs(_growth(tableau, -n * grid)) > 1 + 1e-9:
            low, high = (n - 1) * grid, n * grid
            while high - low > 1e-9:
                middle = (low + high) / 2
                low, high = (low, middle) if abs(_growth(tableau, -middle)) > 1 else (middle, high)
            # Unstable from the start (a pure rotation, say) is no size.
            return low if low > grid else None
    return None


def _growth(tableau: Tableau, z: float) -> float:
    """R(z), the factor by which a step of size 1 multiplies the solution of y' = z y."""
    assert tableau.a is not None
    stages: list[float] = []
    for i, row in enumerate(tableau.a):
        before = sum(x * y for x, y in zip(row, stages, strict=False))
        stages.append((1 + z * before) / (1 - z * row[i]))
    return 1 + z * sum(x * y for x, y in zip(tableau.b, stages, strict=True))
