"""Drawing traces and comparisons. Needs matplotlib, which the extra `cli` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .experiments.comparison import Run

_PANELS = {"h": "step size |h|", "local_error": "local error E", "stiffness": "stiffness S"}
_MARKERS = "os^Dv"


def plot_trace(traces: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Step size, local error and stiffness along solves; rejected steps are hollow.

    Args:
        traces: `Trace.numpy()` by label; an empty label draws no legend.
    """
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    _draw_traces([figure.add_subplot(1, 3, place) for place in (1, 2, 3)], traces, list(range(len(traces))))
    return figure


def plot_comparison(runs: Sequence[Run], title: str) -> Figure:
    """Evaluations over training, and what the final solve looks like, for one seed of each backend and method.

    One row for each backend, one colour for each method.
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
            colour = _colour(methods.index(method))
            axes[0].plot(range(1, len(counts) + 1), counts, color=colour, label=method)
        axes[0].set(title=f"{backend}: evaluations per training solve", xlabel="epoch", ylim=(0, None))
        axes[0].legend()
        _draw_traces(axes[1:], {m: first[backend, m].trace for m in present}, [methods.index(m) for m in present])
    return figure


def _draw_traces(axes: Sequence[Axes], traces: Mapping[str, Mapping[str, Any]], colours: Sequence[int]) -> None:
    for axis, (name, title) in zip(axes, _PANELS.items(), strict=True):
        shown = False
        for (label, trace), place in zip(traces.items(), colours, strict=True):
            t = np.asarray(trace["t"], dtype=float)
            values = np.abs(np.asarray(trace[name], dtype=float))
            accepted = np.asarray(trace["accepted"], dtype=bool)
            shown |= bool(np.any(values > 0))
            colour, marker = _colour(place), _MARKERS[place % len(_MARKERS)]
            axis.plot(t[accepted], values[accepted], marker=marker, ms=4, lw=1, color=colour, label=label)
            axis.plot(t[~accepted], values[~accepted], marker, ms=5, mfc="none", color=colour)
        axis.set(
            title=f"{title}, final solve" if any(traces) else title, xlabel="t", yscale="log" if shown else "linear"
        )
        if any(traces):
            axis.legend()


def _colour(place: int) -> Any:
    return mpl.colormaps["tab10"](place % 10)
