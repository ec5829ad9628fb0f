"""One observed solve, from the side of its adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from .adapter import Adapter
from .measures import step_sizes
from .phases import FORWARD_NAME, Asked, Phase
from .plugins import plugins
from .safe import nan_unless, real_dtype
from .state import Array, State, parts
from .statistics import Stats
from .step import Step, guarded
from .terms import StepTerm
from .trace import Trace, TraceRow, trace_row

Derived = Callable[[Sequence[StepTerm], Sequence[Step]], "Sequence[Array] | None"]


class Carry(NamedTuple):
    """What a fold carries from step to step: two counts and one scalar for each term."""

    accepted: Any
    rejected: Any
    totals: tuple[Array, ...]


@dataclass(frozen=True)
class Fold:
    """The terms of a solve as a pure fold over its steps, for a Python loop and for `lax.while_loop` alike.

    It holds no array and hashes by its terms, so it may be a static argument of a compiled function.

    Attributes:
        terms: what is folded.
        heard: whether observers hear of the steps: of those of the forward pass, each of them once.
        derived: `Adapter.derived`.
    """

    terms: tuple[StepTerm, ...]
    heard: bool = True
    derived: Derived | None = None

    def start(self, like: State) -> Carry:
        """The carry before the first step, with the real dtype and the device of a state."""
        first = parts(like)[0]
        xp = array_namespace(first)
        zero = xp.zeros((), dtype=real_dtype(first), device=device(first))
        return Carry(0, 0, tuple(term.start(zero) for term in self.terms))

    @property
    def heard_of(self) -> bool:
        """Whether anybody listens to the steps."""
        return self.heard and plugins().listens("solvertap_step")

    def hear(self, step: Step) -> None:
        """Tells observers of an attempted step."""
        if self.heard_of:
            plugins().notify("solvertap_step", step=step)

    def update(self, carry: Carry, step: Step) -> Carry:
        """The carry after one more attempted step; a rejected one only counts."""
        self.hear(step)
        if step.accepted is False:
            return carry._replace(rejected=carry.rejected + 1)
        totals = self.add(carry.totals, (step,))
        if step.accepted is True or step.accepted is None:
            return carry._replace(accepted=carry.accepted + 1, totals=totals)
        xp = array_namespace(step.accepted)
        return Carry(
            carry.accepted + xp.where(step.accepted, 1, 0),
            carry.rejected + xp.where(step.accepted, 0, 1),
            tuple(xp.where(step.accepted, new, old) for new, old in zip(totals, carry.totals, strict=True)),
        )

    def add(self, totals: tuple[Array, ...], steps: Sequence[Step]) -> tuple[Array, ...]:
        """The totals after one more step that is kept, or after several of them where every term has a gradient."""
        first = steps[0]
        told = [term for term in self.terms if term.has_gradient(first)] if self.derived is not None else []
        found = self.derived(told, steps) if self.derived is not None and told else None
        values = dict(zip(told, found, strict=True)) if found is not None else {}
        if len(values) < len(self.terms):
            values |= _measured([term for term in self.terms if term not in values], first)
        h = step_sizes(steps)
        return tuple(term.update(total, values[term], h) for term, total in zip(self.terms, totals, strict=True))

    def values(self, carry: Carry) -> Mapping[StepTerm, Array]:
        """The value of each term after the steps folded so far."""
        pairs = zip(self.terms, carry.totals, strict=True)
        return {term: term.value(total, carry.accepted) for term, total in pairs}


class Solve:
    """One observed solve. An adapter gets it from `open_solve` and fills it in one of two ways.

    A Python loop calls `step` for every attempted step, then `finish()`. A traced loop threads a `Carry`
    through itself with `fold.start` and `fold.update`, then calls `finish(carry, ...)`.

    Attributes:
        adapter: the adapter that opened it.
        fold: the terms that some observation asks for; empty where only statistics are wanted.
        trace_wanted: whether some observation asks for the trace.
        align: whether the reference steps are to be taken.
        phase: why the framework solves: `phase.name` is "forward", "adjoint" or "recomputation".
        evaluations: evaluations of the field so far; the adapter counts them.
        diffusion_evaluations: likewise for the diffusion of an SDE.
    """

    def __init__(
        self,
        adapter: Adapter,
        asked: Asked,
        phase: Phase,
        like: State | None = None,
    ) -> None:
        self.adapter = adapter
        self.fold = Fold(asked.terms, heard=phase.name == FORWARD_NAME, derived=adapter.derived)
        self.trace_wanted = asked.trace
        self.align = asked.align
        self.phase = phase
        self.evaluations: Any = 0
        self.diffusion_evaluations: Any = 0
        self.abandoned = False
        self._carry = Carry(0, 0, ()) if like is None else self.fold.start(like)
        self._waiting: list[Step] = []
        self._together = 0
        self._rows: list[TraceRow] = []
        self._trace: Trace | None = None
        self._finished = False

    @property
    def measured(self) -> bool:
        """Whether anything beyond counts is asked for, so that a step has to be described in full."""
        return bool(self.fold.terms) or self.trace_wanted

    def step(self, step: Step) -> None:
        """Takes one attempted step of a Python loop into account."""
        if step.accepted is True and self.fold.terms:
            self.fold.hear(step)
            self._carry = self._carry._replace(accepted=self._carry.accepted + 1)
            self._waiting.append(step)
            self._together = self._together or self._steps_together(step)
            if len(self._waiting) >= self._together:
                self._add_waiting()
        else:
            self._carry = self.fold.update(self._carry, step)
        if self.trace_wanted:
            self._rows.append(trace_row(step, self.adapter.constant))

    def finish(
        self,
        carry: Carry | None = None,
        *,
        accepted: Any | None = None,
        rejected: Any | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Says that the solve has ended. A traced loop gives its carry, and counts that the carry cannot know."""
        if self._finished:
            return
        self._add_waiting()
        carry = self._carry if carry is None else carry
        self._carry = Carry(
            carry.accepted if accepted is None else accepted,
            carry.rejected if rejected is None else rejected,
            carry.totals,
        )
        self._trace = trace
        self._finished = True
        if plugins().listens("solvertap_solve_finished"):
            plugins().notify(
                "solvertap_solve_finished", adapter=self.adapter.name, stats=self.stats, phase=self.phase.name
            )

    def abandon(self) -> None:
        """Says that the solve has failed: it counts for nothing."""
        self.abandoned = True
        self._waiting.clear()

    def __enter__(self) -> Solve:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the solve of a Python loop: finished if it came through, abandoned if it raised."""
        if kind is None:
            self.finish()
        else:
            self.abandon()

    @property
    def values(self) -> Mapping[StepTerm, Array]:
        """The value of each term so far."""
        return self.fold.values(self._settled())

    @property
    def stats(self) -> Stats:
        """The counts of this solve."""
        counts = self._carry
        return Stats(1, counts.accepted, counts.rejected, self.evaluations, self.diffusion_evaluations)

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Whatever was counted and summed."""
        return (*self._carry[:2], *self._settled().totals)

    @property
    def trace(self) -> Trace:
        """The trace of this solve, where one was asked for."""
        if self._trace is not None:
            return self._trace
        return Trace.of_rows(self._rows, self.adapter.to_numpy)

    def _steps_together(self, step: Step) -> int:
        every = all(term.has_gradient(step) for term in self.fold.terms)
        return self.adapter.steps_together(step.y1) if every else 1

    def _settled(self) -> Carry:
        # A solve that nobody finishes (torchdiffeq's `odeint_dense`) may be read, and go on.
        if not self._waiting:
            return self._carry
        return self._carry._replace(totals=self.fold.add(self._carry.totals, self._waiting))

    def _add_waiting(self) -> None:
        self._carry, self._waiting = self._settled(), []


def _measured(terms: Sequence[StepTerm], step: Step) -> dict[StepTerm, Array]:
    if step.accepted is True:
        return {term: term.measure(step) for term in terms}
    harmless, finite = guarded(step)
    return {term: nan_unless(finite, term.measure(harmless)) for term in terms}
