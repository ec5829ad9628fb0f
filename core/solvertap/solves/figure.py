"""Drawing traces. Needs matplotlib, which the extra `cli` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_PANELS = {"h": "step size |h|", "local_error": "local error E", "stiffness": "stiffness S"}
_MARKERS = "os^Dv<>PX*"
_LEGIBLE = 10  # a longer legend hides what it explains


def plot_trace(traces: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Step size, local error and stiffness along solves; rejected steps are hollow.

    Args:
        traces: `Trace.numpy()` by label; an empty label draws no legend.
    """
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    draw_traces([figure.add_subplot(1, 3, place) for place in (1, 2, 3)], traces, list(range(len(traces))))
    return figure


def draw_traces(
    axes: Sequence[Axes],
    traces: Mapping[str, Mapping[str, Any]],
    colours: Sequence[int],
    of: str = "",
    legend: bool = True,
) -> None:
    """RandomSource step size, local error and stiffness into three axes.

    Args:
        axes: one for each.
        traces: as for `plot_trace`.
        colours: the place of each trace among the colours.
        of: what the titles say the traces are of.
        legend: whether each axis has one.
    """
    for axis, (name, title) in zip(axes, _PANELS.items(), strict=True):
        shown = False
        for (label, trace), place in zip(traces.items(), colours, strict=True):
            t = np.asarray(trace["t"], dtype=float)
            values = np.abs(np.asarray(trace[name], dtype=float))
            accepted = np.asarray(trace["accepted"], dtype=bool)
            shown |= bool(np.any(values > 0))
            colour, marker = colour_of(place), marker_of(place)
            axis.plot(t[accepted], values[accepted], marker=marker, ms=4, lw=1, color=colour, label=label)
            axis.plot(t[~accepted], values[~accepted], marker, ms=5, mfc="none", color=colour)
        axis.set(title=f"{title}, {of}" if of else title, xlabel="t", yscale="log" if shown else "linear")
        if legend and any(traces) and len(traces) <= _LEGIBLE:
            axis.legend()


def colour_of(place: int) -> Any:
    """The colour of the method at that place."""
    return mpl.colormaps["tab10"](place % 10)


def marker_of(place: int) -> str:
    """The marker of the method at that place."""
    return _MARKERS[place % len(_MARKERS)]
