"""How every picture looks: its colours, its axes, on a light page and on a dark one. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN = "#808080"
"""What is not regularized, or not observed, is grey in every picture."""

# Okabe and Ito's, which colour-blind readers can tell apart. Blue is too dark for a dark page: sky blue stands there.
_ON_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_ON_DARK = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#F0E442")
_MARKERS = "os^Dv<>PX*"
_TICKS = 6
_DECADES = 1.2  # an axis over fewer has ticks at 2 and 5 as well

_INK, _PAGE = "#D8DAE0", "#1E2129"  # of the site's dark pages
_COMMON: Mapping[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
LIGHT: Mapping[Any, Any] = {**_COMMON, "figure.facecolor": "white", "axes.facecolor": "white"}
DARK: Mapping[Any, Any] = {
    **_COMMON,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), _PAGE),
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}


def colour_of(place: int) -> str:
    """The colour at that place, for the page that is drawn on."""
    palette = _ON_DARK if mpl.rcParams["figure.facecolor"] == _PAGE else _ON_LIGHT
    return palette[place % len(palette)]


def ink() -> str:
    """The colour of text."""
    return str(mpl.rcParams["text.color"])


def marker_of(place: int) -> str:
    """The marker at that place."""
    return _MARKERS[place % len(_MARKERS)]


def plain_number(x: float, _: object = None) -> str:
    """1000 and 0.001, not powers of ten; only a number with too many zeros to count is written 1e-7."""
    return f"{x:.0e}".replace("e-0", "e-").replace("e+0", "e") if 0 < abs(x) < 1e-4 or abs(x) >= 1e6 else f"{x:g}"


def log_axis(axis: Axes) -> None:
    """Makes the y axis logarithmic, with few ticks and plain numbers; for the end, when all is drawn."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    few = high <= low * 10**_DECADES
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=_TICKS))
    axis.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_minor_formatter(NullFormatter())


def whole_numbers(axis: Axes) -> None:
    """The x axis counts: few ticks, none between two numbers."""
    axis.xaxis.set_major_locator(MaxNLocator(_TICKS, integer=True))


def show_at_least(axis: Axes, span: float) -> None:
    """No zoom into what is noise: the y axis shows so much of its unit, or more."""
    low, high = axis.get_ylim()
    missing = max(0.0, span - (high - low)) / 2
    axis.set_ylim(low - missing, high + missing)


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = 5) -> None:
    """One legend under the figure, with each label once."""
    shown = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if shown:
        figure.legend(
            list(shown.values()), list(shown), loc="outside lower center", ncols=min(len(shown), columns), frameon=False
        )
