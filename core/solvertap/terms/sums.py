"""Sums of terms, and of their values."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from ..steps.arrays import Array
from .term import NamedTerm, Term, WeightedTerms


def add(terms: Iterable[Term]) -> Term:
    """The sum of terms, at once."""
    return WeightedTerms(tuple(pair for term in terms for pair in term.pairs()))


def combine(weighted: tuple[tuple[Any, NamedTerm], ...], values: Mapping[NamedTerm, Array]) -> Array:
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
