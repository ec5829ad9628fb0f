"""One observed solve, from the side of its adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from ..steps.arrays import Array, State
from ..steps.entries import does_not_fit
from .batch_fold import fold_of
from .counting import Counting
from .extra_step import ExtraStep
from .fold import Carry
from .framework import Framework
from .injection import Injection, Regularizer
from .listeners import NOBODY, Listeners
from .loop import Loop
from .optional_term import reasons_of
from .place import place
from .request import FORWARD_NAME, Phase, Request
from .reservoir import EachSample
from .ride import Ridden, Ride
from .samples import summed
from .scope import current, scope
from .trace import Trace


class Solve(Counting):
    """One observed solve. An adapter gets it from `open_solve` and fills it in one of two ways.

    A Python loop calls `step` for every attempted step, then `finish()`. A traced loop threads a `Carry`
    through itself, by a `ride`, then calls `finish(ride, carry)`; or one of accepted steps alone by `fold.start` and
    `fold.update`, then `finish(carry, ...)`.

    A batch of solves whose samples take steps of their own is one `Solve`, opened with `batch`, and a Python loop. Its
    steps have one entry for each sample; so have `values`, `stats` and `trace`.

    Attributes:
        adapter: the adapter that opened it.
        batch: how many samples take steps of their own, where a batch was opened; else None.
        fold: the requested terms; none where only statistics are wanted.
        extra_step: of the `LocalSample` terms, where there are any: the adapter calls its `begin`, or refuses them.
        replay: of the terms that were postponed, where there are any: the adapter calls its `begin`, or refuses them.
        replays: whether its adapter takes steps again, so that a refusal may name `replay=True`.
        trace_wanted: whether a trace is requested; where it is bounded, the number of its rows.
        by, groups: whose shares of the error are requested, and how the state is divided among them; see `divide`.
        shared: whether any are; with an empty `by` those that are cheap.
        align: whether the reference steps must be taken.
        checkpoint: whether the backward pass must recompute each step, so that only its states are kept.
        phase: why the framework solves: `phase.name` is "forward", "adjoint" or "recomputation".
        counts: the solver's own evaluations so far; the adapter counts them.
        measuring: the evaluations that terms added. Those during `step`, `finish` and a `counted_as_measuring()` block
            are counted here by themselves; a traced loop sets them.
        recomputed: what a backward pass has evaluated again so far; the adapter counts it.
        method: the name that the library gives the method, such as "dopri5"; the adapter may set it.
        facts: of a traced solve, what is the same for every step; the adapter sets it where a loop is traced.
        place: of a traced solve, where it stands in the caller's own code; of one in a backward pass for it, the same.
        random_layers: the parts of a traced solve's field that give two answers at one place; the adapter may set it.
        left_out: why the solve goes without an optional term, each reason once.
        closed: whether the steps cannot be seen, so that `stats` has None for them; the adapter sets it.
        abandoned: whether it failed.
        finished: whether the adapter has ended it; one that never does is read as far as it got.
        trains: whether a backward pass through it may be one that trains; an adapter clears it where it cannot.
    """

    def __init__(
        self,
        adapter: Framework,
        request: Request,
        phase: Phase,
        like: State | None = None,
        *,
        regularizer: Regularizer | None = None,
        random_numbers: Callable[[Any, State], Array] | None = None,
        listeners: Listeners = Listeners(),  # noqa: B008  # immutable
        batch: int | None = None,
        replays: bool = False,
    ) -> None:
        fold = fold_of(adapter, request, listeners.on_step, traced=like is None, batch=batch)
        extra_step = None
        if random_numbers is not None:
            numbers = random_numbers if batch is None else EachSample(random_numbers, batch)
            extra_step = ExtraStep(adapter, request.samples, numbers, like, fold)
            fold = replace(fold, kinds=extra_step.kinds)
        super().__init__(adapter, request, Loop(fold, adapter, like), extra_step, like, batch, replays)
        self.phase = phase
        self.method = ""
        self.trains = True
        self._listeners = listeners
        self._regularizer = regularizer
        self._start = None if regularizer is None else like  # for the injection; optional terms may be left out

    def finish(
        self,
        carry: Carry | Ride | None = None,
        ridden: Ridden | None = None,
        *,
        accepted: Any | None = None,
        rejected: Any | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Ends the solve.

        Args:
            carry: of a traced loop, its ride; or its carry of accepted steps.
            ridden: with a ride, the carry that came out of the loop.
            accepted, rejected, trace: what such a carry does not have.

        Raises:
            StepError: a traced loop gives none, or one that is not of `fold`, or a Python loop gives one.
        """
        if self.finished or self.abandoned:
            return
        if isinstance(carry, Ride):
            carry, trace = carry.end(cast(Ridden, ridden), self.replay)
        self._check.ending(self.fold, carry)
        self._loop.settle()
        carry = self._loop.counted if carry is None else carry
        self._loop.counted = Carry(
            carry.accepted if accepted is None else accepted,
            carry.rejected if rejected is None else rejected,
            carry.totals,
            carry.reservoirs,
        )
        self._trace = trace
        self._taken_after = self._take_after()
        self.finished = True
        self._check.close()
        self._let_go()
        if self._listeners != NOBODY:
            self._listeners.ended(self)

    def through(self, solution: Any) -> Any:
        """The solution for the caller, with the gradient of the optional terms behind it; after `finish`.

        Args:
            solution: whatever `Framework.inject` takes.

        Raises:
            StepError: the solve has not finished.
        """
        if self._regularizer is None or self.abandoned:
            return solution
        if not self.finished:
            found = "let a solution through before its solve had finished"
            does_not_fit(self.adapter.name, found, "call `through` after `finish`, or behind the block of the solve")
        terms = tuple(term for term in self.terms if term.optional)
        start, self._start = self._start, None
        values = self.over_samples(self._regularizer.batch)
        injection = Injection(
            by=self._regularizer,
            adapter=self.adapter.name,
            phase=self.phase.name,
            stats=summed(self.stats, self.adapter.to_numpy),
            terms=terms,
            values=tuple(values[term] for term in terms),
            start=start,
            place=place() if terms else "",
            trains=self.trains,
            method=self.method,
            left_out=tuple(dict.fromkeys((*self.left_out, *reasons_of(self.adapter, self.method, terms)))),
        )
        return self.adapter.inject(solution, injection)

    def hold(self, h: Any) -> Any:
        """The step size, without gradient where a term is requested.

        A term holds every step size fixed. A solver that differentiates its step sizes has its bare gradient where
        only counts or a trace are requested; under a term this path is cut.
        """
        return self.adapter.constant(h) if self.fold.terms else h

    def abandon(self) -> None:
        # torch/utils/checkpoint.py ends a recomputation by an exception, where it has all that it needs.
        if self._regularizer is not None and not self.abandoned and self.phase.name == FORWARD_NAME:
            self._regularizer.failed += 1
        super().abandon()

    def __enter__(self) -> Solve:
        self._found = current()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the solve of a loop: finished if it came through, abandoned if it raised or was abandoned inside."""
        scope.set(self._found)  # an interrupt may have left an `unobserved` block inside open
        del self._found  # it holds the observers, which hold this solve
        if kind is not None:
            self.abandon()
        elif not self.abandoned:
            try:
                self.finish()
            except BaseException:
                self.abandon()
                raise
