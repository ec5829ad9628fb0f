"""What a command needs beyond the command line itself, asked for before any work starts."""

from __future__ import annotations

from ..errors import MissingExtraError


def require_matplotlib() -> None:
    """Says now, not when a picture is to be drawn, that matplotlib is missing.

    Raises:
        MissingExtraError: it is.
    """
    try:
        import solvertap.pictures  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("matplotlib, which draws the picture,", "cli") from error
