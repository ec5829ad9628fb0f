"""What a solve leaves to the garbage collector: nothing that the bare solve does not leave there."""

import gc

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")
pytest.importorskip("torchdyn.core")

import numpy as np
from torchdiffeq import odeint, odeint_adjoint, odeint_dense, odeint_event
from torchdiffeq._impl import dopri5, fixed_grid, misc
from torchdiffeq._impl.odeint import SOLVERS as SOLVER_CLASSES
from torchdyn import numerics as torchdyn
from torchdyn.core import ODEProblem

import solvertap as tap
from solvertap import adapting, errors
from tests.faults import fault

SOLVES = 3
TIMES = torch.linspace(0, 0.3, 3, dtype=torch.float64)
ERROR = tap.LocalError()
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")


class Field(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([[0.3, -1.0], [0.7, 0.2]], dtype=torch.float64))
        self.calls, self.fails_at = 0, None

    def forward(self, t, y):
        self.calls += 1
        if self.calls == self.fails_at:
            raise ZeroDivisionError
        return torch.tanh(y @ self.weights) - t * y

    f = forward

    def g(self, t, y):
        return 0.1 * torch.sigmoid(y)


def _by(solver, method, **options):
    return lambda field, y0: solver(field, y0, TIMES, rtol=1e-3, atol=1e-3, method=method, **options)


def _sde(solver, **options):
    return lambda field, y0: solver(field, y0, TIMES, dt=0.1, **options)


def _event(field, y0):
    return odeint_event(field, y0, TIMES[0], event_fn=lambda t, y: t - 0.25, rtol=1e-3, atol=1e-3)[1]


def _dense(field, y0):
    return odeint_dense(field, y0, TIMES[0], TIMES[-1], rtol=1e-3, atol=1e-3)(TIMES[1])


def _torchdyn(solver, times=TIMES):
    return lambda field, y0: torchdyn.odeint(field, y0, times, solver, atol=1e-3, rtol=1e-3)[1]


def _torchdyn_adjoint(field, y0):
    return ODEProblem(field, "dopri5", sensitivity="adjoint", atol=1e-3, rtol=1e-3)(y0, TIMES)[1]


SOLVERS = {
    "dopri5": _by(odeint, "dopri5"),
    "event": _event,
    "dense": _dense,
    "rk4": _by(odeint, "rk4", options={"step_size": 0.1}),
    "scipy": _by(odeint, "scipy_solver"),
    "adjoint dopri5": _by(odeint_adjoint, "dopri5"),
    "adjoint rk4": _by(odeint_adjoint, "rk4", options={"step_size": 0.1}),
    "adjoint scipy": _by(odeint_adjoint, "scipy_solver"),
    "sde adaptive": _sde(torchsde.sdeint, adaptive=True, rtol=1e-2, atol=1e-2),
    "sde": _sde(torchsde.sdeint),
    "torchdyn dopri5": _torchdyn("dopri5"),
    "torchdyn backwards": _torchdyn("dopri5", TIMES.flip(0)),
    "torchdyn rk4": _torchdyn("rk4"),
    "torchdyn adjoint": _torchdyn_adjoint,
    "sde adjoint": _sde(torchsde.sdeint_adjoint, adjoint_params=()),
}
SETTINGS = {
    "counts": {},
    "trace": {"trace": True},
    "error": {"term": ERROR},
    "stiffness": {"term": ERROR + tap.Stiffness()},
    "doubling": {"term": DOUBLED},
    "sample": {"term": tap.LocalSample(ERROR)},
    "sampled steps": {"term": tap.LocalSample(ERROR, draw="steps")},
    "sampled doubling": {"term": tap.LocalSample(DOUBLED)},
    "checkpoint": {"checkpoint": True},
    "checkpointed error": {"term": ERROR, "checkpoint": True},
    "checkpointed sample": {"term": tap.LocalSample(ERROR), "checkpoint": True},
    "regularized error": "local_error",
    "regularized sample": "local_error:draw=uniform",
    "regularized doubling": "local_error:estimate=doubling:scale=raw",
}


