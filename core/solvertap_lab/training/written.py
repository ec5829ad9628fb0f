"""A term as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from solvertap import LocalSample
from solvertap.terms.step_term import StepTerm
from solvertap.terms.term import NamedTerm


def written(term: NamedTerm) -> str:
    """The term as `parse_term` reads it: its name, and the options in which it differs from the defaults."""
    if isinstance(term, LocalSample):
        return f"{written(term.term)}:draw={term.draw}"
    if not isinstance(term, StepTerm):
        return repr(term)
    return ":".join([getattr(type(term), "name", term.name), *_options(term)])


def _options(term: StepTerm) -> Iterator[str]:
    for each in fields(term) if is_dataclass(term) else ():
        in_front = each.name == "name" and each.default is MISSING
        if each.init and each.compare and not in_front and getattr(term, each.name) != each.default:
            yield _option(each, getattr(term, each.name))


def _option(each: Field[Any], value: Any) -> str:
    if each.name == "reduce":
        return str(value)
    return each.name if value is True else f"{each.name}={str(value).lower() if value is False else value}"
