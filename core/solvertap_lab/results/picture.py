"""The pictures of a comparison. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from solvertap.solves.figure import colour_of, draw_traces, marker_of

from ..training.methods import split_weight
from ..training.run import Run


def plot_comparison(runs: Sequence[Run], title: str) -> Figure:
    """Evaluations over training, and what the final solve looks like, for one seed of each backend and method.

    One row for each backend, one colour for each method, one legend under all of them.
    """
    first = {(run.backend, run.method): run for run in reversed(runs) if run.failure is None}
    backends = list(dict.fromkeys(run.backend for run in runs if run.failure is None))
    methods = list(dict.fromkeys(run.method for run in runs))
    figure = Figure(figsize=(15, 0.6 + 3.2 * len(backends)), layout="constrained")
    figure.suptitle(title)
    for row, backend in enumerate(backends):
        axes = [figure.add_subplot(len(backends), 4, 4 * row + place) for place in (1, 2, 3, 4)]
        present = [method for method in methods if (backend, method) in first]
        for method in present:
            counts = first[backend, method].evaluations_by_epoch
            colour = colour_of(methods.index(method))
            axes[0].plot(range(1, len(counts) + 1), counts, color=colour, label=method)
        axes[0].set(title=f"{backend}: evaluations per training solve", xlabel="epoch", ylim=(0, None))
        draw_traces(
            axes[1:],
            {m: first[backend, m].trace for m in present},
            [methods.index(m) for m in present],
            of="final solve",
            legend=False,
        )
    shown = {
        label: line for axis in figure.axes[1::4] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if shown:
        figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=min(len(shown), 6))
    return figure


def plot_front(runs: Sequence[Run], metric: str, title: str) -> Figure:
    """The metric against the evaluations of one prediction, means over the seeds with their range; a panel a backend.

    Methods that differ in their weight alone are joined by a line, in the order of the evaluations.
    """
    whole = [run for run in runs if run.failure is None and run.evaluations is not None]
    backends = list(dict.fromkeys(run.backend for run in whole))
    kinds = list(dict.fromkeys(_kind(run.method) for run in runs))
    figure = Figure(figsize=(1 + 6 * max(1, len(backends)), 4.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for place, backend in enumerate(backends, start=1):
        axis = figure.add_subplot(1, len(backends), place)
        for number, kind in enumerate(kinds):
            points = sorted(_points([run for run in whole if (run.backend, _kind(run.method)) == (backend, kind)]))
            if not points:
                continue
            x, y, low, high = (np.array(column) for column in list(zip(*points, strict=True))[:4])
            # Hollow, and every kind a shape of its own: two methods may come to the same point.
            look: dict[str, Any] = {
                "color": colour_of(number),
                "marker": marker_of(number),
                "label": kind,
                "mfc": "none",
            }
            axis.errorbar(x, y, yerr=[y - low, high - y], capsize=2, lw=1, **look)
            for point in points:
                axis.annotate(point[4], point[:2], (4, 4), textcoords="offset points", fontsize=7)
        axis.set(title=backend, xlabel="evaluations of one prediction", ylabel=metric)
        axis.legend(fontsize=8)
    return figure


def _points(runs: Sequence[Run]) -> Iterator[tuple[float, float, float, float, str]]:
    """Mean evaluations, the metric's mean and range, and the weight, of each method."""
    for method in dict.fromkeys(run.method for run in runs):
        of = [run for run in runs if run.method == method]
        metrics = [run.metric for run in of]
        evaluations = mean(float(run.evaluations or 0) for run in of)
        yield evaluations, mean(metrics), min(metrics), max(metrics), split_weight(method)[1] or ""


def _kind(method: str) -> str:
    return split_weight(method)[0]
