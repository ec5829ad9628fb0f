"""Checks, before any work starts, what a command needs besides the command line itself."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidInputError, MissingExtraError


def require_matplotlib() -> None:
    """Checks early that matplotlib is installed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        from ..solves import figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("matplotlib, which draws the picture,", "cli") from error


def require_drawable(plot: Path) -> None:
    """Checks, before the script runs, that a picture can be drawn there.

    Raises:
        MissingExtraError: matplotlib is missing.
        InvalidInputError: the folder does not exist, or matplotlib does not draw the format.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    require_file("--plot", plot)
    formats = Figure().canvas.get_supported_filetypes()
    if plot.suffix and plot.suffix[1:].lower() not in formats:
        raise InvalidInputError(
            f"`--plot` is {str(plot)!r}, and matplotlib draws no {plot.suffix[1:]!r}; the choices are: "
            f"{', '.join(sorted(formats))}."
        )


def require_file(option: str, path: Path) -> None:
    """Checks, before the script runs, that a file can stand there.

    Raises:
        InvalidInputError: its folder does not exist, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InvalidInputError(f"`{option}` is {str(path)!r}, whose folder does not exist; make it first.")
    if path.is_dir():
        raise InvalidInputError(f"`{option}` is {str(path)!r}, which is a folder; give a file.")
