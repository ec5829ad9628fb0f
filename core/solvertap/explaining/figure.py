"""Pictures of what limits the steps of a solve. Needs matplotlib, which the extra `cli` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..solves.figure import TIME
from ..solves.look import PLAIN, colour_of, legend_below, log_axis, marker_of, whole_numbers
from .anatomy import Anatomy

_PANELS = {
    "step size": "|h|, in the unit of t",
    "local error": "E (tolerance = 1)",
    "stability": "|h| S (stability size = 1)",
}


def draw_anatomy(solves: Mapping[str, Anatomy]) -> Figure:
    """Step size, E and |h| S along solves, by label; rejected attempts are hollow.

    A line stands at 1: above it an attempt is rejected, or the method is unstable.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = [figure.add_subplot(1, 3, place) for place in (1, 2, 3)]
    for number, (label, anatomy) in enumerate(solves.items()):
        look: dict[str, Any] = {"color": colour_of(number), "marker": marker_of(number), "ms": 4}
        kept = anatomy.accepted
        columns = anatomy.sizes, anatomy.local_error, anatomy.stability
        for axis, column in zip(axes, columns, strict=True):
            axis.plot(anatomy.t[kept], column[kept], lw=1, label=label, **look)
            axis.plot(anatomy.t[~kept], column[~kept], ls="none", mfc="none", **look)
    for axis, (title, label) in zip(axes, _PANELS.items(), strict=True):
        axis.set(title=title, xlabel=TIME, ylabel=label)
    for axis in axes[1:]:
        axis.axhline(1.0, color=PLAIN, lw=0.8)
    for axis in axes:
        if any(np.nanmax(line.get_ydata(), initial=0.0) > 0 for line in axis.lines):
            log_axis(axis)
    legend_below(figure, axes[:1])
    return figure


def draw_course(evaluations: Sequence[float], solves: int) -> Figure:
    """Evaluations of a solve over all solves of a place, of which so many are drawn."""
    figure = Figure(figsize=(12, 2.4), layout="constrained")
    axis = figure.add_subplot()
    axis.plot(np.linspace(1, solves, len(evaluations)), evaluations, marker=".", lw=1, color=colour_of(0))
    axis.set(xlabel="solve, in the order of the run", ylabel="evaluations of one solve", ylim=(0, None))
    whole_numbers(axis)
    return figure
