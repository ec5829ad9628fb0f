"""The picture that `solvertap run --plot` draws. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ..solves.figure import colour_of
from .totals import Point


def plot_run(kinds: Mapping[str, Sequence[Point]]) -> Figure:
    """The evaluations, and the penalties if there are any, of the solves of a script, in their order.

    Args:
        kinds: the points of each kind of solve.
    """
    penalized = sorted((p.n, p.penalty) for points in kinds.values() for p in points if p.penalty is not None)
    figure = Figure(figsize=(11 if penalized else 6, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if penalized else 1, squeeze=False)[0]
    for place, (kind, points) in enumerate(kinds.items()):
        counted = [(p.n, p.evaluations) for p in points if p.evaluations is not None]
        if counted:
            panels[0].plot(*zip(*counted, strict=True), ".", ms=3, color=colour_of(place), label=kind)
    panels[0].set(title="evaluations of the field", xlabel="solve")
    panels[0].legend()
    if penalized:
        panels[1].plot(*zip(*penalized, strict=True))
        panels[1].set(title="penalty", xlabel="solve")
    return figure
