"""Solvers that somebody has written on top of torchdiffeq: seen, or refused with a sentence, never silently zero."""

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint, odeint_dense
from torchdiffeq._impl import rk_common, solvers
from torchdiffeq._impl.dopri5 import Dopri5Solver
from torchdiffeq._impl.fixed_adams import AdamsBashforth
from torchdiffeq._impl.fixed_grid import RK4, Euler
from torchdiffeq._impl.misc import Perturb, _compute_error_ratio, _rms_norm
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.rk_common import _runge_kutta_step, _RungeKuttaState  # by name, before any tap

import solvertap as tap
from solvertap import errors
from tests.faults import fault

TERM = tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")
TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
CALL = {"rtol": 1e-4, "atol": 1e-4}
FIRST = {"first_step": torch.tensor(0.3, dtype=torch.float64)}


class Field(torch.nn.Module):
    def __init__(self, weights=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn((3, 3), generator=generator, dtype=torch.float64) if weights is None else weights
        self.w = torch.nn.Parameter(weights)

    def forward(self, t, y):
        return 4 * torch.tanh(y @ self.w) + 20 * torch.relu(t - 0.5) - y


def _y0():
    return torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)


def _solve(solver, field=None, options=FIRST, **call):
    field = Field() if field is None else field
    SOLVERS["own"] = solver
    try:
        return odeint(field, _y0(), TIMES, method="own", options=dict(options), **CALL | call)
    finally:
        del SOLVERS["own"]


# --- The shapes of an adaptive method whose steps can be seen ---------------------------------------------------------


def _controlled(self, rk_state, step):
    """Somebody's own controller, with a factor of its own."""
    y0, f0, _, t0, dt, _ = rk_state
    y1, f1, error, k = step(self.func, y0, f0, t0, dt, t0 + dt, tableau=self.tableau)
    ratio = _compute_error_ratio(error, self.rtol, self.atol, y0, y1, self.norm)
    accepted = ratio <= 1
    dt_next = dt * (0.8 / ratio.detach().clamp(1e-3, 10) ** 0.2).clamp(0.3, 3.0)
    if not accepted:
        return _RungeKuttaState(y0, f0, t0, t0, dt_next, rk_state.interp_coeff)
    return _RungeKuttaState(y1, f1, t0, t0 + dt, dt_next, self._interp_fit(y0, y1, k, dt))


class Looked(Dopri5Solver):
    """The step function looked up in its module."""

    def _adaptive_step(self, rk_state):
        return _controlled(self, rk_state, rk_common._runge_kutta_step)


class ByName(Dopri5Solver):
    """The step function imported by name, before any tap."""

    def _adaptive_step(self, rk_state):
        return _controlled(self, rk_state, lambda *args, **kwargs: _runge_kutta_step(*args, **kwargs))


class Above(Dopri5Solver):
    """The step of the class above, unpacked, with a look at its coefficients."""

    def _adaptive_step(self, rk_state):
        y1, f1, t0, t1, dt, coefficients = super()._adaptive_step(rk_state)
        assert torch.isfinite(torch.stack(coefficients)).all()
        return _RungeKuttaState(y1, f1, t0, t1, dt.clamp(max=0.25), coefficients)


class Cautious(Dopri5Solver):
    """Rejects a step that the class above has accepted, if it is long."""

    def _adaptive_step(self, rk_state):
        new = super()._adaptive_step(rk_state)
        if new.t1 - rk_state.t1 > 0.1:
            return rk_state._replace(dt=rk_state.dt / 2, t0=rk_state.t1)
        return new


class Helped(Dopri5Solver):
    """By a method of its own."""

    def _adaptive_step(self, rk_state):
        return self._try(rk_state)

    def _try(self, rk_state):
        return _controlled(self, rk_state, rk_common._runge_kutta_step)


class Twice(Dopri5Solver):
    """Two steps in one."""

    def _adaptive_step(self, rk_state):
        return super()._adaptive_step(super()._adaptive_step(rk_state))


class Stopping(Dopri5Solver):
    """A loop of its own over the steps, as early stopping has one."""

    def _advance(self, next_t):
        steps = 0
        while next_t > self.rk_state.t1:
            self.rk_state = self._adaptive_step(self.rk_state)
            steps += 1
            if steps > 500:
                break
        return rk_common._interp_evaluate(self.rk_state.interp_coeff, self.rk_state.t0, self.rk_state.t1, next_t)


