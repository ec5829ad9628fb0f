import gc
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchdiffeq = pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint, odeint_adjoint, odeint_dense, odeint_event  # by name, before any tap
from torchdiffeq._impl import interp, rk_common
from torchdiffeq._impl.dopri5 import Dopri5Solver
from torchdiffeq._impl.odeint import SOLVERS

import solvertap as tap
from solvertap import errors
from tests.faults import fault

METHODS = ["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun"]
TERM = 100 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")


class Field(torch.nn.Module):
    """A random tanh field with a kink in its forcing, so that every method rejects steps."""

    def __init__(self, weights=None, dtype=torch.float64, width=3):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shape = (width, width)
        weights = torch.randn(shape, generator=generator, dtype=torch.float64) if weights is None else weights
        self.weights = torch.nn.Parameter(torch.as_tensor(weights, dtype=dtype).reshape(shape))

    def forward(self, t, y):
        return 4 * torch.tanh(y @ self.weights) + 20 * torch.relu(t - 0.5) - y


def _y0(dtype=torch.float64):
    return torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=dtype)


TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_observed_solution_is_bitwise_the_bare_one(method):
    bare = odeint(Field(), _y0(), TIMES, rtol=1e-4, atol=1e-4, method=method)
    for options in ({}, {"trace": True}):
        for term in (None, TERM):
            with tap.observe(term, **options):
                observed = odeint(Field(), _y0(), TIMES, rtol=1e-4, atol=1e-4, method=method)
            assert torch.equal(observed, bare)
    tap.detach()
    assert torch.equal(odeint(Field(), _y0(), TIMES, rtol=1e-4, atol=1e-4, method=method), bare)


def _tuple_field(t, y):
    return Field()(t, y[0]), -y[1] * t


@pytest.mark.parametrize(
    "solve",
    [
        lambda: odeint(_tuple_field, (_y0(), torch.ones(5, dtype=torch.float64)), TIMES, rtol=1e-5, atol=1e-5),
        lambda: odeint(Field(), _y0(), TIMES.flip(0), rtol=1e-5, atol=1e-5),
        lambda: odeint(Field(dtype=torch.float32), _y0(torch.float32), TIMES.float(), rtol=1e-4, atol=1e-4),
        lambda: odeint(lambda t, y: 1j * y - y, _y0().to(torch.complex128), TIMES, rtol=1e-6, atol=1e-6),
        lambda: odeint(Field(), _y0(), TIMES, rtol=1e-5, atol=1e-5, options={"norm": lambda x: x.abs().max()}),
        lambda: odeint(Field(), _y0(), TIMES, method="dopri5", options={"jump_t": torch.tensor([0.5])}),
        lambda: odeint(
            Field(), _y0(), TIMES, rtol=torch.tensor(1e-5), atol=1e-5, options={"first_step": 0.01}, method="dopri5"
        ),
        lambda: odeint_event(lambda t, y: -y, _y0(), TIMES[0], event_fn=lambda t, y: y[0, 0] - 0.5)[1],
        lambda: odeint_dense(Field(), _y0(), TIMES[0], TIMES[-1])(torch.tensor(0.7, dtype=torch.float64)),
    ],
    ids=["tuple", "reversed", "float32", "complex", "norm", "jump_t", "first_step", "event", "dense"],
)
@fault(
    "tuples, reversed time, complex states, events, dense output, own norms, jumps",
    "observed like any solve, bitwise unchanged",
)
def test_every_way_to_solve_is_neutral_and_seen(solve):
    bare = solve()
    with tap.observe(TERM, trace=True) as seen:
        observed = solve()
    for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (observed, bare)), strict=True):
        assert torch.equal(a, b)
    assert seen.stats.solves == 1
    assert seen.stats.accepted > 0
    assert torch.isfinite(seen.penalty)
    assert seen.penalty > 0
    assert seen.penalty.dtype == (torch.float32 if bare[0].dtype == torch.float32 else torch.float64)
    assert len(seen.trace.numpy()["t"]) == seen.stats.accepted + seen.stats.rejected


def test_trace_of_a_reversed_solve_is_in_the_users_time():
    with tap.observe(trace=True) as seen:
        odeint(Field(), _y0(), TIMES.flip(0), rtol=1e-5, atol=1e-5)
    trace = seen.trace.numpy()
    assert trace["t"][0] == 1
    assert np.all(trace["h"] < 0)


def test_steps_are_fitted_that_are_read(monkeypatch):
    fitted = []
    fit = interp._interp_fit
    monkeypatch.setattr(rk_common, "_interp_fit", lambda *args: fitted.append(args) or fit(*args))
    with tap.observe(TERM) as seen:
        odeint(Field(), _y0(), TIMES)
    assert len(fitted) == len(TIMES) - 1 < seen.stats.accepted


def test_steps_that_a_solver_keeps_can_be_read_when_it_is_gone(monkeypatch):
    states = []

    class Keeping(Dopri5Solver):
        def _adaptive_step(self, rk_state):
            states.append(super()._adaptive_step(rk_state))
            return states[-1]

    def coefficients():
        states.clear()
        solution = odeint(Field(), _y0(), TIMES, method="keeping")
        return solution, [torch.stack(state.interp_coeff) for state in states]

    monkeypatch.setitem(SOLVERS, "keeping", Keeping)
    bare = coefficients()
    with tap.observe(TERM) as seen:
        observed = coefficients()
    assert len(states) > 2
    assert seen.stats.accepted + seen.stats.rejected == len(states)
    assert all(torch.equal(a, b) and a.requires_grad for a, b in zip(observed[1], bare[1], strict=True))
    assert torch.equal(observed[0], bare[0])


