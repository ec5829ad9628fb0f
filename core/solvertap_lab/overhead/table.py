"""The table of what observing costs.

Each observed step is timed beside a bare one, in turn, so that a drift of the machine meets both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from solvertap import LocalError, Stiffness, attach, detach, observe
from solvertap.cli.explain import explaining
from solvertap.solves.look import PLAIN, legend_below, marker_of

from ..results.looks import look_of, write_pictures
from ..results.record import describe_machine
from ..results.tabular import markdown_table
from .cases import ADJOINTS, CASES, EXPLAINED, LONG, SHORT, Case
from .jax_step import annealed_compilations, jax_step
from .step import Block, Step
from .torch_step import torch_step

_PAIRS = 15
_LONG_PAIRS = 5
_SHORT_PAIRS = 45
_AT_LEAST = 0.05  # seconds; a step that is shorter is taken several times, or the machine's own rhythm would be timed
_COMPILATIONS = 3
_ANNEALED_STEPS = 50
_BOTH = LocalError() + Stiffness()
_OBSERVED: dict[str, Callable[[], Any]] = {
    "idle": nullcontext,  # the bare step, while the taps are attached
    "statistics": observe,
    "local error": partial(observe, LocalError()),
    "stiffness": partial(observe, Stiffness()),
    "both": partial(observe, _BOTH),
    "explained": nullcontext,
}
_AROUND = {"explained": explaining}  # the program, as `solvertap explain` does
_CHECKPOINTED: dict[str, Callable[[], Any]] = {
    "both": partial(observe, _BOTH),
    "both, checkpoint": partial(observe, _BOTH, checkpoint=True),
}
_REPLAYED: dict[str, Callable[[], Any]] = {"both, replay": partial(observe, _BOTH, replay=True)}
_OVER_STORED = "both, replay, over odeint"  # which stores the graph of every step, instead of over the bare adjoint
_KINDS = (*(_OBSERVED | _CHECKPOINTED | _REPLAYED), _OVER_STORED)
_HEADINGS = ("backend", "problem", "observed", "time", "quartiles", "peak memory", "compilation")
Row = tuple[Case, str, tuple[float, float, float], float, float | None]


def main(out: str | None = None, backend: str | None = None, kind: str | None = None) -> None:
    """Measures every case and prints one table; writes it, and a picture, into a folder if one is given.

    Args:
        out: the folder.
        backend: the only one whose cases are measured; None for all of them.
        kind: the only way of observing that is measured, such as "explained"; None for all of them.
    """
    cases = [
        case
        for case in (*CASES, *EXPLAINED, *SHORT, LONG, *ADJOINTS)
        if backend in (None, case.backend) and kind in (None, *_kinds(case))
    ]
    rows = [row for case in track(cases, description="measuring") for row in _rows(case, kind)]
    cells = [_cells(*row) for row in rows]
    table = Table(*_HEADINGS, title="one training step, observed over bare")
    for row in cells:
        table.add_row(*row)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    console.print(footnote := _footnote())
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["# What observing costs", "", markdown_table(_HEADINGS, cells), "", footnote, ""]
        (folder / "table.md").write_text("\n".join(lines))
        for path in (folder / "table.md", *write_pictures(folder / "overhead.png", partial(_picture, rows))):
            console.print(f"wrote {path}")


def _rows(case: Case, only: str | None) -> list[Row]:
    rows = []
    for kind, block in _kinds(case).items():
        if only not in (None, kind):
            continue
        # An idle step compiles what the bare one does.
        compiles = _COMPILATIONS if case.backend == "diffrax" and case not in SHORT and kind != "idle" else 1
        # In turn: the longer a process lives, the longer it takes to trace.
        bare_case = replace(case, adjoint=case.adjoint and kind != _OVER_STORED)
        with _AROUND.get(kind, nullcontext)():
            pairs = [(_bare(bare_case), _observed(case, block)) for _ in range(compiles)]
            bare, observed = pairs[0]
            ratios = _ratios(observed.run, bare.run, _pairs(case))
        compilation = median(b.compile_seconds / a.compile_seconds for a, b in pairs) if compiles > 1 else None
        rows.append((case, kind, ratios, observed.peak_bytes / bare.peak_bytes, compilation))
    return rows


def _kinds(case: Case) -> dict[str, Callable[[], Any]]:
    if case in EXPLAINED:
        return {"explained": nullcontext}
    if not case.adjoint:
        return _CHECKPOINTED if case is LONG else _OBSERVED
    return _REPLAYED | ({_OVER_STORED: _REPLAYED["both, replay"]} if case.steps is not None else {})


def _bare(case: Case) -> Step:
    detach()
    return _step(case, nullcontext)


def _observed(case: Case, block: Block) -> Step:
    attach()
    return _step(case, block)


def _step(case: Case, block: Block) -> Step:
    return jax_step(case, block) if case.backend == "diffrax" else torch_step(case, block)


def _pairs(case: Case) -> int:
    return _LONG_PAIRS if case.steps is not None else _SHORT_PAIRS if case in SHORT else _PAIRS


def _cells(
    case: Case, kind: str, time: tuple[float, float, float], memory: float, compilation: float | None
) -> list[str]:
    low, middle, high = (f"{x:.3f}" for x in time)
    compiled = "-" if compilation is None else f"{compilation:.2f}"
    return [case.backend, case.label, kind, middle, f"{low} to {high}", f"{memory:.3f}", compiled]


def _footnote() -> str:
    return (
        f"Time: medians of {_PAIRS} pairs taken in turn ({_LONG_PAIRS} of the long solve, "
        f"{_SHORT_PAIRS} of the short ones, which take 2 to 5 steps), forwards and backwards; those of an adjoint "
        "over the bare adjoint, unless it says otherwise. "
        "Peak memory: the most that is held at any time of the step in torch, all temporary memory of the compiled "
        f"step in JAX. Compilation: tracing and compiling, medians of {_COMPILATIONS} pairs. Compilations over "
        f"{_ANNEALED_STEPS} steps with an annealed weight: {annealed_compilations(_ANNEALED_STEPS)}. "
        f"Measured with {describe_machine()}."
    )


def _picture(rows: list[Row]) -> Figure:
    labels = list(dict.fromkeys(_label(case) for case, *_ in rows))
    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(1.0, color=PLAIN, linewidth=0.8)
    for i, kind in enumerate(_KINDS):
        times = [time for _, k, time, *_ in rows if k == kind]
        places = [labels.index(_label(case)) + (i - 2.5) * 0.12 for case, k, *_ in rows if k == kind]
        middles = [middle for _, middle, _ in times]
        spread = [[m - low for low, m, _ in times], [high - m for _, m, high in times]]
        colour = PLAIN if kind == "idle" else look_of(kind)[0]
        axes.errorbar(places, middles, yerr=spread, label=kind, capsize=2, color=colour, fmt=marker_of(i))
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(ylabel="time of a training step (bare step = 1)", title="observed over bare: median and quartiles")
    legend_below(figure, [axes], columns=len(_KINDS))
    return figure


def _label(case: Case) -> str:
    return f"{case.backend}\n" + case.label.replace(", ", "\n")


def _ratios(observed: Callable[[], Any], bare: Callable[[], Any], pairs: int) -> tuple[float, float, float]:
    for step in (bare, observed, bare):
        seconds = _seconds(step, 1)  # of the last one everything is warm
    times = max(1, round(_AT_LEAST / seconds))
    ratios = []
    for _ in range(pairs):
        detach()
        seconds = _seconds(bare, times)
        attach()
        ratios.append(_seconds(observed, times) / seconds)
    low, _, high = quantiles(ratios, n=4)
    return low, median(ratios), high


def _seconds(step: Callable[[], Any], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        step()
    return time.perf_counter() - started
