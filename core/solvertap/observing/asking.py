"""What an `observe` is asked for, checked before any solve begins."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidInputError
from ..steps.groups import BY


def asked_by(by: Any, trace: bool | int) -> tuple[str, ...]:
    """By what the error of each step is shared.

    Raises:
        InvalidInputError: by something else than samples or parts, or there is no trace to keep it in.
    """
    asked = by if isinstance(by, tuple) else (by,)
    if not (asked and all(isinstance(each, str) and each in BY for each in asked)):
        raise InvalidInputError(
            f'`by` is {by!r}; it is "sample", "part" or ("sample", "part"), those whose share of the error is kept.'
        )
    if not trace:
        raise InvalidInputError(f"`by={by!r}` was asked without a trace, which keeps it; add `trace=True`.")
    return tuple([each for each in BY if each in asked])
