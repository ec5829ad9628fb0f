"""Explains in one sentence a command line that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..errors import InvalidInputError


def explain(error: Any) -> None:
    """Translates an error of click, or of typer's own copy of click; leaves any other exception alone.

    Raises:
        InvalidInputError: the command line cannot be read.
        SystemExit: it is empty, or it was interrupted.
    """
    kind = type(error).__name__  # the module of its class depends on the version of typer
    if kind == "Abort":
        print("Aborted!", file=sys.stderr)
        raise SystemExit(1) from None
    if kind == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        raise SystemExit(2) from None
    if hasattr(error, "format_message"):
        raise _in_one_sentence(error) from None


def _in_one_sentence(error: Any) -> InvalidInputError:
    path = error.ctx.command_path if error.ctx is not None else "solvertap"
    see = f"`{path} --help` lists the choices."
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        close = " or ".join(f"`{option}`" for option in error.possibilities or ())
        meant = f"did you mean {close}? " if close else ""
        return InvalidInputError(f"`{error.option_name}` is no option of `{path}`; {meant}{see}")
    what = error.format_message().rstrip(".")
    for kind, number in (("integer", int), ("float", float), ("number", float)):
        if kind in what and (param := getattr(error, "param", None)) is not None:
            for value in _given(param.opts, sys.argv[1:]):
                if not _reads(number, value):
                    kind = "an integer" if number is int else "a number"
                    return InvalidInputError(f"`{param.opts[0]}` is {value!r}; give {kind}.")
    return InvalidInputError(f"{what}{'' if what.endswith('?') else ';'} {see}")


def _given(options: Sequence[str], arguments: Sequence[str]) -> list[str]:
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    joined = [argument.partition("=") for argument in arguments]
    return [value for option, value in pairs if option in options] + [
        value for option, equals, value in joined if equals and option in options
    ]


def _reads(number: type, text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True
