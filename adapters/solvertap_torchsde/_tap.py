"""The tap between the loop of one solve of torchsde and its solver, and its steps as `Step`s."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from solvertap import Step, unobserved
from solvertap.adapting import Solve
from solvertap.errors import AlignError, FixedStepError
from solvertap_torch.exchanged import exchanged
from solvertap_torch.memory import Memory
from solvertap_torch.recompute import Recompute

from ._begun import pop_mark
from ._brownian import path_restored, with_path_restored
from ._counting import EvaluationCounter
from ._method import method_of
from ._read import adaptive_step, fixed_step
from ._subclasses import unseen_steps


class Tap(EvaluationCounter):
    """Stands between the loop of one solve and its solver for the length of a block."""

    def __init__(self, solver: Any, solve: Solve, y0: Any) -> None:
        super().__init__(solver, solve.counts)
        self.checkpoint = Recompute.of(solve, y0)
        self.solve = solve
        self.take_step = solver.step
        self.aligned = False  # whether the loop takes the reference steps
        self.calls = 0
        self.before = solve.counts.evaluations + solve.counts.diffusion_evaluations
        self.results: list[Any] = []
        self.drifts: list[Any] = []
        self.unsure = method_of(solver) is None and (solve.fold.needs_step_doubling or solve.extra_step is not None)
        self.pending: list[Any] = []  # the last attempt until it is settled

    @classmethod
    def of(cls, solver: Any) -> Tap | None:
        """The tap between a solver and its loop now, if any."""
        found = getattr(vars(solver).get("step"), "__self__", None)
        return found if isinstance(found, cls) else None

    def __enter__(self) -> Tap:
        self.shadow(self.solver, "step", self.step if self.solver.adaptive else self.fixed_step)
        super().__enter__()
        return self

    def __exit__(self, kind: Any = None, *others: object) -> None:
        if kind is not None and self.pending and self.solve.trace_wanted:
            # adaptive_stepping.py::compute_error raises at a NaN, and this attempt shows why. Its exception passes.
            with suppress(Exception):
                self.settle(accepted=False)
        super().__exit__(kind, *others)

    def step(self, t0: Any, t1: Any, y0: Any, extra0: Any) -> Any:
        """One of the three calls of an attempt: the whole step, then the two halves."""
        if self.calls % 3 == 0:
            # The last attempt was accepted if this one starts from its result.
            self.settle(accepted=bool(self.pending) and y0 is self.pending[-1])
            self.results, self.drifts = [t0, t1, y0], []
        elif not self._is_half(y0):
            self._refuse_unseen()
        self.calls += 1
        drift, y1, *extra1 = self._take(self.take_step, t0, t1, y0, extra0)
        self.results.append(y1)
        self.drifts.append(drift)
        if self.calls % 3 == 0:
            self.pending = self.results
        return y1, tuple(extra1)

    def _is_half(self, y0: Any) -> bool:
        """Whether a step starts where base_solver.py::integrate starts its half steps; another loop may not."""
        return y0 is (self.results[2] if self.calls % 3 == 1 else self.results[4])

    def _refuse_unseen(self) -> None:
        if self.solve.terms:
            self.solve.refuse(unseen_steps(self.solver), sampled=True)
        self.solve.closed = True

    def close(self) -> None:
        """Checks after the loop that its steps were seen."""
        if self.solve.align and self.solver.adaptive and not self.aligned:
            self.solve.abandon()
            raise AlignError(
                f"`observe(align=True)` was asked of `{type(self.solver).__name__}`, whose loop is its own. Inherit "
                "`BaseSDESolver.integrate`, use a method of torchsde's own, or leave it out."
            )
        if not self.calls and self.solve.counts.evaluations + self.solve.counts.diffusion_evaluations > self.before:
            self._refuse_unseen()

    @property
    def attempt(self) -> Step:
        """The last attempt."""
        drifts = self.drifts if self.solve.measured else None
        return adaptive_step(self.solver, self.sde.noise_type, self.pending, drifts, self.drift)

    def fixed_step(self, t0: Any, t1: Any, y0: Any, extra0: Any) -> Any:
        """The one call of a step of fixed size."""
        self.calls += 1
        step, extra1 = self._fixed_step(t0, t1, y0, extra0, self.solve.fold.needs_step_doubling)
        self._note(t0, t1)
        self.solve.step(step)
        return step.y1, extra1

    def restart(self, t0: Any, y0: Any, t1: Any) -> Step:
        """A step from y0, as the solver takes its own steps."""
        # Without checkpoint: its parts, recomputed one by one, would get other increments.
        with exchanged(self, checkpoint=None), path_restored(self.solver.bm, t0, t1):
            return self._restarted(t0, y0, t1)

    def _restarted(self, t0: Any, y0: Any, t1: Any) -> Step:
        extra0 = self.solver.init_extra_solver_state(t0, y0)
        pop_mark(self.solver)  # set by this call
        if not self.solver.adaptive:
            return self._fixed_step(t0, t1, y0, extra0, needs_step_doubling=True)[0]
        # base_solver.py::integrate: the whole step, then the halves.
        middle = 0.5 * (t0 + t1)
        self.step(t0, t1, y0, extra0)
        y, extra = self.step(t0, middle, y0, extra0)
        self.step(middle, t1, y, extra)
        attempt, self.pending = self.attempt, []
        return attempt

    def _fixed_step(
        self, t0: Any, t1: Any, y0: Any, extra0: Any, needs_step_doubling: bool
    ) -> tuple[Step, tuple[Any, ...]]:
        memory = Memory(self.solver, "torchsde") if self.unsure else None
        _, y1, *extra1 = self._take(self.take_step, t0, t1, y0, extra0)
        attribute = None if memory is None else memory.found(self.solver)
        self.unsure = False
        if attribute is not None:
            self.solve.refuse(_with_memory(self.solver, attribute), sampled=True)
            needs_step_doubling = False
        halves = None
        if needs_step_doubling:
            # Measuring must not advance the program's random numbers.
            with self.solve.adapter.untouched(y0), self.solve.counted_as_measuring():
                halves = self._in_halves(t0, t1, y0, extra0)
        return fixed_step(self.solver, t0, t1, y0, y1, halves), tuple(extra1)

    def _in_halves(self, t0: Any, t1: Any, y0: Any, extra0: Any) -> Any:
        middle = 0.5 * (t0 + t1)
        step = with_path_restored(self.take_step, self.solver.bm, again=self.checkpoint is not None)
        _, y, *extra = self._take(step, t0, middle, y0, extra0)
        return self._take(step, middle, t1, y, tuple(extra))[1]

    def settle(self, accepted: bool) -> None:
        """Hands the last attempt over to the solve."""
        if self.pending and accepted:
            self._note(*self.pending[:2])
        if self.solve.closed:
            pass
        elif self.pending and self.solve.described:
            self.solve.step(replace(self.attempt, accepted=accepted))
        elif self.pending:
            self.solve.count(accepted)
        self.pending = []

    def _note(self, t0: Any, t1: Any) -> None:
        if self.solve.replay is not None:
            self.solve.replay.note(t0, t1, {})

    def drift(self, t: Any, y: Any) -> Any:
        with self.solve.adapter.untouched(y):
            (slope,) = self._recomputed(lambda counter, *inputs: (EvaluationCounter.drift(counter, *inputs),), t, y)
        return slope

    def _take(self, step: Callable[..., Any], t0: Any, t1: Any, y0: Any, extra0: Any) -> Any:
        return self._recomputed(lambda counter, *inputs: counter.take(step, *inputs), t0, t1, y0, *extra0)

    def _recomputed(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Calls a function with the counter and the inputs; under `checkpoint` the backward pass recomputes it."""
        if self.checkpoint is None:
            return function(self, *inputs)
        solver, counts = self.solver, self.checkpoint.counts  # the graph must not hold the solve

        def again(*inputs: Any) -> Any:
            with EvaluationCounter(solver, counts) as counter:
                return function(counter, *inputs)

        return self.checkpoint.call(partial(function, self), partial(unobserved().call, again), *inputs)


def _with_memory(solver: Any, attribute: str) -> FixedStepError:
    return FixedStepError(
        f"A penalty was asked of `{type(solver).__name__}`, whose steps build on earlier ones "
        f"(`{attribute}`), so none can be recomputed or taken in halves. Keep what a step needs of the one "
        "before in `extra0`, or use a method of torchsde's own. `observe()` without a term still counts."
    )
