"""The field of an observed solve, and how one of its steps reads as a `Step`."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchdiffeq._impl import misc

from solvertap import Step, unobserved
from solvertap.adapting import Patches, Solve, Stages, Tableau
from solvertap_torch import Recompute

from ._counted import CountedField
from ._method import Method, tableau_of
from ._shape import PLAIN, Shape
from ._slope_log import Attempt, SlopeLog


class TappedField(CountedField):
    """A solver's field while its solve is observed: counts evaluations, and holds what the taps exchange."""

    name: str | None = "func"  # under which the solver has it
    norm: Any = None  # the solver's own, where it is heard
    end: Any = None  # where `odeint_dense` stops
    before: Any = 0  # the evaluations before the first step

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
        self.earlier: list[Attempt] = []  # those of the same step of a solver's own, before the last one
        self.solve = solve
        self.method = method
        self.patches = patches  # those by which its steps are seen; None where one tap stands around them all
        self.undone = 0 if patches is None else patches.undone  # when the solve began
        self.checkpoint = Recompute.of(solve, y0)
        self.attempting = patches is None
        self.attempt: tuple[Any, ...] = ()  # the last one, until it is settled
        self.log = SlopeLog()
        self.held = [True]  # empty where no step size is to be held fixed after all
        self.tableau: Any = None  # torchdiffeq's own, of the last attempt
        self._read_tableau: tuple[Any, Tableau | None] = (None, None)
        self.size: Any = None  # what the solver has compared with 1 then, where it is heard

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Unobserved as well: the taps see to that, once for all stages of an attempt.
        self.counts.evaluations += 1
        slope = self.field(*args, **kwargs) if self.attempting else self._apart(args, kwargs)
        if self.log.heard is not None:
            self.log.heard.append((slope, slope._version))
        return slope

    @property
    def missed(self) -> bool:
        """Whether somebody has detached since the solve began, so that steps may have been made unseen."""
        return self.patches is not None and self.patches.undone != self.undone

    def _apart(self, args: Any, kwargs: Any) -> Any:
        """What it returns outside of an attempt: before the first, or where nothing taps the attempts any more."""
        if self.missed:
            self.solve.abandon()
        return unobserved().call(self.field, *args, **kwargs)

    def slope(self, t: Any, y: Any) -> Any:
        """The user's slope at the user's time, and before a jump there, as where the last stage is evaluated."""
        with self.solve.adapter.untouched(y):
            (slope,) = unobserved().call(self.recomputed, _slope, t, y)
        return slope

    def recomputed(self, function: Any, *inputs: Any) -> Any:
        """What a function gives of the field and the inputs; under checkpoints the backward pass computes it again."""
        if self.checkpoint is None:
            return function(self, *inputs)
        field, counts = self.field, self.checkpoint.counts  # the graph must not hold the solve
        return self.checkpoint.call(
            partial(function, self), lambda *again: function(CountedField(field, counts), *again), *inputs
        )

    def attempt_step(self, runge_kutta_step: Any, inputs: tuple[Any, ...], tableau: Any) -> Any:
        """Makes an attempt; what the field is asked for after it is not of this step.

        Args:
            runge_kutta_step: torchdiffeq's own.
            inputs: y0, f0, t0, dt, t1.
            tableau: torchdiffeq's own.
        """
        y0, f0, t0, _, t1 = inputs
        if self.attempt:  # which no `_adaptive_step` of torchdiffeq's own leaves behind
            self._put_aside(y0)
        self.tableau = tableau
        if self.checkpoint is None:
            log = self.log
            log.begin(f0, wanted=bool(self.solve.fold.terms))
            y1, f1, error, stack = runge_kutta_step(self, *inputs, tableau=tableau)
            result = y1, log.last(f1, self._ends_in_last_slope), error, stack
        else:
            y1, f1, error, stack = self.recomputed(partial(_step, runge_kutta_step, tableau), *inputs)
            # The slope at the end is a view of the stack, all of which would be kept with the next step.
            result = y1, f1.clone(), error, stack
        self.attempt = (y0, f0, t0, t1, *result)
        self.log.end(f0, result[1])
        return result

    def _put_aside(self, y0: Any) -> None:
        """Keeps the last attempt until the step is made that it is part of, or hands it over."""
        if self.attempting:
            self.earlier.append(Attempt(self.attempt, self.log.slopes, self.tableau))
        else:  # taken by the loop itself: the next one starts where the last one got to, or once more where it began
            self.settle(accepted=y0 is not self.attempt[0])

    def settle(self, accepted: bool) -> None:
        """Hands the last attempt over."""
        attempt, self.attempt = self.attempt, ()  # the stack is not to be kept with the next one
        if not attempt:  # detached at its beginning: torchdiffeq's own `_runge_kutta_step` has made it
            self.solve.abandon()
            return
        if self.solve.described if accepted else self.solve.shown:
            self.solve.step(self._read(attempt, self.log.of_stack(attempt[-1]), self.size, accepted))
        else:
            self.solve.count(accepted)

    def restart(self, runge_kutta_step: Any, tableau: Any, t0: Any, y0: Any, t1: Any) -> Step:
        """A step of the user's times from a state on, with torchdiffeq's own `_runge_kutta_step` and tableau."""
        t0, t1 = self.sign * t0, self.sign * t1
        field = CountedField(self.field, self.counts)
        f0 = field(t0, y0)
        attempt = (y0, f0, t0, t1, *runge_kutta_step(field, y0, f0, t0, t1 - t0, t1, tableau=tableau))
        return self._read(attempt, list(attempt[-1].unbind(-1)))

    def _read(self, attempt: tuple[Any, ...], slopes: list[Any], size: Any = None, accepted: bool = True) -> Step:
        y0, _, t0, t1, y1, _, error, _ = attempt
        method = self.method
        assert method is not None  # the steps of adaptive methods alone are read
        tableau = method.tableau if self.shape.plain else self._tableau_of(method)
        if self.sign != 1 or t0.requires_grad or t1.requires_grad:
            t0, t1 = self.sign * t0.detach(), self.sign * t1.detach()
        return Step(
            t0=t0,
            t1=t1,
            y0=y0,
            y1=y1,
            error=error,
            error_ratio=size,
            rtol=method.rtol,
            atol=method.atol,
            norm=method.norm,
            stages=Stages(slopes=slopes, tableau=tableau, unit=self.sign),
            field=self.slope,
            stability_size=method.stability_size,
            accepted=accepted,
        )

    def _ends_in_last_slope(self) -> bool:
        """Whether the state at the end of an attempt is made of its last slope as well; as far as is known."""
        method = self.method
        return method is None or bool((method.tableau if self.shape.plain else self._tableau_of(method)).b[-1])

    def _tableau_of(self, method: Method) -> Tableau:
        """That of the last attempt of a solver of somebody's own, which may take several."""
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
    return (field.sign * field(field.sign * t, y, perturb=misc.Perturb.PREV),)