def _left(solve, setting, fails_at=None):
    """How many tensors and `Solve`s so many solves leave, and how each ended."""
    field = Field()
    field.fails_at = fails_at
    with_term = isinstance(setting, dict) and "term" in setting

    def once(seed):
        torch.manual_seed(seed)
        np.random.seed(seed)  # torchsde's own seeds
        field.calls = 0
        y0 = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)
        if setting is None:
            loss = solve(field, y0).sum()
        elif isinstance(setting, str):
            with tap.regularize(setting):
                loss = solve(field, y0).sum()
        else:
            with tap.observe(**setting) as seen:
                loss = solve(field, y0).sum()
            loss = loss + seen.penalty if with_term else loss
        if loss.requires_grad:
            loss.backward()

    def tried(seed):
        try:
            once(seed)
        except (ZeroDivisionError, errors.PenaltyRefusedError, errors.CheckpointError) as error:
            return type(error)

    kinds = {tried(0)}
    gc.collect()
    before = _alive()
    for seed in range(SOLVES):
        kinds.add(tried(seed))
    return _alive() - before, kinds


def _alive():
    return sum(isinstance(x, torch.Tensor | adapting.Solve) for x in gc.get_objects())


@pytest.fixture(autouse=True, scope="module")
def _without_collector():
    gc.collect()
    gc.disable()
    gc.freeze()  # what was there before is none of ours, and would be looked through every time
    yield
    gc.unfreeze()
    gc.enable()


@fault(
    "a solve is sampled, replayed, doubled, traced, regularized or only counted, and garbage collection is off",
    "it leaves no more tensors alive than the bare solve, whichever solver of torch it is",
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solves_leave_no_more_to_the_garbage_collector_than_bare_ones(solver):
    bare, _ = _left(SOLVERS[solver], None)
    for name, setting in SETTINGS.items():
        left, _ = _left(SOLVERS[solver], setting)
        assert left <= bare, name


@fault("a solve that is observed raises", "it leaves no more tensors alive than the bare solve that raises")
@pytest.mark.parametrize(
    "solver", ["dopri5", "dense", "rk4", "scipy", "adjoint dopri5", "sde adaptive", "sde", "torchdyn dopri5"]
)
@pytest.mark.parametrize("fails_at", [1, 8])
def test_solves_that_raise_leave_no_more_than_bare_ones(solver, fails_at):
    bare, kinds = _left(SOLVERS[solver], None, fails_at)
    assert kinds == {ZeroDivisionError}
    for name in ("counts", "trace", "stiffness", "doubling", "sample", "checkpointed error", "regularized sample"):
        left, _ = _left(SOLVERS[solver], SETTINGS[name], fails_at)
        assert left <= bare, name


def test_a_solver_that_has_ended_has_its_own_field_and_norm_and_step_again():
    y0 = torch.ones(1, 2, dtype=torch.float64)
    _, field, *_ = misc._check_inputs(Field(), y0, TIMES, 1e-3, 1e-3, "dopri5", None, None, SOLVER_CLASSES)
    options = {"func": field, "y0": y0, "rtol": 1e-3, "atol": 1e-3, "norm": misc._rms_norm}
    for solver in (dopri5.Dopri5Solver(**options), fixed_grid.RK4(**options, step_size=0.1)):
        before = dict(vars(solver))
        for _ in range(2):
            with tap.observe(ERROR if isinstance(solver, dopri5.Dopri5Solver) else None) as seen:
                solver.integrate(TIMES)
            assert seen.stats.accepted > 0
        assert vars(solver).keys() - before.keys() <= {"rk_state", "next_step_index", "next_jump_index"}
        assert all(vars(solver)[name] is before[name] for name in ("func", "y0"))
        assert vars(solver).get("norm") is before.get("norm")
