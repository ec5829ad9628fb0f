"""How an adapter opens a solve for its observers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..attaching.adapter import Adapter
from ..plugins.registry import plugins
from ..solves.framework import FallbackKey
from ..solves.injection import Regularizer
from ..solves.listeners import Listeners, Traced
from ..solves.place import place
from ..solves.request import FORWARD_NAME, NO_REQUEST, Phase, Request
from ..solves.scope import NOBODY, UNSEEN, Observer, Scope, current
from ..solves.solve import Solve
from ..solves.stats import Stats
from ..solves.within import Entered, Within
from ..steps.arrays import State
from ..steps.step import Step
from .regularize import regularize, regularizing
from .serving import check_batch, served

ROWS = 512
"""So many attempts of a compiled solve are traced for a plugin that listens to traces."""


def open_solve(adapter: Adapter, like: State | None = None, batch: int | None = None) -> Solve | None:
    """Begins an observed solve; None where nobody observes. Adapters call it once for each solve.

    An observation of statistics alone does not see a solve that is traced deeper than itself.

    Args:
        adapter: the adapter that calls.
        like: the initial state, where the solve is a Python loop that will call `Solve.step`.
        batch: the number of samples, where each takes steps of its own: `like` has them along its first axis, and so
            has every step; see `Step`.

    Raises:
        EscapedTraceError: a term or a trace is requested, and the solve is traced deeper than its observation.
        AlignError, CheckpointError, NoEstimateError: the reference steps, checkpoints or a `LocalSample` are requested,
            and the adapter does not declare that it serves them.
        StepError: `like` is no state, or has no such batch, or the adapter does not declare that it serves batches.
        InvalidInputError: the key has no random numbers, or the shares of samples are asked for, and there are none.
    """
    here = current()
    regularizer = _regularizer(here)
    observers = tuple(observer for observer in here.observers if observer.sees(adapter))
    if regularizer is None and not observers and here.phase.request == NO_REQUEST:
        return None
    if batch is not None:
        check_batch(adapter, like)
    left_out: dict[str, None] = {}
    listeners = _listeners(adapter.name, here.phase)
    request = _request(here, observers, traced=not adapter.counts_are_numbers)
    if listeners.on_traced is not None and adapter.serves.trace and here.phase.name == FORWARD_NAME:
        request = request + Request(trace=ROWS, shared=True)
    request = served(adapter, request, left_out)
    solve = Solve(
        adapter,
        request,
        here.phase,
        like,
        regularizer=regularizer,
        random_numbers=adapter.numbers(*_key(observers, request, regularizer)) if request.samples else None,
        listeners=listeners,
        batch=batch,
        replays=adapter.serves.replay,
    )
    solve.place = place() if request.trace else here.phase.place
    if not adapter.serves.terms:
        solve.postpone()
    solve.left_out |= left_out
    if like is not None:
        solve.divide(like)
    for observer in observers:
        observer.opened.append(solve)
    plugins().notify("solvertap_solve_started", solve=solve)
    return solve


def later(phase: str) -> Callable[[], Within]:
    """Makes a block for what a framework solves in its backward pass, counted as a phase of its own.

    An adapter makes it in the forward pass and enters it in the backward pass, where the block that observes may
    be closed and another thread at work. A recomputation repeats the request of the forward pass, operation by
    operation, because the framework compares the two; its values are not used.

    Enter it by `again().call(function, ...)` where you can, else by `with again():`, which an interrupt may leave open.

    Args:
        phase: "adjoint" or "recomputation".
    """
    here = current()
    repeats = phase == "recomputation"
    request = _request(here, here.observers, traced=False) if repeats else NO_REQUEST
    regularizer = _regularizer(here) if repeats else None
    traced = plugins().listens("solvertap_solve_traced") or any(each.request.trace for each in here.observers)
    return Entered(Phase(phase, request, place() if traced else "", regularizer), here.observers).again


def _regularizer(here: Scope) -> regularize | None:
    return None if here.phase is UNSEEN.phase else here.phase.regularizer or regularizing()


def _request(here: Scope, observers: tuple[Observer, ...], traced: bool) -> Request:
    phase = here.phase
    regularizer = regularizing()
    # The phase itself has the requests of those who began before it.
    request = phase.request
    if regularizer is not None and phase is NOBODY.phase:
        request = request + Request(regularizer.optional_terms(traced))
    for observer in observers:
        if observer.phase is phase:
            request = request + observer.request
    return request


def _key(observers: tuple[Observer, ...], request: Request, regularizer: Regularizer | None) -> tuple[Any, int]:
    """The key that a solve draws by, and the number of the solve among those that draw by it."""
    for observer in reversed(observers):
        if observer.key is not None:
            return observer.key, len(observer.opened)
    if regularizer is not None and all(term.optional for term in request.samples):
        return FallbackKey(regularizer.k), 0
    return None, 0


def _listeners(adapter: str, phase: Phase) -> Listeners:
    # What JAX compiles holds these: they hold no solve.
    found = plugins()
    return Listeners(
        _tell_step if phase.name == FORWARD_NAME and found.listens("solvertap_step") else None,
        partial(_tell_finished, adapter, phase.name, phase.place)
        if found.listens("solvertap_solve_finished")
        else None,
        _tell_traced if found.listens("solvertap_solve_traced") else None,
    )


def _tell_step(step: Step) -> None:
    plugins().notify("solvertap_step", step=step)


def _tell_finished(adapter: str, phase: str, where: str, stats: Stats) -> None:
    plugins().notify("solvertap_solve_finished", adapter=adapter, stats=stats, phase=phase, place=where)


def _tell_traced(traced: Traced) -> None:
    plugins().notify("solvertap_solve_traced", traced=traced)
