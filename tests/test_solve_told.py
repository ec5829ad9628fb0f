"""What a solve tells of itself beside its counts: its method, what its sample cost, why it took no term or failed."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
pytest.importorskip("torchsde")

import torchsde
from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from solvertap import errors
from tests.faults import fault

F64 = torch.float64
TIMES = torch.tensor([0.0, 1.0], dtype=F64)


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(3.0, dtype=F64))

    def forward(self, t, y):
        return torch.sin(self.rate * t) - y * y


class SDE(Field):
    noise_type, sde_type = "diagonal", "stratonovich"

    def f(self, t, y):
        return self(t, y)

    def g(self, t, y):
        return 0.1 * y


def _ode(method="dopri5", by=odeint, **options):
    return by(Field(), torch.ones(2, dtype=F64), TIMES, method=method, rtol=1e-5, atol=1e-5, options=options)


def _sde(adaptive=True):
    y0 = torch.ones(2, 1, dtype=F64)
    path = torchsde.BrownianInterval(0.0, 1.0, size=(2, 1), dtype=F64, entropy=3)
    return torchsde.sdeint(SDE(), y0, TIMES, bm=path, method="heun", dt=0.1, adaptive=adaptive, rtol=1e-2, atol=1e-2)


def _records(term, *solves):
    records = []
    with tap.regularize(term, listener=records.append) as regularizer:
        for solve in solves:
            solve()
    return records, regularizer


def test_method_is_what_the_library_calls_it():
    records, _ = _records(
        None, _ode, lambda: _ode("rk4"), lambda: _ode("scipy_solver", solver="RK45"), _sde, lambda: _sde(adaptive=False)
    )
    assert [record.method for record in records] == ["dopri5", "rk4", "scipy_solver(RK45)", "Heun", "Heun"]


def _diffrax(*solver, **options):
    import diffrax

    term = diffrax.ODETerm(lambda t, y, args: -y * args)
    return lambda rate: diffrax.diffeqsolve(term, *solver, 0.0, 1.0, 0.1, 1.0, args=rate, **options).ys.sum()


@pytest.mark.slow
def test_solve_of_diffrax_tells_its_method_and_what_its_sample_cost():
    diffrax = pytest.importorskip("diffrax")
    import jax

    told = []
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    for solver in (diffrax.Tsit5(), diffrax.HalfSolver(diffrax.Heun())):
        solve = _diffrax(solver, stepsize_controller=controller)

        def traced(rate, solve=solve):
            with tap.observe(tap.LocalSample(tap.LocalError()), key=jax.random.key(0)) as seen:
                y = solve(rate)
            told.append((seen.solves[0].method, int(seen.solves[0].stats.measuring)))
            return y

        traced(1.0)
    # Two steps alone, of seven evaluations and of three times two.
    assert told == [("Tsit5", 14), ("HalfSolver(Heun)", 12)]


@pytest.mark.slow
def test_solve_that_jax_does_not_trace_again_is_counted_with_its_reason():
    diffrax = pytest.importorskip("diffrax")
    import jax

    def train():
        jax.grad(_diffrax(diffrax.Euler()))(1.0)
        jax.effects_barrier()

    records, regularizer = _records(tap.LocalError(), train, train, train)
    assert [record.method for record in records] == ["Euler"] * 3
    assert list(regularizer.left_out.values()) == [3]


@pytest.mark.parametrize("solve", [_ode, _sde, lambda: _ode("scipy_solver"), lambda: _ode(by=odeint_adjoint)])
def test_evaluations_of_the_extra_step_are_told_apart(solve):
    (bare,), _ = _records(None, lambda: (torch.manual_seed(0), solve()))
    (record,), _ = _records(tap.LocalSample(tap.LocalError()), lambda: (torch.manual_seed(0), solve()))
    assert bare.stats.measuring == 0 < record.stats.measuring
    assert record.stats.evaluations == bare.stats.evaluations


@fault(
    "several solves of a script go without a term, for several reasons",
    "`left_out` counts the solves of each",
)
def test_solves_without_a_term_are_counted_by_reason():
    plain = [lambda: _ode("euler")] * 3 + [lambda: _ode(by=odeint_adjoint)] * 2 + [_ode]
    records, regularizer = _records(tap.LocalError() + tap.Stiffness(), *plain)
    assert sorted(regularizer.left_out.values()) == [2, 3]
    assert "`Euler`" in next(reason for reason, solves in regularizer.left_out.items() if solves == 3)
    assert [len(record.left_out) for record in records] == [1, 1, 1, 1, 1, 0]


def test_backward_passes_that_carried_a_penalty_are_counted():
    field = Field()
    optimiser = torch.optim.SGD(field.parameters(), lr=0.1)

    def train():
        optimiser.zero_grad()
        odeint(field, torch.ones(2, dtype=F64), TIMES).sum().backward()

    _, regularizer = _records(tap.LocalError(), train, train, _ode)
    assert regularizer.backward_passes == {"carried": 2, "left": 0}
    _, regularizer = _records(None, train)
    assert regularizer.backward_passes == {"carried": 0, "left": 0}


@fault(
    "the only solve of `observe(trace=True)` fails, as with an underflow in dt",
    "`seen.trace` has the steps up to there, `seen.failed` the solve",
)
def test_trace_of_a_failed_solve_has_its_steps():
    with tap.observe(trace=True) as seen, pytest.raises(AssertionError, match="underflow"):
        odeint(lambda t, y: y * y, torch.ones(1, dtype=F64), 2 * TIMES, rtol=1e-4, atol=1e-4)
    assert not seen.solves
    assert [solve.method for solve in seen.failed] == ["dopri5"]
    trace = seen.trace.numpy()
    assert trace["t"][-1] == pytest.approx(1, abs=1e-3)  # y = 1 / (1 - t)
    assert abs(trace["h"][-1]) < 1e-12 < abs(trace["h"][0])
    with pytest.raises(errors.NothingObservedError, match="1 failed"):
        seen._seen()


def test_attempt_at_which_torchsde_fails_is_in_the_trace():
    class Breaks(SDE):
        def f(self, t, y):
            return y * (float("nan") if t > 0.5 else 1.0)

    with tap.observe(trace=True) as seen, pytest.raises(AssertionError, match="nans"):
        torchsde.sdeint(Breaks(), torch.ones(2, 1, dtype=F64), TIMES, method="heun", dt=0.2, adaptive=True)
    trace = seen.trace.numpy()
    assert trace["t"][-1] + trace["h"][-1] > 0.5
    assert trace["local_error"][-1] != trace["local_error"][-1]
    assert not trace["accepted"][-1]


@fault(
    "every solve of a script fails",
    "`regularize` counts them as failed",
)
def test_failed_solves_are_counted():
    def fails():
        with pytest.raises(AssertionError, match="underflow"):
            odeint(lambda t, y: y * y, torch.ones(1, dtype=F64), 2 * TIMES, rtol=1e-4, atol=1e-4)

    records, regularizer = _records(tap.LocalError(), fails, fails)
    assert (records, regularizer.failed, regularizer.stats) == ([], 2, {})


def test_recomputation_that_torch_breaks_off_has_not_failed():
    from torch.utils.checkpoint import checkpoint

    def train():
        y0 = torch.ones(2, dtype=F64, requires_grad=True)
        field = Field()
        checkpoint(lambda y: odeint(field, y, TIMES)[-1].sin().sum(), y0, use_reentrant=False).backward()

    _, regularizer = _records(tap.LocalError(), train)
    assert regularizer.stats["training"].solves == 1
    assert regularizer.failed == 0