class Integrating(Dopri5Solver):
    """An `integrate` of its own."""

    def integrate(self, t):
        t = t.to(self.dtype)
        self._before_integrate(t)
        return torch.stack([self.y0, *(self._advance(x) for x in t[1:])])


class Afterwards(Dopri5Solver):
    """Does something to the solution of the class above."""

    def integrate(self, t):
        return 2 * super().integrate(t)


class Bare(Dopri5Solver):
    """Steps taken in the loop itself."""

    def _advance(self, next_t):
        while next_t > self.rk_state.t1:
            self.rk_state = _controlled(self, self.rk_state, rk_common._runge_kutta_step)
        return rk_common._interp_evaluate(self.rk_state.interp_coeff, self.rk_state.t0, self.rk_state.t1, next_t)


class Fitting(Dopri5Solver):
    """An interpolation of its own around the one above."""

    def _interp_fit(self, y0, y1, k, dt):
        return [x + 0 for x in super()._interp_fit(y0, y1, k, dt)]


class Tuned(Dopri5Solver):
    """Nothing but another default."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.safety = self.safety * 0.9


SEEN = [Looked, ByName, Above, Cautious, Helped, Twice, Stopping, Integrating, Afterwards, Bare, Fitting, Tuned]


def _replayed(weights, steps):
    """The penalty on the frozen grid, by torchdiffeq's own step function and formulas of the test's."""
    total, largest, y = 0.0, 0.0, _y0()
    tableau, f = Dopri5Solver.tableau, Field(torch.as_tensor(weights).reshape(3, 3))
    field = lambda t, y, perturb=Perturb.NONE: f(t, y)  # noqa: E731  # as torchdiffeq calls it
    with torch.no_grad():
        for t, h in torch.as_tensor(steps):
            y1, _, error, k = rk_common._runge_kutta_step(field, y, field(t, y), t, h, t + h, tableau)
            size = error / (CALL["atol"] + CALL["rtol"] * torch.maximum(y.abs(), y1.abs()))
            total += size.square().mean().sqrt().item() * abs(h.item())
            a, b = (y + h * (k[..., : len(row)] * row).sum(-1) for row in tableau.beta[-1:-3:-1])
            largest = max(largest, ((k[..., -1] - k[..., -2]).norm() / (a - b).norm()).item())
            y = y1
    return total + 0.1 * largest


@pytest.mark.parametrize("solver", SEEN)
@fault(
    "a solver that somebody wrote on top of torchdiffeq's: own controller, loop, `integrate`, or the class above twice",
    "its steps are seen: the penalty and its gradient are those of the frozen grid, nothing is silently zero",
)
def test_steps_of_somebodys_own_solver_are_seen(solver):
    bare = _solve(solver)
    field = Field()
    with tap.observe(TERM, trace=True) as seen:
        observed = _solve(solver, field)
    assert torch.equal(observed, bare)
    trace = seen.trace.numpy()
    accepted = trace["accepted"]
    assert seen.stats[:3] == (1, accepted.sum(), (~accepted).sum())
    assert accepted.sum() > 3
    steps = torch.stack([torch.as_tensor(trace[name][accepted]) for name in ("t", "h")], 1)
    assert torch.allclose(steps[:-1].sum(1), steps[1:, 0])  # one after another
    assert seen.penalty.item() == pytest.approx(_replayed(field.w.detach(), steps), rel=1e-9)
    (gradient,) = torch.autograd.grad(seen.penalty, field.w)
    for place in ((0, 0), (2, 1)):
        along = torch.zeros_like(gradient)
        along[place] = 1e-6
        difference = _replayed(field.w.detach() + along, steps) - _replayed(field.w.detach() - along, steps)
        assert gradient[place].item() == pytest.approx(difference / 2e-6, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("solver", SEEN)
def test_regularize_adds_its_gradient_to_somebodys_own_solver(solver):
    def gradient(around):
        field = Field()
        with around:
            _solve(solver, field).sum().backward()
        return field.w.grad

    field = Field()
    with tap.observe(TERM) as seen:
        _solve(solver, field)
    (penalty,) = torch.autograd.grad(seen.penalty, field.w)
    bare, regularizer = gradient(tap.regularize()), tap.regularize(TERM, passes="all")
    regularized = gradient(regularizer)
    torch.testing.assert_close(regularized - bare, penalty, rtol=1e-7, atol=1e-9)
    assert penalty.abs().max() > 0.1
    assert regularizer.stats == {"training": seen.stats}
    assert not regularizer.left_out


def test_solver_of_somebodys_own_may_be_used_directly_and_again():
    field = Field()
    solver = Integrating(func=_perturbed(field), y0=_y0(), norm=_rms_norm, **CALL, **FIRST)
    bare = solver.integrate(TIMES)
    for _ in range(2):
        with tap.observe(TERM) as seen:
            assert torch.equal(solver.integrate(TIMES), bare)
        assert seen.stats.solves == 1
        assert seen.penalty > 0
    steps = seen.stats
    assert torch.equal(solver.integrate(TIMES), bare)
    assert seen.stats == steps


def _perturbed(field):
    class Perturbed(torch.nn.Module):
        def forward(self, t, y, *, perturb=Perturb.NONE):
            return field(t, y)

        callback_step = callback_accept_step = callback_reject_step = staticmethod(lambda *_: None)

    return Perturbed()


# --- Those whose steps cannot -----------------------------------------------------------------------------------------


class Heun(Dopri5Solver):
    """Its stages written out in `_adaptive_step`."""

    def _adaptive_step(self, rk_state):
        y0, f0, _, t0, dt, _ = rk_state
        dt = dt.clamp(max=0.05)
        y1 = y0 + dt * f0
        f1 = self.func(t0 + dt, y1)
        y1 = y0 + dt * (f0 + f1) / 2
        return _RungeKuttaState(y1, f1, t0, t0 + dt, dt, [0 * y0, 0 * y0, 0 * y0, y1 - y0, y0])


class Hidden(Dopri5Solver):
    """Mentions the step function, and gives it another field."""

    def _adaptive_step(self, rk_state):
        func = self.func
        step = rk_common._runge_kutta_step
        return _controlled(
            self, rk_state, lambda _, *args, **kwargs: step(lambda *a, **k: func(*a, **k), *args, **kwargs)
        )


class Multistep(solvers.AdaptiveStepsizeODESolver):
    """Nothing of the Runge-Kutta solver, and the field under another name."""

    def __init__(self, func, y0, rtol, atol, **kwargs):
        super().__init__(dtype=y0.dtype, y0=y0, norm=kwargs["norm"])
        self.rhs = func

    def _advance(self, next_t):
        for _ in range(10):
            h = (next_t - self.t) / 10
            self.y = self.y + h * self.rhs(self.t, self.y)
            self.t = self.t + h
        self.t = next_t
        return self.y

    def _before_integrate(self, t):
        self.t, self.y = t[0], self.y0


class Unrelated:
    """No base class at all."""

    def __init__(self, func, y0, **kwargs):
        self.f, self.start = func, y0

    @classmethod
    def valid_callbacks(cls):
        return set()

    def integrate(self, t):
        states = [self.start]
        for a, b in pairwise(t):
            states.append(states[-1] + (b - a) * self.f(a, states[-1]))
        return torch.stack(states)


class GridLoop(Euler):
    """A grid whose loop does not ask for a step."""

    def integrate(self, t):
        return Unrelated(self.func, self.y0).integrate(t)


UNSEEN = [Heun, Multistep, Unrelated, GridLoop]


@pytest.mark.parametrize("solver", [*UNSEEN, Hidden])
@fault(
    "a solver of somebody's own that takes its steps past torchdiffeq's step function, or inherits nothing",
    "a penalty is refused before the solve, with the remedy; evaluations are counted; its gradient stays its own",
)
def test_solver_whose_steps_nobody_sees_refuses_a_penalty_and_is_counted(solver):
    calls = []

    class Counted(Field):
        def forward(self, t, y):
            calls.append(t)
            return super().forward(t, y)

    options = {} if solver in (GridLoop, Multistep, Unrelated) else FIRST
    with pytest.raises(errors.FixedStepError, match=solver.__name__) as raised, tap.observe(TERM):
        _solve(solver, Counted(), options)
    assert str(raised.value).count(". ") <= 2  # three sentences at most
    assert bool(calls) == (solver is Hidden)  # of which it is not known before a step
    calls.clear()
    bare = _solve(solver, Counted(), options)
    calls.clear()
    with tap.observe() as seen:
        assert torch.equal(_solve(solver, Counted(), options), bare)
    assert seen.stats.evaluations == len(calls) > 0
    assert seen.stats.solves == 1
    # A step of `_adaptive_step` is known to be one, also where nobody knows what it does.
    assert (seen.stats.accepted is None) == (solver not in (Heun, Hidden))


@pytest.mark.parametrize("solver", [*UNSEEN, Hidden])
def test_regularize_leaves_every_bit_of_the_gradient_where_it_sees_no_step(solver):
    def gradient():
        field = Field()
        _solve(solver, field, {}).sum().backward()
        return field.w.grad

    bare = gradient()
    with tap.regularize(TERM, passes="all") as regularizer:
        assert torch.equal(gradient(), bare)
    assert [solver.__name__ in reason for reason in regularizer.left_out] == [True]
    assert regularizer.stats["training"].solves == 1
    assert regularizer.stats["training"].evaluations > 0


def test_loop_outside_of_any_class_is_observed_and_not_regularized():
    def solve(field):
        solver = Dopri5Solver(func=_perturbed(field), y0=_y0(), norm=_rms_norm, **CALL)
        solver._before_integrate(TIMES)
        while solver.rk_state.t1 < 1:
            solver.rk_state = solver._adaptive_step(solver.rk_state)
        return solver.rk_state.y1

    bare = torch.autograd.grad(solve(field := Field()).sum(), field.w)[0]
    with tap.regularize(TERM, passes="all") as regularizer:
        (gradient,) = torch.autograd.grad(solve(field := Field()).sum(), field.w)
    assert torch.equal(gradient, bare)
    assert ["loop outside" in reason for reason in regularizer.left_out] == [True]
    with tap.observe(TERM) as seen:
        solve(Field())
    assert seen.penalty > 0


def test_solver_that_asks_another_one_is_that_other_one():
    class Delegating:
        def __init__(self, **kwargs):
            self.inner = Dopri5Solver(**kwargs)

        @classmethod
        def valid_callbacks(cls):
            return set()

        def integrate(self, t):
            return self.inner.integrate(t)

    with tap.observe(TERM) as seen:
        _solve(Delegating)
    assert seen.stats.solves == 1
    assert seen.penalty > 0


def test_detach_gives_back_what_was_patched_on_somebodys_class():
    before = {cls: dict(vars(cls)) for cls in [*SEEN, *UNSEEN, Dopri5Solver]}
    names = dict(globals())
    for solver in (Looked, ByName, Integrating, Unrelated):
        with tap.observe():
            _solve(solver, options={} if solver is Unrelated else FIRST)
    assert vars(Looked)["_adaptive_step"] is not before[Looked]["_adaptive_step"]
    tap.detach()
    for cls, attributes in before.items():
        assert all(vars(cls)[name] is value for name, value in attributes.items() if callable(value)), cls
    assert globals()["_runge_kutta_step"] is names["_runge_kutta_step"]


# --- Dense output -----------------------------------------------------------------------------------------------------


def _dense(field, at=0.2, **options):
    solution = odeint_dense(field, _y0(), TIMES[0], TIMES[-1], **CALL, **options)
    return solution(torch.tensor(at, dtype=torch.float64))


@pytest.mark.parametrize("at", [0.02, 0.5, 0.99])
@fault(
    "`odeint_dense` under `regularize`, read anywhere",
    "counted and regularized like `odeint`: the penalty of the whole solve is carried once",
)
def test_dense_output_is_regularized_wherever_it_is_read(at):
    def gradient(around):
        field = Field()
        with around:
            solution = odeint_dense(field, _y0(), TIMES[0], TIMES[-1], **CALL, method="dopri5", options=dict(FIRST))
        value = solution(torch.tensor(at, dtype=torch.float64))
        value.sum().backward()
        return value.detach(), field.w.grad

    field = Field()
    with tap.observe(TERM) as seen:
        _dense(field, at, method="dopri5", options=dict(FIRST))
    (penalty,) = torch.autograd.grad(seen.penalty, field.w)
    value, bare = gradient(tap.unobserved())
    regularizer = tap.regularize(TERM, passes="all")
    same, regularized = gradient(regularizer)
    assert torch.equal(same, value)
    torch.testing.assert_close(regularized - bare, penalty, rtol=1e-7, atol=1e-9)
    assert regularizer.stats == {"training": seen.stats}


def test_dense_output_is_sampled():
    field = Field()
    with tap.observe(tap.LocalSample(tap.LocalError()), key=lambda n: 0.3) as seen:
        _dense(field)
    assert seen.penalty == seen.penalty > 0  # drawn once, whoever reads it
    assert torch.autograd.grad(seen.penalty, field.w)[0].abs().sum() > 0


# --- Fixed grids ------------------------------------------------------------------------------------------------------


class Own(solvers.FixedGridODESolver):
    """A one-step method of somebody's own, which counts its steps."""

    order = 2

    def __init__(self, func, y0, **kwargs):
        super().__init__(func, y0, **kwargs)
        self.steps = 0

    def _step_func(self, func, t0, dt, t1, y0):
        self.steps += 1
        f0 = func(t0, y0)
        return dt * (f0 + func(t1, y0 + dt * f0)) / 2, f0


