"""`tap.detach()` at any call of a field: the solution is the bare one, the observation is whole or there is none."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint, odeint_adjoint, odeint_dense, odeint_event

import solvertap as tap
from tests.faults import fault

TIMES = torch.linspace(0, 1, 4, dtype=torch.float64)
CALL = {"rtol": 1e-2, "atol": 1e-2}


class Field(torch.nn.Module):
    """Detaches at its n-th call or callback, and attaches anew some of them later."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, at=None, until=None):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([[0.3, -4.0], [3.0, 0.2]], dtype=torch.float64))
        self.calls, self.at, self.until = 0, at, until

    def _called(self, *_):
        self.calls += 1
        if self.calls == self.at:
            tap.detach()
        if self.calls == self.until:
            tap.attach()

    def forward(self, t, y):
        self._called()
        return torch.tanh(y @ self.weights) - t * y

    f = forward
    callback_step = callback_accept_step = callback_reject_step = _called

    def g(self, t, y):
        self._called()
        return 0.1 * torch.sigmoid(y)


def _by(method, solver=odeint, **options):
    return lambda field, y0: solver(field, y0, TIMES, **CALL, method=method, options=options)


def _sde(field, y0, **options):
    bm = torchsde.BrownianInterval(0, 1, size=y0.shape, dtype=y0.dtype, entropy=1)
    return torchsde.sdeint(field, y0, TIMES, bm=bm, dt=0.25, method="euler", rtol=0.1, atol=0.1, **options)


TERM = tap.LocalError() + tap.Stiffness()
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")
ADAPTIVE = [{}, {"term": TERM}, {"trace": True}, {"checkpoint": True}, {"term": tap.LocalSample(tap.LocalError())}]
WAYS = {
    "dopri5": (_by("dopri5", first_step=0.5, jump_t=torch.tensor([0.4])), ADAPTIVE),
    "heun": (_by("adaptive_heun", first_step=0.5), ADAPTIVE[1:3]),
    "event": (
        lambda field, y0: odeint_event(field, y0, TIMES[0], event_fn=lambda t, y: t - 0.6, **CALL)[1],
        ADAPTIVE[:3],
    ),
    "dense": (lambda field, y0: odeint_dense(field, y0, TIMES[0], TIMES[-1], **CALL)(TIMES[1]), ADAPTIVE[:3]),
    "adjoint": (_by("dopri5", odeint_adjoint), ADAPTIVE[:1] + ADAPTIVE[4:]),
    "grid": (_by("midpoint", step_size=0.25), [{}, {"term": DOUBLED}, {"term": tap.LocalSample(DOUBLED)}]),
    "scipy": (_by("scipy_solver"), ADAPTIVE[:1] + ADAPTIVE[4:]),
    "sde": (_sde, [{}, {"term": DOUBLED}, {"checkpoint": True}, {"term": tap.LocalSample(DOUBLED)}]),
    "adaptive sde": (lambda field, y0: _sde(field, y0, adaptive=True), ADAPTIVE),
}


def _solved(solve, setting, at=None, until=None):
    field = Field(at, until)
    y0 = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)
    torch.manual_seed(0)
    with tap.observe(**setting) as seen:
        states = solve(field, y0)
    return states, seen, field.calls


@fault(
    "`tap.detach()` is called in the middle of an attempt, by a callback of the field or another thread",
    "the solution is bitwise the bare one; the solve is observed to its end, or not at all",
)
@pytest.mark.parametrize("way", WAYS)
def test_detaching_at_any_call_of_the_field_changes_no_solution_and_leaves_no_half_observation(way):
    solve, settings = WAYS[way]
    bare = Field()
    states = solve(bare, torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64))
    for setting in settings:
        _, whole, _ = _solved(solve, setting)
        for at in range(1, bare.calls + 1):
            found, seen, _ = _solved(solve, setting, at, at + 1 + at % 5)
            tap.attach()
            assert torch.equal(found, states), (setting, at)
            assert seen.stats in (tap.Stats(), whole.stats), (setting, at)
            if "term" in setting and seen.stats.solves:
                assert torch.equal(seen.penalty, whole.penalty), (setting, at)


@fault(
    "a field detaches in the middle of a solve of diffrax, while it is traced",
    "that solve is observed to its end; it is the bare one",
)
def test_detaching_while_diffrax_traces_the_field_leaves_the_solve_whole():
    diffrax = pytest.importorskip("diffrax")
    jnp = pytest.importorskip("jax.numpy")

    def solved(detaches, **observed):
        def field(t, y, _):
            if detaches:
                tap.detach()
            return jnp.tanh(y) - t * y

        with tap.observe(**observed) as seen:
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(field), diffrax.Dopri5(), 0.0, 1.0, 0.1, jnp.ones(2), max_steps=64,
                stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3),
            )  # fmt: skip
        return solution.ys, seen

    for setting in ({}, {"term": TERM}, {"trace": True}):
        states, whole = solved(False, **setting)
        found, seen = solved(True, **setting)
        tap.attach()
        assert (found == states).all()
        assert seen.stats == whole.stats
        if "term" in setting:
            assert seen.penalty == whole.penalty
