"""The gradient of an observed solve of torchdiffeq is bitwise that of the bare one: torch adds it in the same order."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint, odeint_event

import solvertap as tap
from tests.faults import fault

JUMP = {"jump_t": torch.tensor([0.5])}
STEP = {"step_t": torch.tensor([0.33])}
OPTIONS = {"none": {}, "jump_t": JUMP, "step_t": STEP, "both": JUMP | STEP}
SETTINGS = {
    "counts": {},
    "trace": {"trace": True},
    "penalty": {"term": tap.LocalError() + tap.Stiffness()},
    "sample": {"term": tap.LocalSample(tap.LocalError())},
}


def _problem(dtype):
    torch.manual_seed(0)
    weights, y0 = (torch.randn(n, 3).to(dtype).requires_grad_() for n in (3, 4))
    return weights, y0, lambda t, y: 2 * torch.tanh(y @ weights) + torch.where(t > 0.5, 3.0, 0.0) * y.cos()


def _solved(dtype, method, options, times, event):
    weights, y0, field = _problem(dtype)
    call = {"rtol": 1e-2, "atol": 1e-2, "method": method, "options": {**options, "first_step": 0.05}}
    if event:
        _, states = odeint_event(field, y0, torch.zeros((), dtype=dtype), event_fn=lambda t, y: t - 0.7, **call)
    else:
        states = odeint(field, y0, torch.linspace(0, 1, times, dtype=dtype), **call)
    return states, torch.autograd.grad(states.sin().sum(), (weights, y0))


@fault(
    "a solve with jumps, or of a method that is not first-same-as-last, is read at several times",
    "the gradient of the observed solution is bitwise that of the bare one",
)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("method", ["dopri5", "fehlberg2", "adaptive_heun"])
def test_the_gradient_of_an_observed_solve_is_bitwise_the_bare_one(method, dtype, options):
    for times, event in ((5, False), (20, False), (2, True)):
        call = dtype, method, OPTIONS[options], times, event
        states, gradients = _solved(*call)
        for setting in SETTINGS.values():
            with tap.observe(**setting) as seen:
                observed, its_gradients = _solved(*call)
            assert seen.stats.accepted > 1
            assert torch.equal(observed, states)
            assert all(map(torch.equal, its_gradients, gradients))
