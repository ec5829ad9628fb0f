"""What observing costs: training steps observed and bare, as ratios in one run. `make bench` prints the table.

Each observed step is timed beside a bare one, in turn, so that a drift of the machine meets both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..attachment import attach, detach
from ..blocks import observe
from ..builtin_terms import LocalError, Stiffness
from ..pictures import colour_of
from ..terms import Term
from .overhead_steps import CASES, Case
from .report import describe_machine

_PAIRS = 25
_COMPILATIONS = 3
# None observes the counts alone; the idle step is the bare one while the taps are attached.
_OBSERVED: dict[str, Term | None] = {
    "statistics": None,
    "local error": LocalError(),
    "stiffness": Stiffness(),
    "both": LocalError() + Stiffness(),
}
_KINDS = ("idle", *_OBSERVED)
_HEADINGS = ("backend", "problem", "observed", "time", "quartiles", "memory", "compilation")
Row = tuple[Case, str, tuple[float, float, float], float, float | None]


def main(out: str | None = None) -> None:
    """Measures every case and prints one table; writes it, and a picture, into a folder if one is given."""
    rows = [_row(case, kind) for case, kind in track([(c, k) for c in CASES for k in _KINDS], description="measuring")]
    cells = [_cells(*row) for row in rows]
    table = Table(*_HEADINGS, title="one training step, observed over bare")
    for row in cells:
        table.add_row(*row)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    console.print(_footnote())
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["| " + " | ".join(row) + " |" for row in (_HEADINGS, ["---"] * len(_HEADINGS), *cells)]
        (folder / "table.md").write_text("\n".join(["# What observing costs", "", *lines, "", _footnote(), ""]))
        _picture(rows).savefig(folder / "overhead.png", dpi=120)
        console.print(f"wrote {folder}/table.md and {folder}/overhead.png")


def _row(case: Case, kind: str) -> Row:
    block = nullcontext if kind == "idle" else partial(observe, _OBSERVED[kind])
    pairs = [
        (case.step(nullcontext), case.step(block)) for _ in range(_COMPILATIONS if case.backend == "diffrax" else 1)
    ]
    bare, observed = pairs[0]
    compilation = None
    if case.backend == "diffrax":
        compilation = median(b.compile_seconds for _, b in pairs) / median(a.compile_seconds for a, _ in pairs)
    return case, kind, _ratios(observed.run, bare.run), observed.kept_bytes / bare.kept_bytes, compilation


def _cells(
    case: Case, kind: str, time: tuple[float, float, float], memory: float, compilation: float | None
) -> list[str]:
    low, middle, high = (f"{x:.3f}" for x in time)
    compiled = "-" if compilation is None else f"{compilation:.2f}"
    return [case.backend, case.label, kind, middle, f"{low} to {high}", f"{memory:.3f}", compiled]


def _footnote() -> str:
    return (
        f"Time: medians of {_PAIRS} pairs taken in turn, forwards and backwards. Memory: what is kept for the backward "
        "pass in torch, all temporary memory of the compiled step in JAX. Compilation: tracing and compiling, medians "
        f"of {_COMPILATIONS}. Measured with {describe_machine()}."
    )


def _picture(rows: list[Row]) -> Figure:
    labels = list(dict.fromkeys(f"{case.backend}\n{case.label}" for case, *_ in rows))
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for i, kind in enumerate(_KINDS):
        times = [time for _, k, time, *_ in rows if k == kind]
        places = [place + (i - 2) * 0.17 for place in range(len(labels))]
        middles = [middle for _, middle, _ in times]
        spread = [[m - low for low, m, _ in times], [high - m for _, m, high in times]]
        axes.errorbar(places, middles, yerr=spread, fmt="o", color=colour_of(i), label=kind, capsize=2)
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(ylabel="observed / bare", title="one training step, forwards and backwards: median and quartiles")
    axes.legend()
    return figure


def _ratios(observed: Callable[[], Any], bare: Callable[[], Any]) -> tuple[float, float, float]:
    ratios = []
    for place in range(_PAIRS + 2):
        detach()
        seconds = _seconds(bare)
        attach()
        ratio = _seconds(observed) / seconds
        if place >= 2:  # by then everything is warm
            ratios.append(ratio)
    low, _, high = quantiles(ratios, n=4)
    return low, median(ratios), high


def _seconds(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(*sys.argv[1:])
