"""The field of an observed solve, and its steps as `Step`s."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torchdiffeq._impl import misc

from solvertap import Step, unobserved
from solvertap.adapting import Patches, Replay, Solve, Stages, Tableau
from solvertap_torch.recompute import Recompute

from ._counted import CountedField
from ._method import Method, tableau_of
from ._read import read_step
from ._replay import Again, slope_before
from ._shape import PLAIN, Shape
from ._slope_log import Attempt, SlopeLog


class TappedField(CountedField):
    """A solver's field while its solve is observed: counts evaluations, and holds the state that the taps share."""

    name: str | None = "func"  # the solver's attribute for it
    norm: Any = None  # the solver's own, if a `TappedNorm` replaces it
    end: Any = None  # the time at which `odeint_dense` stops
    before: Any = 0  # evaluations before the first step

    def __init__(
        self,
        field: Any,
        solve: Solve,
        y0: Any,
        method: Method | None = None,
        patches: Patches | None = None,
        shape: Shape = PLAIN,
    ) -> None:
        super().__init__(field, solve.counts)
        self.shape = shape
        self.earlier: list[Attempt] = []  # earlier attempts of the same step of a user's solver
        self.solve = solve
        self.method = method
        self.patches = patches  # the taps that see its steps; None if one tap wraps the whole solve
        self.undone = 0 if patches is None else patches.undone  # at the start of the solve
        self.checkpoint = Recompute.of(solve, y0)
        self.attempting = patches is None
        self.attempt: tuple[Any, ...] = ()  # the last one until it is settled
        self.step_size: Any = None  # of the last attempt
        self.next_slope: Any = None  # with which the last accepted step ended
        self.log = SlopeLog()
        self.step_size_fixed = [True]  # emptied if the step size need not be fixed after all
        self.tableau: Any = None  # torchdiffeq's own, of the last attempt
        self._read_tableau: tuple[Any, Tableau | None] = (None, None)
        self.error_ratio: Any = None  # of the last attempt, under a `TappedNorm`

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The taps enter `unobserved` once for all stages of an attempt.
        self.counts.evaluations += 1
        slope = self.field(*args, **kwargs) if self.attempting else self._outside_attempt(args, kwargs)
        if self.log.recording is not None:
            # As `version_of` says it, without a call at every evaluation.
            self.log.recording.append((slope, math.nan if slope.is_inference() else slope._version))
        return slope

    @property
    def detached(self) -> bool:
        """Whether the taps were removed since the solve began, so that steps may be missing."""
        return self.patches is not None and self.patches.undone != self.undone

    def _outside_attempt(self, args: Any, kwargs: Any) -> Any:
        """The slope outside of an attempt: before the first, or after the taps were removed."""
        if self.detached:
            self.solve.abandon()
        return unobserved().call(self.field, *args, **kwargs)

    def slope(self, t: Any, y: Any) -> Any:
        """The user's slope at the user's time. At a jump it is the slope before, where the last stage is evaluated."""
        with self.solve.adapter.untouched(y):
            (slope,) = unobserved().call(self.recomputed, _slope, t, y)
        return slope

    def recomputed(self, function: Any, *inputs: Any) -> Any:
        """Calls a function with the field and the inputs; under `checkpoint` the backward pass recomputes it."""
        if self.checkpoint is None:
            return function(self, *inputs)
        field, counts = self.field, self.checkpoint.counts  # the graph must not hold the solve
        return self.checkpoint.call(
            partial(function, self), lambda *again: function(CountedField(field, counts), *again), *inputs
        )

    def attempt_step(self, runge_kutta_step: Any, inputs: tuple[Any, ...], tableau: Any) -> Any:
        """Makes an attempt and records it.

        Args:
            runge_kutta_step: torchdiffeq's own.
            inputs: y0, f0, t0, dt, t1.
            tableau: torchdiffeq's own.
        """
        y0, f0, t0, self.step_size, t1 = inputs
        if self.attempt:  # torchdiffeq's own `_adaptive_step` leaves none unsettled
            self._put_aside(y0)
        self.tableau = tableau
        if self.checkpoint is not None:
            y1, f1, error, stack = self.recomputed(partial(_step, runge_kutta_step, tableau), *inputs)
            # The last slope is a view of the stack; a view would keep the whole stack alive with the next step.
            result = y1, f1.clone(), error, stack
        elif self.solve.fold.terms:
            log = self.log
            log.begin(f0)
            y1, f1, error, stack = runge_kutta_step(self, *inputs, tableau=tableau)
            result = y1, log.last(f1, self._ends_in_last_slope), error, stack
            log.end(f0, result[1])
        else:
            self.log.slopes = []  # of an earlier attempt, whose terms were left out since
            result = runge_kutta_step(self, *inputs, tableau=tableau)
        self.attempt = (y0, f0, t0, t1, *result)
        return result

    def _put_aside(self, y0: Any) -> None:
        """Stores the last attempt if its step goes on, else hands it over."""
        if self.attempting:
            self.earlier.append(Attempt(self.attempt, self.log.slopes, self.tableau))
        else:  # the loop itself makes the attempts: after a rejection the next starts at the same state
            self.settle(accepted=y0 is not self.attempt[0])

    def settle(self, accepted: bool) -> None:
        """Hands the last attempt over."""
        attempt, self.attempt = self.attempt, ()  # or the next attempt would keep the stack alive
        if not attempt:  # the taps were removed, so torchdiffeq's own `_runge_kutta_step` made it
            self.solve.abandon()
            return
        if accepted and self.solve.replay is not None:
            self._note(self.solve.replay, attempt)
        if self.solve.described if accepted else self.solve.shown:
            self.solve.step(self._read(attempt, self.log.of_stack(attempt[-1]), self.error_ratio, accepted))
        else:
            self.solve.count(accepted)

    def again(self, runge_kutta_step: Any, tableau: Any) -> Again:
        """Takes the accepted steps again, by torchdiffeq's own `_runge_kutta_step` and tableau."""
        assert self.solve.replay is not None
        assert self.method is not None
        return Again(CountedField(self.field, self.solve.replay.counts), self.method, runge_kutta_step, tableau)

    def _note(self, replay: Replay, attempt: tuple[Any, ...]) -> None:
        """Notes an accepted step, and how the solver evaluated its first slope if not in the step before."""
        _, f0, t0, t1, _, f1, _, _ = attempt
        perturb = None
        if f0 is not self.next_slope:  # rk_common.py: at the start, and behind a jump
            perturb = misc.Perturb.NONE if self.next_slope is None else misc.Perturb.NEXT
        self.next_slope = f1
        replay.note(t0, self.step_size, t1, perturb)

    def restart(self, runge_kutta_step: Any, tableau: Any, t0: Any, y0: Any, t1: Any) -> Step:
        """A step from y0 between two of the user's times, by torchdiffeq's own `_runge_kutta_step` and tableau."""
        t0, t1 = self.sign * t0, self.sign * t1
        field = CountedField(self.field, self.counts)
        f0 = field(t0, y0)
        attempt = (y0, f0, t0, t1, *runge_kutta_step(field, y0, f0, t0, t1 - t0, t1, tableau=tableau))
        return self._read(attempt, list(attempt[-1].unbind(-1)))

    def _read(self, attempt: tuple[Any, ...], slopes: list[Any], ratio: Any = None, accepted: bool = True) -> Step:
        method = self.method
        assert method is not None  # only steps of adaptive methods are read
        tableau = method.tableau if self.shape.plain else self._tableau_of(method)
        stages = Stages(slopes=slopes, tableau=tableau, unit=self.sign)
        return read_step(method, self.sign, self.slope, attempt, stages, ratio, accepted)

    def _ends_in_last_slope(self) -> bool:
        """Whether the last slope of an attempt enters its final state, as the tableau says; True without a method."""
        method = self.method
        return method is None or bool((method.tableau if self.shape.plain else self._tableau_of(method)).b[-1])

    def _tableau_of(self, method: Method) -> Tableau:
        """The tableau of the last attempt; a user's solver may use several."""
        if self.tableau is None:
            return method.tableau
        known, tableau = self._read_tableau
        if tableau is None or known is not self.tableau:
            tableau = tableau_of(self)
            self._read_tableau = self.tableau, tableau
        return tableau


def _step(runge_kutta_step: Any, tableau: Any, field: CountedField, *inputs: Any) -> Any:
    return runge_kutta_step(field, *inputs, tableau=tableau)


def _slope(field: CountedField, t: Any, y: Any) -> Any:
    return (slope_before(field, t, y),)
