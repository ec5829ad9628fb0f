"""An extra step of an SDE leaves the Brownian motion as it was: for the solve itself, and for whoever asks it later."""

import pytest

torch = pytest.importorskip("torch")
torchsde = pytest.importorskip("torchsde")

import solvertap as tap
from tests.faults import fault

TIMES = torch.tensor([0.0, 1.0], dtype=torch.float64)
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")


class Diffusion(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def f(self, t, y):
        return torch.tanh(y)

    def g(self, t, y):
        return 0.3 * torch.sigmoid(y)


def _solved_twice(bm, y0, steps):
    """The solution, and that along the same path with a third of the step."""
    states = torchsde.sdeint(Diffusion(), y0, TIMES, bm=bm, dt=1 / steps, method="euler")
    with tap.unobserved():
        return states, torchsde.sdeint(Diffusion(), y0, TIMES, bm=bm, dt=1 / steps / 3, method="euler")


@fault(
    "a Brownian motion of the caller's, made without `dt`, refines itself by what it is asked, extra steps included",
    "it does not learn of extra steps: the solution is bitwise the bare one, and so is what it gives later",
)
@pytest.mark.parametrize("term", [DOUBLED, tap.LocalSample(DOUBLED)], ids=["doubling", "sample"])
@pytest.mark.parametrize("kind", ["interval", "path"])
def test_extra_steps_do_not_refine_the_callers_brownian_motion(term, kind):
    y0 = torch.ones(3, 2, dtype=torch.float64).requires_grad_()

    def brownian():
        torch.manual_seed(0)
        if kind == "path":
            import numpy as np

            np.random.seed(0)  # torchsde's own seeds
            return torchsde.BrownianPath(0.0, torch.zeros_like(y0.detach()))
        return torchsde.BrownianInterval(0.0, 1.0, size=(3, 2), dtype=torch.float64, entropy=3)

    bare = _solved_twice(brownian(), y0, 140)
    with tap.observe(term) as seen:
        observed = _solved_twice(brownian(), y0, 140)
    assert seen.penalty > 0
    assert all(map(torch.equal, observed, bare))


@fault(
    "the Brownian motion of a replayed solve is asked for other times before the backward pass",
    "the steps that are taken once more find the increments they had",
)
def test_replayed_halves_find_their_increments_when_others_have_asked_meanwhile():
    gradients = []
    for checkpoint in (False, True):
        y0 = torch.ones(3, 2, dtype=torch.float64).requires_grad_()
        bm = torchsde.BrownianInterval(0.0, 1.0, size=(3, 2), dtype=torch.float64, entropy=3)
        with tap.observe(DOUBLED, checkpoint=checkpoint) as seen:
            torchsde.sdeint(Diffusion(), y0, TIMES, bm=bm, dt=0.25, method="euler")
        for t in (0.1, 0.3, 0.55, 0.8):
            bm(t, t + 0.03)
        gradients += torch.autograd.grad(seen.penalty, y0)
    assert torch.allclose(*gradients, rtol=1e-12)
