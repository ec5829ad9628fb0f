"""What is evaluated for a penalty alone leaves the random numbers of the program where they were."""

import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from tests.faults import fault

SAMPLE = tap.LocalSample(tap.LocalError())
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")
TIMES = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)


class Field(torch.nn.Module):
    """A field that draws a random number whenever it is evaluated, as one with dropout does."""

    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([[1.2, -0.4], [0.7, 0.5]], dtype=torch.float64))

    def forward(self, t, y):
        return torch.tanh(y @ self.w) - y + 1e-5 * torch.rand((), dtype=torch.float64)

    f = forward

    def g(self, t, y):
        return 0.1 * torch.cos(y @ self.w) + 1e-5 * torch.rand((), dtype=torch.float64)


def _y0():
    return torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)


def _ode(solve=odeint, **options):
    return lambda field: solve(field, _y0(), TIMES, rtol=1e-3, atol=1e-3, **options)


def _sde(solve=torchsde.sdeint, **options):
    def solved(field):
        # A halfway tree, whose path does not depend on who asks.
        path = torchsde.BrownianInterval(0.0, 1.0, (2, 2), torch.float64, entropy=1, tol=1e-5, halfway_tree=True)
        return solve(field, _y0(), TIMES, bm=path, dt=0.25, rtol=1e-2, atol=1e-2, method="midpoint", **options)

    return solved


GRID = {"method": "rk4", "options": {"step_size": 0.25}}
WAYS = {
    "sample": (_ode(), SAMPLE),
    "sample of an accepted step": (_ode(), tap.LocalSample(tap.LocalError(), draw="steps")),
    "sample, adjoint": (_ode(odeint_adjoint), SAMPLE),
    "sample, scipy": (_ode(method="scipy_solver"), SAMPLE),
    "sample, grid": (_ode(**GRID), tap.LocalSample(DOUBLED)),
    "doubling": (_ode(**GRID), DOUBLED),
    "stiffness": (_ode(method="bosh3"), tap.Stiffness()),
    "sde sample": (_sde(adaptive=True), SAMPLE),
    "sde sample, adjoint": (_sde(torchsde.sdeint_adjoint, adaptive=True), SAMPLE),
    "sde doubling": (_sde(), DOUBLED),
    "sde stiffness": (_sde(adaptive=True), tap.Stiffness()),
}


def _run(solve, around):
    """The solution, and the script's next random number."""
    torch.manual_seed(5)
    with around:
        solution = solve(Field())
    return solution.detach(), torch.rand((), dtype=torch.float64)


@pytest.mark.parametrize("name", WAYS)
@fault(
    "a field that draws random numbers (dropout) is evaluated once more for a penalty: sample, doubling, stiffness",
    "the solution, and the program's next random number, are bitwise what they would have been",
)
def test_what_is_evaluated_for_a_penalty_alone_takes_no_random_number_of_the_program(name):
    solve, term = WAYS[name]
    bare, following = _run(solve, tap.unobserved())
    for around in (tap.regularize(term, passes="all"), tap.observe(term, key=random.Random(0))):
        solution, number = _run(solve, around)
        assert torch.equal(solution, bare)
        assert number == following


def test_sample_without_a_key_draws_one_number_when_the_solve_is_over():
    solve = WAYS["sample"][0]
    bare, following = _run(solve, tap.unobserved())
    solution, number = _run(solve, tap.observe(SAMPLE))
    assert torch.equal(solution, bare)
    torch.manual_seed(5)
    solve(Field())
    torch.rand(())
    assert number == torch.rand((), dtype=torch.float64) != following


def test_checkpointed_doubling_draws_the_same_once_more():
    def gradient(**options):
        torch.manual_seed(5)
        field = Field()
        with tap.observe(DOUBLED, **options) as seen:
            y = WAYS["doubling"][0](field)
        (y.sum() + seen.penalty).backward()
        return field.w.grad, torch.rand(())

    (plain, number), (checkpointed, same) = gradient(), gradient(checkpoint=True)
    torch.testing.assert_close(plain, checkpointed, rtol=1e-12, atol=1e-14)
    assert number == same