class Calling(RK4):
    """One that only calls the class above."""

    def _step_func(self, func, t0, dt, t1, y0):
        return super()._step_func(func, t0, dt, t1, y0)


class Logging(RK4):
    """One that keeps what it never reads."""

    def _step_func(self, func, t0, dt, t1, y0):
        self.last = super()._step_func(func, t0, dt, t1, y0)
        return dt * (self_free := y0) * 0 + super()._step_func(func, t0, dt, t1, self_free)[0], y0


class Implicit(solvers.FixedGridODESolver):
    """The implicit Euler method, by Newton-like iterations until they stand still."""

    order = 1

    def _step_func(self, func, t0, dt, t1, y0):
        f0 = func(t0, y0)
        y1 = y0
        for _ in range(40):
            y1 = y0 + dt * func(t1, y1)
        return y1 - y0, f0


class Looping(Euler):
    """A loop of its own."""

    def integrate(self, t):
        states, y = [self.y0], self.y0
        for a, b in pairwise(t):
            dy, _ = self._step_func(self.func, t0=a, dt=b - a, t1=b, y0=y)
            y = y + dy
            states.append(y)
        return torch.stack(states)


def _grid(solver, field, size=0.1):
    gentle = lambda t, y: 0.5 * field(t, y)  # noqa: E731  # fixed-point iterations are to converge
    return _solve(solver, gentle, {} if solver is Looping else {"step_size": size})