def test_event_has_the_gradient_of_the_bare_one():
    """It reads the interpolation first where no gradients are recorded."""

    def gradient():
        field = Field()
        found = odeint_event(field, _y0(), TIMES[0], event_fn=lambda t, y: t - 0.8, options={"first_step": 0.01})
        return torch.autograd.grad(found[1].sum(), field.weights)[0]

    bare = gradient()
    with tap.observe(TERM):
        assert torch.equal(gradient(), bare)


def test_solve_is_freed_as_soon_as_nobody_holds_it():
    gc.collect()
    gc.disable()
    try:
        field = Field()
        with tap.observe(TERM) as seen:
            solution = odeint(field, _y0(), TIMES)
        (solution.sum() + seen.penalty).backward()
        held = weakref.ref(field)
        del field, solution, seen
        assert held() is None
    finally:
        gc.enable()


@fault(
    "torchdiffeq chooses its first step itself, and differentiates it",
    "the one exception to bitwise gradients: held constant while a term is asked for",
)
def test_gradient_of_the_solution_changes_by_the_first_step_alone():
    def gradient(first_step, observed):
        field, options = Field(), {} if first_step is None else {"first_step": first_step}
        with tap.observe(TERM if observed else None):
            odeint(field, _y0(), TIMES, rtol=1e-6, atol=1e-6, method="dopri5", options=options)[-1].sum().backward()
        return field.weights.grad

    assert torch.equal(gradient(0.01, True), gradient(0.01, False))
    held, free = gradient(None, True), gradient(None, False)
    assert not torch.equal(held, free)
    assert torch.allclose(held, free, rtol=0.02)


@fault(
    "the error of a step is exactly zero",
    "penalty 0 and gradient 0, not NaN",
)
def test_constant_state_has_zero_penalty_and_zero_gradient():
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with tap.observe(TERM) as seen:
        odeint(lambda t, y: weight * y, _y0(), TIMES)
    (gradient,) = torch.autograd.grad(seen.penalty, weight)
    assert seen.penalty == 0
    assert gradient == 0


def test_evaluations_are_counted_exactly():
    calls = []

    def counting(t, y):
        calls.append(t)
        return Field()(t, y)

    with tap.observe(tap.Stiffness()) as seen:
        odeint(counting, _y0(), TIMES, rtol=1e-4, atol=1e-4, method="bosh3")
    assert seen.stats.evaluations + seen.stats.measuring == len(calls)
    assert seen.stats.measuring == seen.stats.accepted


@pytest.mark.parametrize(
    ("solve", "refusal"),
    [
        (lambda f: odeint(f, _y0(), TIMES, method="rk4"), errors.FixedStepError),
        (lambda f: odeint(f, _y0(), TIMES, method="scipy_solver"), errors.FixedStepError),
        (lambda f: odeint_adjoint(f, _y0(), TIMES), errors.ContinuousAdjointError),
        (lambda f: torch.no_grad()(odeint)(f, _y0(), TIMES), errors.GradientDisabledError),
        (lambda f: torch.inference_mode()(odeint)(f, _y0(), TIMES), errors.GradientDisabledError),
    ],
    ids=["fixed", "scipy", "adjoint", "no_grad", "inference_mode"],
)
@fault(
    "a penalty under `odeint_adjoint`, `torch.no_grad`, inference mode, a fixed-step method, the SciPy wrapper",
    "an exception of its own class before the field is evaluated, with the remedy; statistics work",
)
def test_penalty_without_gradient_is_refused_at_the_door_and_counts_still_work(solve, refusal):
    calls = []

    class Counted(Field):
        def forward(self, t, y):
            calls.append(t)
            return super().forward(t, y)

    with pytest.raises(refusal) as raised, tap.observe(TERM):
        solve(Counted())
    assert not calls
    assert str(raised.value).count(". ") <= 2  # three sentences at most
    with tap.observe() as seen:
        solve(Counted())
    assert seen.stats.evaluations == len(calls) > 0


def test_backward_solve_of_the_adjoint_is_not_counted():
    field = Field()
    with tap.observe() as seen:
        y = odeint_adjoint(field, _y0(), TIMES)
        forward = seen.stats
        y.sum().backward()
    assert seen.stats == forward
    assert field.weights.grad.abs().sum() > 0


def test_mixed_dtype_weights_and_own_terms_run():
    slope_change = tap.term(lambda step: abs(step.y1 - step.y0).mean(), name="travel")
    weight = torch.tensor(3.0, requires_grad=True)
    field = Field()
    with tap.observe(weight * slope_change + tap.LocalError()) as seen:
        odeint(field, _y0(), TIMES, rtol=1e-4, atol=1e-4)
    seen.penalty.backward()
    assert weight.grad.item() == pytest.approx(seen.values["travel"].item(), rel=1e-6)
    assert field.weights.grad.abs().sum() > 0


@fault(
    "the field itself solves",
    "the inner solve is part of the field, and is not counted",
)
def test_solve_inside_a_field_is_part_of_the_field():
    def outer(t, y):
        return Field()(t, odeint(lambda t, y: -y, y, TIMES[:2], rtol=1e-3, atol=1e-3)[-1])

    bare = odeint(outer, _y0(), TIMES, rtol=1e-3, atol=1e-3)
    with tap.observe(TERM) as seen:
        observed = odeint(outer, _y0(), TIMES, rtol=1e-3, atol=1e-3)
    assert torch.equal(observed, bare)
    assert seen.stats.solves == 1
