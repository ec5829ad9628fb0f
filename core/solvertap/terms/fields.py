"""Whether a value that was read from a text is one of the type that a field is annotated with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS: dict[Any, str] = {bool: "true or false", float: "a number", int: "an integer", str: "a word", NoneType: "none"}


@cache
def field_types(owner: type) -> dict[str, Any]:
    """The types of the fields of a dataclass; nothing is known of one whose annotations cannot be read here."""
    try:
        known = get_type_hints(owner)
    except NameError:  # of names that are there for a type checker alone
        known = {}
    return {field.name: known.get(field.name, Any) for field in fields(owner)}


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type: of numbers, words, Literals, and lists, dicts and unions of them.

    Any value is of another type, of which nothing is known; but no function is read from a text.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in _WORDS:
        return isinstance(value, annotation)
    if origin is list:
        return isinstance(value, list) and all(fits(each, parts[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, parts[1]) for each in value.values())
    return origin is not Callable


def wanted(annotation: Any) -> str:
    """The second half of an error: which values are of the type."""
    if get_origin(annotation) is Literal:
        return f"the choices are: {', '.join(map(repr, get_args(annotation)))}"
    return f"give {_in_words(annotation)}"


def _in_words(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_in_words(part) for part in get_args(annotation))
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    return _WORDS.get(annotation, "what no text can say")
