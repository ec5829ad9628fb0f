"""Drawing traces. Needs matplotlib, which the extra `cli` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from .look import colour_of, legend_below, log_axis, marker_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TIME = "time t of the equation"
_PANELS = {
    "h": ("step size", "|h|, in the unit of t"),
    "local_error": ("local error", "E (tolerance = 1)"),
    "stiffness": ("stiffness", "S, per unit of t"),
}
_LEGIBLE = 10  # a longer legend hides what it explains


def plot_trace(traces: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Step size, local error and stiffness along solves; rejected steps are hollow.

    Args:
        traces: `Trace.numpy()` by label; an empty label draws no legend.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = [figure.add_subplot(1, 3, place) for place in (1, 2, 3)]
    looks = [(colour_of(place), marker_of(place)) for place in range(len(traces))]
    draw_traces(axes, traces, looks)
    if any(traces) and len(traces) <= _LEGIBLE:
        legend_below(figure, axes[:1])
    return figure


def draw_traces(
    axes: Sequence[Axes], traces: Mapping[str, Mapping[str, Any]], looks: Sequence[tuple[Any, str]]
) -> None:
    """Step size, local error and stiffness into three axes.

    Args:
        axes: one for each.
        traces: as for `plot_trace`.
        looks: the colour and the marker of each.
    """
    for axis, (name, (title, label)) in zip(axes, _PANELS.items(), strict=True):
        shown = False
        for (of, trace), (colour, marker) in zip(traces.items(), looks, strict=True):
            t = np.asarray(trace["t"], dtype=float)
            values = np.abs(np.asarray(trace[name], dtype=float))
            accepted = np.asarray(trace["accepted"], dtype=bool)
            shown |= bool(np.any(values > 0))
            axis.plot(t[accepted], values[accepted], marker=marker, ms=4, lw=1, color=colour, label=of)
            axis.plot(t[~accepted], values[~accepted], marker, ms=5, mfc="none", color=colour)
        axis.set(title=title, xlabel=TIME, ylabel=label)
        if shown:
            log_axis(axis)
