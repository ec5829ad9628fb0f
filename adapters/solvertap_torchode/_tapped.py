"""What an observed solve of torchode's loop is given in the place of its adjoint, method, controller and term."""

from __future__ import annotations

from typing import Any

import torch
from torchode import InitialValueProblem

from solvertap import Step, unobserved
from solvertap.adapting import Counts, Solve
from solvertap_torch.version import version_of

from ._method import Method


class _Around:
    """An object with the attributes of another one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class TappedTerm(_Around):
    """A term whose evaluations are counted and whose slopes are heard."""

    def __init__(self, term: Any, counts: Counts, heard: list[Any]) -> None:
        super().__init__(term)
        self.counts = counts
        self.heard = heard

    def vf(self, t: Any, y: Any, stats: Any, args: Any) -> Any:
        """The slope."""
        self.counts.evaluations += 1
        slope = self.inner.vf(t, y, stats, args)
        self.heard.append((slope, version_of(slope)))
        return slope


class TappedController(_Around):
    """A controller whose step sizes are held where a term is requested."""

    def __init__(self, controller: Any, solve: Solve, term: Any) -> None:
        super().__init__(controller)
        self.solve = solve
        self.tapped_term = term

    def init(self, term: Any, *args: Any, **kwargs: Any) -> Any:
        """The first step size, and the state of the controller."""
        # step_size_controllers.py::_select_initial_step uses the controller's own term where it is given none.
        own = getattr(self.inner, "term", None) if term is None else term
        given = None if own is None else self.tapped_term(own)
        dt, state, f0 = unobserved().call(self.inner.init, given, *args, **kwargs)
        return self.solve.hold(dt), state, f0

    def adapt_step_size(self, *args: Any) -> Any:
        """Whether each sample accepts its step, and its next step size."""
        # Nothing is differentiated through a step size that is held, nor through the comparison.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.solve.fold.terms):
            accept, dt, state, status = self.inner.adapt_step_size(*args)
        return accept, self.solve.hold(dt), state, status


class TappedMethod(_Around):
    """A method whose steps are handed to a solve once it is known which samples accepted them."""

    def __init__(self, method: Any, solve: Solve, problem: Any, term: Any, constants: Method, args: Any) -> None:
        super().__init__(method)
        self.solve = solve
        self.problem = problem
        self.given = term
        self.args = args
        self.constants = constants
        self.heard: list[Any] = []
        self.attempt: tuple[Any, ...] = ()

    def tapped_term(self, term: Any) -> TappedTerm:
        """A term, the method's own where none is given, that counts for this solve."""
        return TappedTerm(self.inner.term if term is None else term, self.solve.counts, self.heard)

    def init(self, term: Any, *args: Any, **kwargs: Any) -> Any:
        """The state of the method."""
        return unobserved().call(self.inner.init, self.tapped_term(term), *args, **kwargs)

    def step(self, term: Any, running: Any, y0: Any, t0: Any, dt: Any, state: Any, **kwargs: Any) -> Any:
        """Attempts one step."""
        self.heard.clear()  # `init` and the controller have evaluated too
        inputs = self.tapped_term(term), running, y0, t0, dt, state
        out = unobserved().call(self.inner.step, *inputs, **kwargs)
        if self.solve.measured or self.solve.described:
            self.attempt = running, y0, t0, dt, state, *out[:2]
        else:
            self.attempt = (running,)
        return out

    def merge_states(self, to_update: Any, *states: Any) -> Any:
        """The state of the method after the attempt, which `to_update` has accepted."""
        running, *attempt = self.attempt
        self.attempt = ()
        # adjoints.py: `to_update = accept & running`.
        if attempt:
            self.solve.step(self._read(running, to_update, *attempt))
        else:
            self.solve.count_each(to_update, running)
        return self.inner.merge_states(to_update, *states)

    def restart(self, t0: Any, y0: Any, t1: Any) -> Step:
        """One step of every sample from a time and a state to another time."""
        t0, t1 = (t.to(self.problem.time_dtype) for t in (t0, t1))
        problem = InitialValueProblem(y0, t0, t1)
        term, stats = self.tapped_term(self.given), self._own_stats()
        state = self.inner.init(term, problem, None, stats=stats, args=self.args)
        self.heard.clear()
        everyone = torch.ones_like(t0, dtype=torch.bool)
        dt = t1 - t0
        out = self.inner.step(term, everyone, y0, t0, dt, state, stats=stats, args=self.args)
        return self._read(everyone, everyone, y0, t0, dt, state, *out[:2])

    def field(self, t: Any, y: Any) -> Any:
        """The slope of every sample, beside the solve."""
        with self.solve.adapter.untouched(y):
            term = self.tapped_term(self.given)
            return unobserved().call(term.vf, t, y, self._own_stats(), self.args)

    def _own_stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = {}  # the caller's count what the solve evaluates without us
        (self.inner.term if self.given is None else self.given).init(self.problem, stats)
        return stats

    def _read(
        self, running: Any, accepted: Any, y0: Any, t0: Any, dt: Any, state: Any, result: Any, stages: Any
    ) -> Step:
        constants = self.constants
        return Step(
            t0=t0,
            t1=t0 + dt,
            y0=y0,
            y1=result.y,
            error=result.error_estimate,
            rtol=constants.rtol,
            atol=constants.atol,
            norm=constants.norm,
            stages=constants.stages(state, stages, self.heard),
            field=self.field,
            stability_size=constants.stability_size,
            accepted=accepted,
            attempted=running,
        )


class TappedAdjoint(_Around):
    """The adjoint of one observed solve."""

    def __init__(self, adjoint: Any, solve: Solve, problem: Any, term: Any, args: Any) -> None:
        super().__init__(adjoint)
        method, controller = adjoint.step_method, adjoint.step_size_controller
        constants = Method.of(method, controller)
        self.step_method = TappedMethod(method, solve, problem, term, constants, args)
        self.step_size_controller = TappedController(controller, solve, self.step_method.tapped_term)
        if solve.measured:
            solve.check_tolerances(constants.rtol, constants.atol, problem.y0)
        if solve.extra_step is not None:
            solve.extra_step.begin(self.step_method.restart, problem.t_end.detach())
