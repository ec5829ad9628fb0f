"""The picture that `solvertap run --plot` draws. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ..solves.look import colour_of, legend_below, whole_numbers
from .totals import Point

_KINDS = ("training", "evaluation", "adjoint", "recomputation")  # each has its colour, whatever others there are


def plot_run(kinds: Mapping[str, Sequence[Point]]) -> Figure:
    """The evaluations, and the penalties if there are any, of the solves of a script, in their order.

    Args:
        kinds: the points of each kind of solve.
    """
    penalized = sorted((p.n, p.penalty) for points in kinds.values() for p in points if p.penalty is not None)
    figure = Figure(figsize=(11 if penalized else 6, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if penalized else 1, squeeze=False)[0]
    for kind, points in kinds.items():
        colour = colour_of(_KINDS.index(kind) if kind in _KINDS else len(_KINDS))
        counted = [(p.n, p.evaluations) for p in points if p.evaluations is not None]
        if counted:
            panels[0].plot(*zip(*counted, strict=True), ".", ms=4, color=colour, label=kind)
    panels[0].set(title="cost", ylabel="evaluations of one solve", ylim=(0, None))
    if penalized:
        panels[1].plot(*zip(*penalized, strict=True), color=colour_of(0))
        panels[1].set(title="penalty", ylabel="penalty (unit of the loss)", ylim=(0, None))
    for panel in panels:
        panel.set_xlabel("solve, in the order of the run")
        whole_numbers(panel)
    legend_below(figure, panels[:1])
    return figure
