"""One observed solve, from the side of its adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .errors import GradientDisabledError, PenaltyRefusedError
from .fold import Carry, Fold, Values
from .offered import Offered, Passage
from .phases import FORWARD_NAME, Asked, Phase
from .plugins import plugins
from .sampling import Sampling
from .state import Array, State
from .statistics import Replayed, Stats
from .step import Step
from .terms import StepTerm
from .trace import Trace, TraceRow, trace_row

if TYPE_CHECKING:
    from .regularization import regularize


class Solve:
    """One observed solve. An adapter gets it from `open_solve` and fills it in one of two ways.

    A Python loop calls `step` for every attempted step, then `finish()`. A traced loop threads a `Carry`
    through itself with `fold.start` and `fold.update`, then calls `finish(carry, ...)`.

    Attributes:
        adapter: the adapter that opened it.
        fold: the terms that some observation asks for; empty where only statistics are wanted.
        trace_wanted: whether some observation asks for the trace.
        align: whether the reference steps are to be taken.
        checkpoint: whether each step is to be taken once more in the backward pass, which then keeps its states alone.
        phase: why the framework solves: `phase.name` is "forward", "adjoint" or "recomputation".
        evaluations: evaluations of the field so far; the adapter counts them.
        diffusion_evaluations: likewise for the diffusion of an SDE.
        replayed: what was taken once more so far; the adapter counts it.
        sampling: the `LocalSample` terms, where there are any: the adapter calls its `begin`, or refuses them.
    """

    def __init__(
        self,
        adapter: Adapter,
        asked: Asked,
        phase: Phase,
        like: State | None = None,
        regularizer: regularize | None = None,
        random_numbers: Callable[[Any, State], Array] | None = None,
    ) -> None:
        self.adapter = adapter
        samples = asked.samples
        self.sampling = Sampling(adapter, samples, random_numbers, like) if random_numbers is not None else None
        self.fold = Fold(
            tuple(term for term in asked.terms if term not in samples),
            heard=phase.name == FORWARD_NAME,
            derived=adapter.derived,
            kinds=self.sampling.kinds if self.sampling is not None else (),
            constant=adapter.constant,
        )
        self._heard = self.fold.heard_of  # whoever listens from the next solve on, hears of that
        self.trace_wanted = asked.trace
        self.align = asked.align
        self.checkpoint = asked.checkpoint
        self.phase = phase
        self.evaluations: Any = 0
        self.diffusion_evaluations: Any = 0
        self.replayed = Replayed()
        self.abandoned = False
        self._regularizer = regularizer
        self._like = like if self.fold.terms else None  # until there are totals
        self._carry = Carry(0, 0, (), (None,) * len(self.fold.kinds))
        self._sampled: dict[StepTerm, Array] = {}
        self._waiting: list[Step] = []
        self._apart: list[Values] = []
        self._together = 0
        self._rows: list[TraceRow] = []
        self._trace: Trace | None = None
        self._finished = False

    @property
    def terms(self) -> tuple[StepTerm, ...]:
        """The terms that some observation asks for, folded and sampled."""
        return self.fold.terms + (() if self.sampling is None else self.sampling.terms)

    @property
    def measured(self) -> bool:
        """Whether anything beyond counts is asked for, so that a step has to be described in full."""
        return bool(self.fold.terms or self.fold.kinds) or self.trace_wanted

    @property
    def described(self) -> bool:
        """Whether anybody wants to know more of a step than whether it was accepted."""
        return self._heard or self.trace_wanted or bool(self.fold.terms or self.fold.kinds)

    @property
    def shown(self) -> bool:
        """Whether anybody wants to know more of a step that was rejected."""
        return self.trace_wanted or self._heard

    def count(self, accepted: bool) -> None:
        """Counts one attempted step of a Python loop, where steps need not be `described`."""
        carry = self._carry
        counts = (carry.accepted + 1, carry.rejected) if accepted else (carry.accepted, carry.rejected + 1)
        self._carry = Carry(*counts, carry.totals, carry.kept)

    def step(self, step: Step) -> None:
        """Takes one attempted step of a Python loop into account."""
        draws = None if self.sampling is None else self.sampling.draws
        if step.accepted is True and self.fold.terms:
            if self._heard:
                self.fold.hear(step)
            carry = self._carry
            kept = carry.kept if draws is None else self.fold.keep(carry, step, draws)
            self._carry = Carry(carry.accepted + 1, carry.rejected, carry.totals, kept)
            self._waiting.append(step)
            # Now: a term that evaluates the field does so before the solver goes on, and once.
            self._apart.append(self.fold.apart(step))
            self._together = self._together or self.adapter.steps_together(step.y1)
            if len(self._waiting) >= self._together:
                self._add_waiting()
        else:
            if step.accepted is not False:
                self._add_waiting()
            self._carry = self.fold.update(self._carry, step, draws)
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
            carry.kept,
        )
        self._trace = trace
        self._sampled = self._sample()
        self._finished = True
        if plugins().listens("solvertap_solve_finished"):
            name, phase = self.adapter.name, self.phase.name  # what JAX compiles must not hold this solve
            self.adapter.on_host(
                lambda stats: plugins().notify("solvertap_solve_finished", adapter=name, stats=stats, phase=phase),
                self.stats,
            )

    def refuse(self, refusal: PenaltyRefusedError, *, sampled: bool = False) -> None:
        """Says, before the solve starts, that terms would carry no gradient in it.

        Args:
            refusal: why, and what to do.
            sampled: whether those of `LocalSample` would carry none either.

        Raises:
            PenaltyRefusedError: the given one, where somebody insists on a term. What `regularize` offers is left out.
        """
        refused = self.terms if sampled else self.fold.terms
        if any(not isinstance(term, Offered) for term in refused):
            self.abandon()
            raise refusal
        if not isinstance(refusal, GradientDisabledError):  # which is no surprise where a model is evaluated
            for term in refused:
                term.by.left_out[str(refusal)] = None  # type: ignore[attr-defined]  # it is an `Offered`
        self.fold = replace(self.fold, terms=())
        if sampled:
            self.fold, self.sampling = replace(self.fold, kinds=()), None
        self._like = None
        self._carry = Carry(0, 0, (), (None,) * len(self.fold.kinds))

    def through(self, solution: Any) -> Any:
        """The solution for its caller, with the gradient of what `regularize` offers behind it; after `finish`.

        Args:
            solution: whatever `Adapter.inject` takes.
        """
        if self._regularizer is None or self.abandoned:
            return solution
        offered = tuple(term for term in self.terms if isinstance(term, Offered))
        values = tuple(self.values[term] for term in offered)
        passage = Passage(self._regularizer, self.adapter.name, self.phase.name, self.stats, offered, values)
        return self.adapter.inject(solution, passage)

    def abandon(self) -> None:
        """Says that the solve has failed: it counts for nothing."""
        self.abandoned = True
        self._waiting.clear()
        self._apart.clear()

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
        sampled = self._sampled if self._finished else self._sample()
        return {**self.fold.values(self._settled()), **sampled}

    @property
    def stats(self) -> Stats:
        """The counts of this solve."""
        counts = self._carry
        return Stats(1, counts.accepted, counts.rejected, self.evaluations, self.diffusion_evaluations)

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Whatever was counted and summed."""
        return (*self._carry[:2], *self._settled().totals, *self._sampled.values())

    @property
    def trace(self) -> Trace:
        """The trace of this solve, where one was asked for."""
        if self._trace is not None:
            return self._trace
        return Trace.of_rows(self._rows, self.adapter.to_numpy)

    def _sample(self) -> dict[StepTerm, Array]:
        return {} if self.sampling is None else self.sampling.values(self._carry.kept, self._carry.accepted)

    def _settled(self) -> Carry:
        # A solve that nobody finishes (torchdiffeq's `odeint_dense`) may be read, and go on.
        carry = self._carry
        if not self._waiting:
            return carry if self._like is None else carry._replace(totals=self.fold.start(self._like).totals)
        totals = self.fold.add(None if self._like is not None else carry.totals, self._waiting, self._apart)
        return Carry(carry.accepted, carry.rejected, totals, carry.kept)

    def _add_waiting(self) -> None:
        self._carry = self._settled()
        self._waiting, self._apart, self._like = [], [], None
