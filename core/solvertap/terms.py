"""Terms: what is summed over the steps of a solve, and how terms add and scale.

A term is a fold over the accepted steps: `start`, `update`, `value`. It holds no weight and no array, so that
it hashes by its settings and a compiled solve is compiled once, whatever the weights do. The weights ride
outside, in a `WeightedTerms`, and may be numbers, tensors or traced values.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar, Literal, get_args

from array_api_compat import device

from .errors import InvalidInputError
from .gradients import Gradient
from .namespaces import array_namespace
from .naming import Named, by_name
from .state import Array
from .step import Step
from .weights import checked

Reduce = Literal["sum", "mean", "max"]


class Term(ABC):
    """Anything `observe` accepts: a step term, or a weighted sum of them."""

    # NumPy would otherwise multiply a scalar of its own into each part instead of asking us.
    __array_ufunc__ = None

    @abstractmethod
    def pairs(self) -> tuple[tuple[Any, StepTerm], ...]:
        """The (weight, step term) pairs that add up to this term."""

    def __add__(self, other: object) -> Term:
        if isinstance(other, Term):
            return WeightedTerms(self.pairs() + other.pairs(), by_name(other.pairs(), self._by_name()))
        if isinstance(other, int | float) and other == 0:  # what `sum()` starts from
            return self
        return NotImplemented

    __radd__ = __add__

    def __mul__(self, weight: Any) -> Term:
        if isinstance(weight, Term):
            raise InvalidInputError("A term is scaled by a weight and added to a term; it is not multiplied by one.")
        checked(weight)
        return WeightedTerms(tuple((checked(weight * w), term) for w, term in self.pairs()), self._by_name())

    __rmul__ = __mul__

    def _by_name(self) -> Named:
        return by_name(self.pairs())


@dataclass(frozen=True, eq=False)
class WeightedTerms(Term):
    """A weighted sum of step terms."""

    weighted: tuple[tuple[Any, StepTerm], ...]
    named: Named | None = field(default=None, repr=False)  # where they are known already

    def __post_init__(self) -> None:
        if self.named is None:
            object.__setattr__(self, "named", by_name(self.weighted))

    def pairs(self) -> tuple[tuple[Any, StepTerm], ...]:
        return self.weighted

    def _by_name(self) -> Named:
        return self.named or {}


@dataclass(frozen=True, kw_only=True)
class StepTerm(Term):
    """A scalar measured on each accepted step, then reduced over the steps of a solve.

    Attributes:
        name: the key of `Observation.values`.
        weigh_by_step: whether each value is multiplied by |h| of its step.
        reduce: "sum", "mean" or "max" over the accepted steps. All three are 0 where no step was taken.
    """

    offered: ClassVar[bool] = False
    """Whether a solve may go without it: what `regularize` adds."""

    name: str
    weigh_by_step: bool = False
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        if self.reduce not in get_args(Reduce):
            choices = ", ".join(repr(choice) for choice in get_args(Reduce))
            raise InvalidInputError(f"`reduce` is {self.reduce!r}; the choices are: {choices}.")
        if self.weigh_by_step not in (True, False):
            raise InvalidInputError(f"`weigh_by_step` is {self.weigh_by_step!r}; the choices are: True, False.")

    def pairs(self) -> tuple[tuple[Any, StepTerm], ...]:
        return ((1.0, self),)

    @property
    def doubles(self) -> bool:
        """Whether a solver without an estimate is to take each step in two halves as well."""
        return False

    @property
    def sampled(self) -> bool:
        """Whether it is measured on one extra step instead of on the steps of the solve."""
        return False

    @property
    def plain(self) -> StepTerm:
        """The term itself, where this one offers it."""
        return self

    @abstractmethod
    def measure(self, step: Step) -> Array:
        """The value of one step: a real scalar that carries gradient."""

    def known(self, step: Step) -> Array | None:  # noqa: ARG002  # by default nothing is
        """What `measure` would give, where the step has it already without gradient; else None."""
        return None

    def has_gradient(self, step: Step) -> bool:  # noqa: ARG002  # by default of no step
        """Whether `gradient` is written out for such a step; else the framework differentiates `measure` itself."""
        return False

    def rows(self, step: Step) -> tuple[tuple[float, ...], ...]:  # noqa: ARG002  # by default none
        """The rows by which `measure` and `gradient` contract the slopes, where there is a gradient.

        It is all that they may ask of the stages: a framework may keep what it is instead of the slopes. An error that
        is a sum of slopes is asked for by its row, `Tableau.e`.
        """
        return ()

    def gradient(self, step: Step, by: Array | float, value: Array) -> Gradient:
        """The derivative of `measure` by the arrays of the step, times `by`, a number or one for each step.

        `value` is what `measure` gave. It carries gradient, for those who differentiate twice.

        A term that has one measures, and differentiates, several steps together as well (`Steps`), and its
        derivative is zero where an attempt that may yet be rejected is not finite.
        """
        raise NotImplementedError(f"{type(self).__name__} leaves its derivative to the framework")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "measure" in vars(cls) and "has_gradient" not in vars(cls):
            # Another formula than the one it inherits from: the derivative that is written out there is not its own.
            cls.has_gradient = StepTerm.has_gradient  # type: ignore[method-assign]  # what is inherited otherwise
        if "measure" in vars(cls) and "known" not in vars(cls):
            cls.known = StepTerm.known  # type: ignore[method-assign]  # likewise
        if not {"start", "update"}.isdisjoint(vars(cls)) and "begin" not in vars(cls):
            cls.begin = StepTerm._begin_as_folded  # type: ignore[method-assign]  # a fold of its own

    def start(self, zero: Array) -> Array:
        """The fold before the first step, from a zero of the dtype and device of the solve."""
        return zero - float("inf") if self.reduce == "max" else zero

    def update(self, total: Array, value: Array, h: Array) -> Array:
        """The fold after one more accepted step of size h, on which `value` was measured; several are of shape (m,)."""
        value = self._reduced(value, h, total.dtype)
        return array_namespace(total).maximum(total, value) if self.reduce == "max" else total + value

    def begin(self, value: Array, h: Array) -> Array:
        """The fold after the first step, or the first ones: `update` of `start`, without the operation on a zero."""
        return self._reduced(value, h, h.dtype)

    def _begin_as_folded(self, value: Array, h: Array) -> Array:
        zero = array_namespace(h).zeros((), dtype=h.dtype, device=device(h))
        return self.update(self.start(zero), value, h)

    def _reduced(self, value: Array, h: Array, dtype: Any) -> Array:
        if self.weigh_by_step:
            value = value * h
        if not hasattr(value, "dtype"):
            return value
        xp = array_namespace(value)
        # A state of no dimensions is promoted by the tolerances, whose dtype is another.
        value = value if value.dtype == dtype else xp.astype(value, dtype)
        if value.ndim == 0:
            return value
        return xp.max(value) if self.reduce == "max" else xp.sum(value)

    def value(self, total: Array, accepted: Array) -> Array:
        """What the fold amounts to after `accepted` steps."""
        if self.reduce == "sum":
            return total
        xp = array_namespace(total)
        accepted = xp.asarray(accepted, dtype=total.dtype, device=device(total))
        if self.reduce == "mean":
            return total / xp.maximum(accepted, xp.ones_like(accepted))
        return xp.where(accepted > 0, total, xp.zeros_like(total))


def add(terms: Iterable[Term]) -> Term:
    """The sum of terms, at once."""
    return WeightedTerms(tuple(pair for term in terms for pair in term.pairs()))


def combine(weighted: tuple[tuple[Any, StepTerm], ...], values: Mapping[StepTerm, Array]) -> Array:
    """The weighted sum of the values of the terms."""
    if len(weighted) == 1:
        ((weight, term),) = weighted
        return weight * values[term]  # of weight 1 too: a sum of its own, which may be changed in place
    return total(values[term] if _is_one(weight) else weight * values[term] for weight, term in weighted)


def _is_one(weight: Any) -> bool:
    return isinstance(weight, int | float) and weight == 1


def total(values: Iterable[Array]) -> Array:
    """The sum of one array or more, without a zero that would have a dtype and a device of its own."""
    return reduce(operator.add, values)
