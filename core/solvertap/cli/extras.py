"""What a command needs beyond the command line itself, asked for before any work starts."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidInputError, MissingExtraError


def require_matplotlib() -> None:
    """Says now, not when a picture is to be drawn, that matplotlib is missing.

    Raises:
        MissingExtraError: it is.
    """
    try:
        from ..solves import figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("matplotlib, which draws the picture,", "cli") from error


def require_drawable(plot: Path) -> None:
    """Says now, not when the script has ended, that no picture can be drawn there.

    Raises:
        MissingExtraError: matplotlib is missing.
        InvalidInputError: there is no such folder, or matplotlib draws no such format.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    if not plot.parent.is_dir():
        raise InvalidInputError(f"`--plot` is {str(plot)!r}, whose folder does not exist; make it first.")
    if plot.is_dir():
        raise InvalidInputError(f"`--plot` is {str(plot)!r}, which is a folder; give a file.")
    formats = Figure().canvas.get_supported_filetypes()
    if plot.suffix and plot.suffix[1:].lower() not in formats:
        raise InvalidInputError(
            f"`--plot` is {str(plot)!r}, and matplotlib draws no {plot.suffix[1:]!r}; the choices are: "
            f"{', '.join(sorted(formats))}."
        )
