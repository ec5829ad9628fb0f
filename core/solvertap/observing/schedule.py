"""The weighted terms of `regularize` at each optimiser step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InvalidInputError
from ..plugins.registry import parse_term
from ..terms.term import NamedTerm, Term
from ..terms.text import ParsedTerm


def scheduled(term: Any) -> tuple[Callable[[int], tuple[tuple[Any, NamedTerm], ...]], bool]:
    """The weighted terms at a step, and whether they are always the same."""
    if term is None or isinstance(term, Term):
        pairs = () if term is None else term.pairs()
        return lambda _: pairs, True
    function = parse_term(term) if isinstance(term, str) else term
    if not callable(function):
        raise InvalidInputError(
            f'`regularize` was given {term!r}. Give a term, a text such as `"0.1*local_error"`, or a function '
            "of the optimiser step that returns a term."
        )

    def pairs_at(k: int) -> tuple[tuple[Any, NamedTerm], ...]:
        weighted = function(k)
        if not isinstance(weighted, Term):
            raise InvalidInputError(
                f"The function given to `regularize` returned {weighted!r}, which is no term. Let it return one, as "
                "in `lambda k: 0.99**k * LocalError()`."
            )
        return weighted.pairs()

    return pairs_at, isinstance(function, ParsedTerm) and not function.annealed
