"""The Butcher tableau of a method, and what it says of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

from ..errors import InvalidInputError

_ZERO = 1e-10  # a tableau of double precision fulfils its conditions to rounding
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
            or is not known.
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
        for name, row in (("b", self.b), ("a", self.a), ("e", self.e)):
            if row is not None and len(row) != stages:
                raise InvalidInputError(
                    f"`Tableau` was given {stages} nodes `c` and {len(row)} entries `{name}`. Give as many of the one "
                    "as of the other."
                )

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

        They are never negative, as some of b are, so that the mean of something that is not negative is not either.
        """
        return _mean_weights(tuple(self.c))

    @cached_property
    def error_order(self) -> int | None:
        """The power of h with which the error estimate falls on a smooth field; None where `e` is not known.

        By the quadrature conditions: the estimate of y' = t^k is h^(k+1) sum e_i c_i^k, and the first k for which that
        is not zero gives k + 1 (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, section II.2).
        """
        if self.e is None:
            return None
        moments = (sum(e * c**k for e, c in zip(self.e, self.c, strict=True)) for k in range(len(self.c)))
        return next((k + 1 for k, moment in enumerate(moments) if abs(moment) > _ZERO), None)

    @cached_property
    def stability_size(self) -> float | None:
        """The largest x for which the method is stable on y' = -y with steps up to x; None if there is none.

        Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.2: |R(-x)| <= 1. It is what
        OrdinaryDiffEq.jl calls `alg_stability_size`. Explicit and diagonally implicit methods only.
        """
        return _stability_size(self)


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
