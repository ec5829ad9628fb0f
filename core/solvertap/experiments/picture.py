"""The picture of a comparison. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ..pictures import colour_of, draw_traces
from .comparison import Run


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
            colour = colour_of(methods.index(method))
            axes[0].plot(range(1, len(counts) + 1), counts, color=colour, label=method)
        axes[0].set(title=f"{backend}: evaluations per training solve", xlabel="epoch", ylim=(0, None))
        axes[0].legend()
        draw_traces(
            axes[1:],
            {m: first[backend, m].trace for m in present},
            [methods.index(m) for m in present],
            of="final solve",
        )
    return figure
