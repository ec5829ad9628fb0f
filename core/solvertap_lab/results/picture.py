"""The pictures of a comparison. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from solvertap.solves.figure import draw_traces
from solvertap.solves.look import legend_below, show_at_least, whole_numbers

from ..training.methods import split_weight
from ..training.run import Run
from .looks import kind_of, look_of, looks_of

_TITLE = 75  # characters that stand above one panel
_FRONT = 3  # of fewer points nothing can be seen but where they are, which the table says better
# Two trainings that differ in their seed alone differ by 0.2 points, or by a hundredth of an error, and by more. An
# axis shows ten times as much, or more.
_POINTS, _SHARE = 2.0, 0.1


def plot_comparison(runs: Sequence[Run], title: str) -> Figure:
    """Evaluations over training, and what the final solve looks like, for one seed of each backend and method.

    One row for each backend, one colour for each kind of method, one legend under all of them.
    """
    first = {(run.backend, run.method): run for run in reversed(runs) if run.failure is None}
    backends = list(dict.fromkeys(run.backend for run in runs if run.failure is None))
    methods = list(dict.fromkeys(run.method for run in runs))
    looks = dict(zip(methods, looks_of(methods), strict=True))
    figure = Figure(figsize=(15, 0.8 + 3.4 * len(backends)), layout="constrained")
    figure.suptitle(title)
    for row, backend in enumerate(backends):
        axes = [figure.add_subplot(len(backends), 4, 4 * row + place) for place in (1, 2, 3, 4)]
        present = [method for method in methods if (backend, method) in first]
        for method in present:
            counts = first[backend, method].evaluations_by_epoch
            colour, marker = looks[method]
            axes[0].plot(range(1, len(counts) + 1), counts, color=colour, marker=marker, ms=4, lw=1, label=method)
        axes[0].set(title="training", xlabel="epoch", ylabel=f"{backend}\nevaluations of one solve", ylim=(0, None))
        whole_numbers(axes[0])
        draw_traces(axes[1:], {m: first[backend, m].trace for m in present}, [looks[m] for m in present])
        for axis in axes[1:]:
            axis.set_title(f"{axis.get_title()}, final solve")
    legend_below(figure, figure.axes[::4])
    return figure


def has_front(runs: Sequence[Run]) -> bool:
    """Whether some backend has trained enough methods for a front."""
    trained = {(run.backend, run.method) for run in _whole(runs)}
    return any(sum(backend == each for each, _ in trained) >= _FRONT for backend, _ in trained)


def plot_front(runs: Sequence[Run], metric: str, title: str) -> Figure:
    """The metric against the evaluations of one prediction, means over the seeds with their range; a panel a backend.

    Methods that differ in their weight alone are joined by a line, in the order of the evaluations.
    """
    whole = _whole(runs)
    backends = list(dict.fromkeys(run.backend for run in whole))
    kinds = list(dict.fromkeys(kind_of(run.method) for run in whole))
    panels = max(1, len(backends))
    figure = Figure(figsize=(1 + 6 * panels, 4.8), layout="constrained")
    figure.suptitle(fill(title, _TITLE * panels), fontsize=10)
    for place, backend in enumerate(backends, start=1):
        axis = figure.add_subplot(1, len(backends), place)
        for kind in kinds:
            points = sorted(_points([run for run in whole if (run.backend, kind_of(run.method)) == (backend, kind)]))
            if points:
                _draw(axis, kind, points)
        axis.set(title=backend, xlabel="evaluations of one prediction", ylabel=metric, xlim=(0, None))
        show_at_least(axis, _POINTS if metric.endswith("%") else _SHARE * mean(abs(run.metric) for run in whole))
    legend_below(figure, figure.axes)
    return figure


def _draw(axis: Axes, kind: str, points: Sequence[tuple[float, float, float, float, str]]) -> None:
    x, y, low, high = (np.array(column) for column in list(zip(*points, strict=True))[:4])
    colour, marker = look_of(kind)
    # Hollow, and every kind a shape of its own: two methods may come to the same point.
    look: dict[str, Any] = {"color": colour, "marker": marker, "label": kind, "mfc": "none"}
    axis.errorbar(x, y, yerr=[y - low, high - y], capsize=2, lw=1, **look)
    for point in points:
        axis.annotate(point[4], point[:2], (4, 4), textcoords="offset points", fontsize=8)


def _whole(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.failure is None and run.evaluations is not None]


def _points(runs: Sequence[Run]) -> Iterator[tuple[float, float, float, float, str]]:
    """Mean evaluations, the metric's mean and range, and the weight, of each method."""
    for method in dict.fromkeys(run.method for run in runs):
        of = [run for run in runs if run.method == method]
        metrics = [run.metric for run in of]
        evaluations = mean(float(run.evaluations or 0) for run in of)
        yield evaluations, mean(metrics), min(metrics), max(metrics), split_weight(method)[1] or ""
