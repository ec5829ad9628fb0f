"""The hooks, in the order in which they are called. docs/plugins.md has a section for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pluggy

from ..attaching.adapter import Adapter
from ..solves.listeners import Traced
from ..solves.solve import Solve
from ..solves.stats import Stats
from ..steps.step import Step
from ..terms.term import Term

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker("solvertap")
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker("solvertap")


@hookspec
def solvertap_adapters() -> Iterable[Adapter]:  # type: ignore[empty-body]  # a specification has no body
    """The adapters this plugin brings."""


@hookspec
def solvertap_terms() -> Mapping[str, Term]:  # type: ignore[empty-body]  # a specification has no body
    """The named terms this plugin brings, for the command line."""


@hookspec
def solvertap_problems() -> Mapping[str, Callable[[], Any]]:  # type: ignore[empty-body]  # a specification has no body
    """The named problems this plugin brings, for `solvertap compare`: functions that make them."""


@hookspec
def solvertap_commands() -> Iterable[Callable[..., None]]:  # type: ignore[empty-body]  # a specification has no body
    """The commands this plugin adds to the command line: functions that Typer can read."""


@hookspec
def solvertap_solve_started(solve: Solve) -> None:
    """An observed solve is about to start."""


@hookspec
def solvertap_step(step: Step) -> None:
    """An observed solve has attempted a step of the forward pass. In JAX: during tracing, with traced values."""


@hookspec
def solvertap_solve_finished(adapter: str, stats: Stats, phase: str, place: str) -> None:
    """An observed solve has ended. The phase is "forward" or, in a backward pass, "adjoint" or "recomputation".

    In a backward pass the place is that of its forward solve in the caller's code, if that is traced; else it is empty.

    In JAX the hook is called each time the compiled program has run, with numbers, once for each solve of a mapped
    batch.
    """


@hookspec
def solvertap_solve_traced(traced: Traced) -> None:
    """An observed solve of the forward pass has ended. Where a plugin implements this, every one keeps its trace.

    In JAX as `solvertap_solve_finished`; in a batch once for each sample.
    """


@hookspec
def solvertap_budget_updated(state: Any) -> None:
    """A budget has a new weight: its `BudgetState`, under `regularize`, or from `budget.update`.

    `budget.updated`, which may be traced, calls no hook: there the state is the caller's to log.
    """
