"""`observe(checkpoint=True)` where a field goes backwards itself: as a flow of densities does, or a Hamiltonian one."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint

import solvertap as tap
from solvertap import errors
from tests.faults import fault

TIMES = torch.linspace(0, 1, 3, dtype=torch.float64)
CALL = {"rtol": 1e-4, "atol": 1e-4}


class Potential(torch.nn.Module):
    """The gradient of a network as a field, the trace of its derivative, and the drift of an SDE."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
        self.calls = 0

    def f(self, t, y):
        self.calls += 1
        with torch.enable_grad():
            y = y if y.requires_grad else y.detach().requires_grad_()
            return torch.autograd.grad(self.net(y).sum(), y, create_graph=True)[0]

    def g(self, t, y):
        return 0.1 * torch.ones_like(y)

    def density(self, t, state):
        with torch.enable_grad():
            y = state[0] if state[0].requires_grad else state[0].detach().requires_grad_()
            slope = self.f(t, y)
            rows = [torch.autograd.grad(slope[:, i].sum(), y, create_graph=True)[0][:, i] for i in range(3)]
        return slope, -sum(rows)


def _y0():
    return torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def _diffusion(field):
    np.random.seed(0)  # torchsde's own seeds
    return torchsde.sdeint(field, _y0(), TIMES, dt=0.2, adaptive=True, rtol=1e-2, atol=1e-2)


WAYS = {
    "Hamiltonian": lambda field: odeint(field.f, _y0(), TIMES, **CALL),
    "density": lambda field: odeint(field.density, (_y0(), torch.zeros(4, dtype=torch.float64)), TIMES, **CALL)[1],
    "grid": lambda field: odeint(field.f, _y0(), TIMES, method="rk4"),
    "diffusion": _diffusion,
}


def _trained(way, **options):
    field = Potential()
    term = None if way == "grid" else tap.LocalError(scale="raw")
    with tap.observe(term, **options) as seen:
        states = WAYS[way](field)
    forward = field.calls
    loss = states.square().sum() + (0 if term is None else seen.penalty)
    gradients = torch.autograd.grad(loss, list(field.parameters()), allow_unused=True)
    return states, [x for x in gradients if x is not None], forward, field.calls, seen


@fault(
    "`checkpoint=True` stands around a field that calls `torch.autograd.grad`",
    "its own backward passes find their tensors at hand; each step is taken once more, in the outermost one",
)
@pytest.mark.parametrize("way", WAYS)
def test_a_backward_pass_of_the_field_takes_no_step_once_more(way):
    states, gradients, once, _, _ = _trained(way)
    replayed, its_gradients, forward, calls, seen = _trained(way, checkpoint=True)
    assert torch.equal(replayed, states)
    assert forward == once
    assert forward < calls <= 2 * forward
    assert calls - forward == seen.phases["recomputation"].evaluations
    for x, y in zip(its_gradients, gradients, strict=True):
        assert (x - y).norm() <= 1e-10 * y.norm()


@fault(
    "`checkpoint=True` stands around a field that goes backwards through what it has changed in place",
    "CheckpointError, as torch itself refuses it",
)
def test_a_field_that_changes_what_its_own_backward_pass_needs_is_refused():
    def field(t, y):
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            scale = torch.ones_like(y)
            energy = (scale * y).square().sum()
            if t > 0:  # in a step
                scale.mul_(2)
            return torch.autograd.grad(energy, y, create_graph=True)[0]

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        odeint(field, _y0().requires_grad_(), TIMES, method="dopri5", options={"first_step": 0.1})
    with tap.observe(checkpoint=True), pytest.raises(errors.CheckpointError, match="changed in place"):
        odeint(field, _y0().requires_grad_(), TIMES, method="dopri5", options={"first_step": 0.1})