@pytest.mark.parametrize("solver", [Own, Calling, Logging, Implicit, Looping])
@fault(
    '`estimate="doubling"` of a one-step method of somebody\'s own, explicit or implicit',
    "served like torchdiffeq's own; the gradient is that of differences",
)
def test_one_step_method_of_any_class_is_doubled(solver):
    def penalty(weights):
        with tap.observe(DOUBLED) as seen:
            solution = _grid(solver, Field(weights))
        return solution, seen

    w = Field().w.detach().clone().requires_grad_()
    field = Field()
    bare = _grid(solver, field)
    with tap.observe(DOUBLED) as seen:
        assert torch.equal(_grid(solver, field), bare)
    assert seen.stats.accepted >= 2
    (gradient,) = torch.autograd.grad(seen.penalty, field.w)
    along = torch.zeros_like(w)
    along[1, 2] = 1e-6
    w = w.detach()
    difference = (penalty(w + along)[1].penalty - penalty(w - along)[1].penalty).item() / 2e-6
    assert seen.penalty > 0
    assert gradient[1, 2].item() == pytest.approx(difference, rel=1e-5, abs=1e-9)


class TwoSteps(solvers.FixedGridODESolver):
    """Adams-Bashforth of order two."""

    order = 2
    before = None

    def _step_func(self, func, t0, dt, t1, y0):
        f0 = func(t0, y0)
        before = f0 if self.before is None else self.before
        self.before = f0
        return dt * (1.5 * f0 - 0.5 * before), f0


