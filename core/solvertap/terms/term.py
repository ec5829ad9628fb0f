"""Terms: what is summed over the steps of a solve, and how terms add and scale.

A term holds no weight and no array, so that it hashes by its settings and a compiled solve is compiled once, whatever
the weights do. The weights stay outside, in a `WeightedTerms`, and may be numbers, tensors or traced values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import InvalidInputError
from .weights import checked

Named = Mapping[str, "NamedTerm"]


class Term(ABC):
    """Anything `observe` accepts: a named term, or a weighted sum of them."""

    # Without this a NumPy scalar times a term would not reach `__rmul__`.
    __array_ufunc__ = None

    @abstractmethod
    def pairs(self) -> tuple[tuple[Any, NamedTerm], ...]:
        """The (weight, term) pairs that add up to this term."""

    def __add__(self, other: object) -> Term:
        if isinstance(other, Term):
            return WeightedTerms(self.pairs() + other.pairs(), by_name(other.pairs(), self._by_name()))
        if isinstance(other, int | float) and other == 0:  # what `sum()` starts from
            return self
        return NotImplemented

    __radd__ = __add__

    def __mul__(self, weight: Any) -> Term:
        if isinstance(weight, Term):
            raise InvalidInputError(
                "A term was multiplied by a term, and only a weight multiplies one. Add the terms, or scale one by "
                "a number."
            )
        checked(weight)
        return WeightedTerms(tuple((checked(weight * w), term) for w, term in self.pairs()), self._by_name())

    __rmul__ = __mul__

    def _by_name(self) -> Named:
        return by_name(self.pairs())


@dataclass(frozen=True, eq=False)
class WeightedTerms(Term):
    """A weighted sum of named terms."""

    weighted: tuple[tuple[Any, NamedTerm], ...]
    named: Named | None = field(default=None, repr=False)  # where they are known already

    def __post_init__(self) -> None:
        if self.named is None:
            object.__setattr__(self, "named", by_name(self.weighted))

    def pairs(self) -> tuple[tuple[Any, NamedTerm], ...]:
        return self.weighted

    def _by_name(self) -> Named:
        return self.named or {}


class NamedTerm(Term):
    """One term, by whose name its value is found: a `StepTerm`, or a `LocalSample` of one."""

    name: str

    def pairs(self) -> tuple[tuple[Any, NamedTerm], ...]:
        return ((1.0, self),)

    @property
    def needs_step_doubling(self) -> bool:
        """Whether a solver without an estimate must take each step in two halves as well."""
        return False

    @property
    def optional(self) -> bool:
        """Whether a solve may go without it: a term that `regularize` adds."""
        return False

    @property
    def measures_stiffness(self) -> bool:
        """Whether it measures `stiffness`, which costs evaluations of the field where the slopes do not show it."""
        return False


def by_name(pairs: Iterable[tuple[Any, NamedTerm]], known: Named = MappingProxyType({})) -> Named:
    """The terms of (weight, term) pairs, and known ones, by name.

    Raises:
        InvalidInputError: two different ones have one name.
    """
    named = dict(known)
    for _, term in pairs:
        first = named.setdefault(term.name, term)
        if first is not term and first != term:
            raise InvalidInputError(
                f"Two different terms of one sum are named {term.name!r}. Name one of them, as in "
                '`LocalError(reduce="max", name="peak_error")`.'
            )
    return named
