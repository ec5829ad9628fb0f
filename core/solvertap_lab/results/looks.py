"""What a method looks like, in every picture. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from solvertap.solves.look import DARK, LIGHT, PLAIN, colour_of, marker_of

from ..training.methods import VANILLA, split_weight
from .record import write_whole

# Of each kind its places among the colours and the markers. What nobody compares may share a colour.
_LOOKS = {
    "error": (0, 1),
    "budget": (1, 2),
    "stiffness": (2, 3),
    "both": (3, 4),
    "local-unbiased": (4, 5),
    "local-biased": (5, 6),
    "taynode-2": (2, 7),
    "taynode-3": (2, 8),
    "rnode": (3, 9),
    "steer": (1, 9),
}
_OTHERS = (4, 8)
_PALEST = 0.4  # how much of its colour the smallest of several weights has


class Draw(Protocol):
    """What draws one figure."""

    def __call__(self) -> Figure:
        """The figure, in the colours of the page that is drawn on."""
        ...


def kind_of(method: str) -> str:
    """The method without its weight."""
    return split_weight(method)[0]


def look_of(method: str) -> tuple[str, str]:
    """The colour and the marker of a method: those of its kind, whatever it is compared with."""
    if method == VANILLA:
        return PLAIN, marker_of(0)
    colour, marker = _places(kind_of(method))
    return colour_of(colour), marker_of(marker)


def looks_of(methods: Sequence[str]) -> list[tuple[str, str]]:
    """The looks of methods in one picture: those that differ in their weight alone are shades of one colour."""
    looks = []
    for method in methods:
        alike = [each for each in methods if kind_of(each) == kind_of(method)]
        colour, marker = look_of(method)
        share = 1.0 if len(alike) == 1 else _PALEST + (1 - _PALEST) * alike.index(method) / (len(alike) - 1)
        looks.append((_towards_page(colour, share), marker if len(alike) == 1 else marker_of(alike.index(method) + 1)))
    return looks


def write_pictures(path: Path, draw: Draw) -> list[Path]:
    """Writes a picture for a light page, and beside it one whose name ends in `-dark` for a dark one."""
    dark = path.with_stem(f"{path.stem}-dark")
    for each, theme in ((path, LIGHT), (dark, DARK)):
        with mpl.rc_context(dict(theme)):
            write_whole(each, partial(draw().savefig, dpi=120, format="png"))
    return [path, dark]


def _places(kind: str) -> tuple[int, int]:
    if "stiffness" in kind and "error" in kind:
        return _LOOKS["both"]
    return next((places for known, places in _LOOKS.items() if known in kind), _OTHERS)


def _towards_page(colour: str, share: float) -> str:
    page = to_rgb(mpl.rcParams["figure.facecolor"])
    red, green, blue = (there + share * (here - there) for here, there in zip(to_rgb(colour), page, strict=True))
    return to_hex((red, green, blue))
