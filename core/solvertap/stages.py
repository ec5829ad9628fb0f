"""The stages of a step: the slopes a method has evaluated anyway, and what its tableau says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from .safe import real_dtype, where_finite, wide_dtype, widened
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
    """

    c: Sequence[float]
    b: Sequence[float]
    a: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        # Tuples of floats, so that a tableau hashes by its numbers whatever array they came in.
        stages = len(self.c)
        object.__setattr__(self, "c", tuple(float(x) for x in self.c))
        object.__setattr__(self, "b", tuple(float(x) for x in self.b))
        if self.a is not None:
            rows = tuple(tuple(float(x) for x in row) for row in self.a)
            object.__setattr__(self, "a", tuple(row + (0.0,) * (stages - len(row)) for row in rows))

    @property
    def end_gap(self) -> tuple[float, ...] | None:
        """a_s - a_(s-1), if the last two stages stand at the end of the step.

        Contracted with the slopes it gives the difference of two states at one time over h, which is what a
        stiffness estimate needs, without rebuilding either state. None if the stages stand elsewhere.
        """
        if self.a is None or len(self.c) < 2 or self.c[-1] != 1 or self.c[-2] != 1:
            return None
        return tuple(x - y for x, y in zip(self.a[-1], self.a[-2], strict=True))

    @property
    def last_gap(self) -> tuple[float, ...] | None:
        """a_s - b, the last stage against the solution, if that stage stands at the end of the step."""
        if self.a is None or self.c[-1] != 1:
            return None
        return tuple(x - y for x, y in zip(self.a[-1], self.b, strict=True))

    @property
    def stiffness_evaluations(self) -> int:
        """Evaluations of the field that a stiffness estimate takes beyond the stages: 0, 1 or 2."""
        if self.end_gap is not None:
            return 0
        return 2 if self.last_gap is None else 1

    @property
    def mean_weights(self) -> tuple[float, ...]:
        """Weights for the mean over the step of something known at the nodes, by the trapezoidal rule.

        Never negative, as some of b are: what is not negative at the nodes has a mean that is not.
        """
        return _mean_weights(tuple(self.c))

    @property
    def stability_size(self) -> float | None:
        """The largest x for which the method is stable on y' = -y with steps up to x; None if there is none.

        Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.2: |R(-x)| <= 1. It is what
        OrdinaryDiffEq.jl calls `alg_stability_size`. Explicit and diagonally implicit methods only.
        """
        return _stability_size(self)

    def coefficients(self, like: Array) -> Coefficients:
        """The rows that are contracted with the slopes, as arrays beside a state."""
        xp = array_namespace(like)

        def row(values: Sequence[float] | None, dtype: Any) -> Array | None:
            return None if values is None else xp.asarray(values, dtype=dtype, device=device(like))

        end = row(self.end_gap, wide_dtype(like))
        last = self.last_gap
        beside = row(last, wide_dtype(like)) if end is None and last is not None and any(last) else None
        return Coefficients(end, beside, row(self.mean_weights, real_dtype(like)))


class Coefficients(NamedTuple):
    """Rows of a tableau as arrays of shape (s,).

    Attributes:
        end_gap: `Tableau.end_gap`.
        last_gap: `Tableau.last_gap`, where it is needed: the last stage is at the end and is not the solution.
        mean_weights: `Tableau.mean_weights`.
    """

    end_gap: Array | None
    last_gap: Array | None
    mean_weights: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stages:
    """The slopes of one step.

    Attributes:
        slopes: k_1 ... k_s stacked along `axis`, for each part of the state; they carry gradient.
        axis: 0 or -1.
        tableau: where they were evaluated.
        coefficients: `tableau.coefficients(y0)`, where a framework would pay for making them at every step.
        unit: what the slopes are multiplied by, if anything (diffrax stores h k_i); not zero.
        finite: whether every number is finite, where a solver may yet reject the step; see `guarded`.
    """

    slopes: State
    axis: int
    tableau: Tableau
    coefficients: Coefficients | None = None
    unit: Any = 1.0
    finite: Array | None = None

    @property
    def rows(self) -> Coefficients:
        """The rows of the tableau as arrays."""
        return self.coefficients or self.tableau.coefficients(parts(self.slopes)[0])

    def slope(self, index: int) -> State:
        """The slope k_i of one stage."""
        return tuple(self._clean(k) / self.unit for k in self._stage(index))

    def step_between(self, first: int, last: int) -> State:
        """k_last - k_first, times `unit`."""
        pairs = zip(self._stage(last), self._stage(first), strict=True)
        return tuple(self._clean(a - b) for a, b in pairs)

    def contract(self, row: Array) -> State:
        """sum_i row_i k_i, times `unit`."""
        # Not by a matrix product, which torch's autocast, TF32 and JAX's default precision compute in fewer digits:
        # what is left of a difference of neighbouring stages would be their rounding.
        xp = array_namespace(row)
        return tuple(self._clean(xp.sum(self._along(row, k) * widened(k), axis=self.axis)) for k in parts(self.slopes))

    def stacked(self) -> State:
        """Every slope, times `unit`, stacked along `axis`."""
        return tuple(self._clean(widened(k)) for k in parts(self.slopes))

    def _along(self, row: Array, slopes: Array) -> Array:
        xp = array_namespace(row)
        return xp.reshape(row, (-1, *[1] * (slopes.ndim - 1))) if self.axis == 0 else row

    def _stage(self, index: int) -> tuple[Array, ...]:
        slopes = parts(self.slopes)
        return tuple(widened(k[index, ...] if self.axis == 0 else k[..., index]) for k in slopes)

    def _clean(self, x: Array) -> Array:
        # Linear up to here: what is cut here takes no gradient back, and so no 0 * inf either.
        return x if self.finite is None else where_finite(self.finite, x, 0.0)


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