class History(solvers.FixedGridODESolver):
    """The same, with a list."""

    order = 2

    def __init__(self, func, y0, **kwargs):
        super().__init__(func, y0, **kwargs)
        self.slopes = []

    def _step_func(self, func, t0, dt, t1, y0):
        self.slopes.append(func(t0, y0))
        return dt * (1.5 * self.slopes[-1] - 0.5 * self.slopes[max(0, len(self.slopes) - 2)]), self.slopes[-1]


class OwnAdams(AdamsBashforth):
    """Of torchdiffeq's own family."""


@pytest.mark.parametrize("solver", [TwoSteps, History, OwnAdams])
@pytest.mark.parametrize("term", [DOUBLED, tap.LocalSample(DOUBLED), tap.LocalError()])
@fault(
    '`estimate="doubling"` of a method whose steps build on earlier ones',
    "refused at its first step at the latest, with a remedy that works; counted without a term",
)
def test_method_with_memory_refuses_to_be_doubled_and_names_a_remedy_that_works(solver, term):
    with pytest.raises(errors.FixedStepError, match=solver.__name__) as raised, tap.observe(term):
        _grid(solver, Field())
    if term is not solver and term.needs_step_doubling:
        assert 'a one-step method such as `method="rk4"` with `LocalError(estimate="doubling", scale="raw")`' in str(
            raised.value
        )
    with tap.observe(DOUBLED) as seen:  # the remedy
        odeint(Field(), _y0(), TIMES, method="rk4", options={"step_size": 0.1})
    assert seen.penalty > 0
    bare = _grid(solver, Field())
    with tap.regularize(DOUBLED, passes="all") as regularizer:
        assert torch.equal(_grid(solver, Field()), bare)
    assert ["build on earlier ones" in reason for reason in regularizer.left_out] == [True]
    assert regularizer.stats["training"].accepted == 10


