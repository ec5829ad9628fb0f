"""The terms of a sum by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import InvalidInputError

if TYPE_CHECKING:
    from .terms import StepTerm

Named = Mapping[str, "StepTerm"]


def by_name(pairs: Iterable[tuple[Any, StepTerm]], known: Named = MappingProxyType({})) -> Named:
    """The step terms of weighted ones, and of known ones, by name.

    Raises:
        InvalidInputError: two different ones have one name.
    """
    named = dict(known)
    for _, term in pairs:
        first = named.setdefault(term.name, term)
        if first is not term and first != term:
            raise InvalidInputError(
                f"Two different terms of one sum are named {term.name!r}; name one of them, "
                f'as in `LocalError(reduce="max", name="peak_error")`.'
            )
    return named
