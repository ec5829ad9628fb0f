"""A budget as the command line writes it: `5`, `evaluations=40`, `fraction=0.5:cap=0.2`."""

from __future__ import annotations

from ..errors import InvalidInputError
from ..observing.budget import budget
from ..terms.term import Term

_NUMBERS = ("steps", "evaluations", "fraction", "loss", "cap", "gain", "response", "smoothing", "every")


def read_budget(text: str, term: Term, option: str = "--budget") -> budget:
    """The budget of a text: a number of steps, or fields of `budget` with their numbers, with colons between them.

    Args:
        text: of this form.
        term: what is penalized.
        option: where the text stands, for the message.

    Raises:
        InvalidInputError: it is not of this form, or `budget` refuses it.
    """
    given: dict[str, float] = {}
    for part in text.split(":"):
        name, _, value = part.rpartition("=")
        name = name or "steps"
        try:
            given[name] = float(value)
        except ValueError:
            given.clear()
        if name not in given or name not in _NUMBERS:
            raise InvalidInputError(
                f"`{option}` is {text!r}. Give the most steps of a solve, as in `5`, or one of "
                f"{', '.join(_NUMBERS[:4])} with its number, as in `evaluations=40`."
            )
    return budget(term, **given)  # type: ignore[arg-type]  # `every` is a number too