def test_method_with_memory_is_not_checkpointed():
    with pytest.raises(errors.CheckpointError, match="TwoSteps"), tap.observe(checkpoint=True):
        _grid(TwoSteps, Field())
    field = Field()
    with tap.observe(checkpoint=True) as seen:
        _grid(Own, field).sum().backward()
    assert seen.phases["recomputation"].evaluations == seen.stats.evaluations
    torch.testing.assert_close(
        field.w.grad, torch.autograd.grad(_grid(Own, other := Field()).sum(), other.w)[0], rtol=1e-12, atol=1e-12
    )


def test_grid_that_stops_at_an_event_is_doubled():
    from torchdiffeq import odeint_event

    with tap.observe(DOUBLED) as seen:
        odeint_event(
            Field(),
            _y0(),
            TIMES[0],
            event_fn=lambda t, y: t - 0.55,
            odeint_interface=odeint,
            method="rk4",
            options={"step_size": 0.1},
        )
    assert seen.penalty > 0


def test_step_that_somebody_has_put_on_torchdiffeqs_own_class_is_seen_or_refused(monkeypatch):
    class Patched(Dopri5Solver):
        """A class of its own, so that what is known of the other stays."""

    for base, (step, is_seen) in enumerate(((Looked._adaptive_step, True), (Heun._adaptive_step, False))):
        solver = type(f"Patched{base}", (Patched,), {})
        tap.detach()
        monkeypatch.setattr(rk_common.RKAdaptiveStepsizeODESolver, "_adaptive_step", step)
        bare = _solve(solver)
        if is_seen:
            with tap.observe(TERM) as seen:
                assert torch.equal(_solve(solver), bare)
            assert seen.penalty > 0
        else:
            with pytest.raises(errors.FixedStepError, match="Patched1"), tap.observe(TERM):
                _solve(solver)
        tap.detach()
        monkeypatch.undo()


def test_torchdiffeqs_own_solvers_are_stepped_as_they_are():
    """Those of somebody's own lose the shortcuts that rely on torchdiffeq's own step."""
    from solvertap_torchdiffeq._shape import PLAIN, Shape

    with tap.observe():
        assert all(Shape.of(solver) == PLAIN for solver in SOLVERS.values() if hasattr(solver, "order"))
    assert Shape.of(Tuned) == PLAIN


def test_solver_without_room_for_a_note_solves_as_before():
    class Slots:
        __slots__ = ("f", "start")
        __init__, integrate = Unrelated.__init__, Unrelated.integrate
        valid_callbacks = Unrelated.valid_callbacks

    bare = _solve(Slots, options={})
    with tap.observe(), tap.regularize(TERM, passes="all"):
        assert torch.equal(_solve(Slots, options={}), bare)
