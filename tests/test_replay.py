"""Replay in torch: full terms under a continuous adjoint, on the accepted steps taken once more.

The oracle is the same solve, differentiated through its steps, whose terms have oracles of their own.
"""

import gc
import weakref

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

import numpy as np
from torchdiffeq import odeint, odeint_adjoint, odeint_event
from torchdiffeq._impl import dopri5

import solvertap as tap
from solvertap import errors
from solvertap_lab.overhead.memory import most_held
from tests.faults import fault

VALUE, GRADIENT = 1e-12, 1e-9  # the promise, relative
W = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
START = torch.linspace(0.1, 0.8, 6, dtype=torch.float64).reshape(2, 3)
TIMES = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")


def _energy(step):
    return (step.y1**2).sum() * step.h


ALL = (
    tap.LocalError()
    + 0.3 * tap.Stiffness(reduce="mean")
    + 0.1 * tap.SquaredLocalError(reduce="max")
    + tap.KineticEnergy()
    + tap.SlopeChange()
    + tap.term(_energy, name="energy")
)
NOISY = tap.LocalError() + 0.3 * tap.Stiffness(reduce="mean") + tap.term(_energy, name="energy")


class Field(torch.nn.Module):
    def __init__(self, noise_type="diagonal", sde_type="stratonovich", draws=False):
        super().__init__()
        self.w, self.noise_type, self.sde_type = torch.nn.Parameter(W.clone()), noise_type, sde_type
        self.calls, self.draws = 0, draws

    def forward(self, t, y):
        self.calls += 1
        noise = 1e-3 * torch.rand((), dtype=y.dtype) if self.draws else 0.0
        return 4 * torch.tanh(y @ self.w) + torch.sin(20 * t) + noise

    f = forward

    def g(self, t, y):
        noise = 0.3 * torch.sin(y @ self.w.T)
        return noise if self.noise_type == "diagonal" else torch.diag_embed(noise)


def _ode(method="dopri5", times=TIMES, tolerance=1e-5, **options):
    def solved(field, y0, adjoint):
        solve = odeint_adjoint if adjoint else odeint
        return solve(field, y0, times, method=method, rtol=tolerance, atol=tolerance, **options)

    return solved


def _tuple(field, y0, adjoint):
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.field = field

        def forward(self, t, y):
            return self.field(t, y[0]), -y[1]

    solve = odeint_adjoint if adjoint else odeint
    first, second = solve(Both(), (y0, y0[0]), TIMES.flip(0), rtol=1e-5, atol=1e-5)
    return torch.cat([first.flatten(), second.flatten()])


def _event(field, y0, adjoint):
    solve = odeint_adjoint if adjoint else odeint
    options = {"event_fn": lambda t, y: t - 0.55, "odeint_interface": solve, "rtol": 1e-5, "atol": 1e-5}
    return odeint_event(field, y0, TIMES[0], **options)[1]


def _sde(method, sde_type="stratonovich", noise_type="diagonal", *, adaptive=True, path="interval"):
    def solved(field, y0, adjoint):
        field.sde_type, field.noise_type = sde_type, noise_type
        options = {"adaptive": adaptive, "dt": 0.05, "rtol": 3e-3, "atol": 3e-3, "bm": _path(path, method)}
        solve = torchsde.sdeint_adjoint if adjoint else torchsde.sdeint
        return solve(field, y0, TIMES, method=method, **options)

    return solved


def _path(kind, method):
    np.random.seed(5)  # BrownianPath draws its entropy from here
    if kind == "interval":
        levy = "space-time" if method == "srk" else "none"
        return torchsde.BrownianInterval(0.0, 1.0, (2, 3), torch.float64, entropy=3, levy_area_approximation=levy)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    return torchsde.BrownianPath(0.0, zero) if kind == "path" else torchsde.BrownianTree(0.0, zero, entropy=4)


BACKWARDS = torch.tensor([1.0, 0.5, -0.2], dtype=torch.float64)
JUMPS = {"jump_t": torch.tensor([0.31, 0.64], dtype=torch.float64)}
CASES = {
    "dopri5": (_ode(times=torch.linspace(0, 1.4, 3, dtype=torch.float64)), ALL, True),
    "dopri5, backwards": (_ode(times=BACKWARDS), ALL, True),
    "dopri5, jumps": (_ode(options=JUMPS), ALL, None),
    "dopri8": (_ode("dopri8"), ALL, None),
    "bosh3": (_ode("bosh3", tolerance=1e-3), ALL, True),
    "fehlberg2": (_ode("fehlberg2", tolerance=1e-4), ALL, True),
    "adaptive_heun": (_ode("adaptive_heun", TIMES[:2], tolerance=1e-3), ALL, True),
    "rk4, doubled": (_ode("rk4", options={"step_size": 0.1}), DOUBLED, None),
    "tuple": (_tuple, ALL, True),
    "event": (_event, ALL, None),
    "heun": (_sde("heun"), NOISY, True),
    "heun on a path": (_sde("heun", path="path"), NOISY, True),
    "heun on a tree": (_sde("heun", path="tree"), NOISY, True),
    "midpoint": (_sde("midpoint", noise_type="general"), NOISY, True),
    "euler": (_sde("euler", "ito"), NOISY, True),
    "milstein": (_sde("milstein", "ito"), NOISY, True),
    "srk": (_sde("srk", "ito"), NOISY, True),
    "reversible_heun": (_sde("reversible_heun"), NOISY, True),
    "euler, doubled": (_sde("euler", "ito", adaptive=False), DOUBLED, None),
    "heun, doubled": (_sde("heun", adaptive=False), DOUBLED, None),
}


def _observed(solve, term, adjoint=True, **options):
    """The field, the input behind the initial state, the solution, and what was seen."""
    field, x = Field(), START.clone().requires_grad_()
    with tap.observe(term, **options) as seen:
        y = solve(field, torch.sin(x), adjoint)
    return field, x, y, seen


def _bare(solve):
    field, x, y, _ = _observed(solve, None)
    return y, torch.autograd.grad(y.pow(2).sum(), (x, field.w))


@pytest.mark.parametrize("name", CASES)
@fault(
    "a full term under `odeint_adjoint`, `sdeint_adjoint` with `replay=True`",
    "value and gradient are those of the solve that is differentiated; solution and the adjoint's gradient are bitwise "
    "the bare ones",
)
def test_replay_gives_the_penalty_of_the_solve_that_is_differentiated_and_leaves_the_adjoint_alone(name):
    solve, term, rejects = CASES[name]
    y, adjoint_gradient = _bare(solve)
    field, x, _, direct = _observed(solve, term, adjoint=False)
    expected = torch.autograd.grad(direct.penalty, (x, field.w))
    field, x, solution, seen = _observed(solve, term, replay=True)
    assert seen.stats.rejected > 0 or not rejects
    assert torch.equal(solution, y)
    looks = field.calls - (seen.stats.evaluations + seen.stats.measuring)
    assert looks == (term is not ALL and name != "rk4, doubled")  # sdeint.py::check_contract looks at a field once
    assert seen.stats.evaluations == direct.stats.evaluations
    assert seen.stats.accepted == direct.stats.accepted
    # The adjoint goes first: what it does to a Brownian motion must not reach the replay's backward pass.
    own = torch.autograd.grad(solution.pow(2).sum(), (x, field.w), retain_graph=True)
    assert all(map(torch.equal, own, adjoint_gradient))
    for key, value in direct.values.items():
        assert seen.values[key].item() == pytest.approx(value.item(), rel=VALUE)
    found = torch.autograd.grad(seen.penalty, (x, field.w))
    for gradient, wanted in zip(found, expected, strict=True):
        assert (gradient - wanted).norm() <= GRADIENT * wanted.norm() > 0
    assert seen.phases["recomputation"].evaluations == seen.stats.measuring


@pytest.mark.parametrize("name", ["dopri5", "tuple", "event", "heun", "euler, doubled"])
def test_regularize_adds_the_gradient_of_a_replay_to_the_adjoints(name):
    solve, term, _ = CASES[name]
    text = "10*local_error:replay" + (":estimate=doubling:scale=raw" if term is DOUBLED else "")
    _, own = _bare(solve)
    field, x, _, seen = _observed(solve, 10 * (term if term is DOUBLED else tap.LocalError()), replay=True)
    added = torch.autograd.grad(seen.penalty, (x, field.w))
    field, x = Field(), START.clone().requires_grad_()
    optimiser = torch.optim.SGD(field.parameters(), lr=0.0)
    with tap.regularize(text) as regularized:
        solve(field, torch.sin(x), adjoint=True).pow(2).sum().backward()
        optimiser.step()
    assert not regularized.left_out
    for gradient, a, b in zip((x.grad, field.w.grad), own, added, strict=True):
        assert torch.allclose(gradient, a + b, rtol=1e-12, atol=1e-13 * b.abs().max())
        assert b.abs().max() > 0


def test_term_that_needs_no_replay_is_folded_as_ever():
    for name in ("dopri5", "heun"):
        solve, term, _ = CASES[name]
        found = [_observed(solve, term, adjoint=False, replay=replay) for replay in (False, True)]
        assert found[0][3].penalty.item() == found[1][3].penalty.item()
        gradients = [torch.autograd.grad(seen.penalty, field.w)[0] for field, _, _, seen in found]
        assert torch.equal(*gradients)
        assert found[0][3].stats == found[1][3].stats


def test_replay_beside_a_sample_a_trace_and_reference_steps():
    solve = CASES["dopri5"][0]
    term = tap.LocalError() + tap.LocalSample(tap.LocalError())
    options = {"trace": True, "align": True, "key": lambda n: 0.3}
    _, _, _, direct = _observed(solve, term, adjoint=False, **options)
    _, _, _, seen = _observed(solve, term, replay=True, **options)
    assert {k: v.item() for k, v in seen.values.items()} == pytest.approx(
        {k: v.item() for k, v in direct.values.items()}, rel=VALUE
    )
    assert np.array_equal(seen.trace.t, direct.trace.t)


def test_steps_of_an_adjoint_backwards_in_time_have_the_users_times():
    for adjoint in (False, True):
        _, _, _, seen = _observed(
            _ode(times=BACKWARDS), tap.term(_energy, name="energy"), adjoint, replay=True, trace=True
        )
        assert seen.trace.t[0] == BACKWARDS[0]
        assert seen.trace.t[-1] < BACKWARDS[-2]
        assert seen.values["energy"] < 0


@fault("an initial state is changed in place after a solve under an adjoint", "the replay's gradient is what it was")
def test_initial_state_may_be_changed_in_place_after_the_solve():
    def gradient(change):
        field, y0 = Field(), START.clone()
        with tap.observe(ALL, replay=True) as seen:
            odeint_adjoint(field, y0, TIMES, rtol=1e-5, atol=1e-5)
        if change:
            y0.zero_()
        return torch.autograd.grad(seen.penalty, field.w)[0]

    assert torch.equal(gradient(change=True), gradient(change=False))


@fault("an initial state is what the caller has detached from a parameter of the adjoint", "it carries no gradient")
@pytest.mark.parametrize("adjoint", [odeint_adjoint, torchsde.sdeint_adjoint])
def test_detached_initial_state_stays_detached(adjoint):
    field = Field()
    field.start = torch.nn.Parameter(START.clone())

    def gradient(y0):
        options = {"adjoint_params": (field.w, field.start)}
        if adjoint is torchsde.sdeint_adjoint:
            path = torchsde.BrownianInterval(0.0, 1.0, (2, 3), dtype=torch.float64, entropy=3)
            options |= {"bm": path, "dt": 0.1, "adaptive": True, "method": "heun", "adjoint_method": "heun"}
        with tap.observe(tap.LocalError(), replay=True) as seen:
            adjoint(field, y0, TIMES, rtol=1e-3, atol=1e-3, **options)
        return torch.autograd.grad(seen.penalty, field.start, materialize_grads=True)[0]

    assert torch.count_nonzero(gradient(field.start))
    for detached in (field.start.detach(), field.start.data, field.start.detach().clone()):
        assert not torch.count_nonzero(gradient(detached))


def test_field_that_draws_random_numbers_takes_none_of_the_program_and_draws_the_same_again():
    def run(term):
        torch.manual_seed(5)
        field = Field(draws=True)
        with tap.observe(term, replay=True) as seen:
            y = odeint_adjoint(field, START, TIMES, method="rk4", options={"step_size": 0.1})
        following = torch.rand(())
        return field, y, seen, following

    _, bare, _, after_bare = run(None)
    field, y, seen, following = run(DOUBLED)
    assert torch.equal(y, bare)
    assert following == after_bare
    torch.autograd.grad(seen.penalty, field.w)
    state = torch.get_rng_state()
    assert torch.equal(state, torch.get_rng_state())
    assert seen.phases["recomputation"].evaluations == seen.stats.measuring > 0


def test_replay_carries_second_derivatives():
    solve = _ode(times=TIMES[:2])
    field, _, _, direct = _observed(solve, tap.LocalError(), adjoint=False)
    (first,) = torch.autograd.grad(direct.penalty, field.w, create_graph=True)
    (expected,) = torch.autograd.grad(first.pow(2).sum(), field.w)
    field, _, _, seen = _observed(solve, tap.LocalError(), replay=True)
    (first,) = torch.autograd.grad(seen.penalty, field.w, create_graph=True)
    (found,) = torch.autograd.grad(first.pow(2).sum(), field.w)
    assert (found - expected).norm() <= 1e-8 * expected.norm() > 0


def test_replay_inside_torchs_checkpoint_is_recomputed():
    def gradients(around):
        field, x = Field(), START.clone().requires_grad_()

        def loss(x):
            with tap.observe(tap.LocalError(), replay=True) as seen:
                y = odeint_adjoint(field, x, TIMES, rtol=1e-5, atol=1e-5)
            return y[-1].sum() + seen.penalty

        return torch.autograd.grad(around(loss, x), (x, field.w))

    def checkpointed(function, x):
        return torch.utils.checkpoint.checkpoint(function, x, use_reentrant=False)

    plain, again = gradients(lambda function, x: function(x)), gradients(checkpointed)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(plain, again, strict=True))


def test_function_of_the_users_around_a_solve_is_an_adjoint_too():
    class Silent(torch.autograd.Function):
        @staticmethod
        def forward(ctx, field, y0, w):
            return odeint(field, y0, TIMES, rtol=1e-5, atol=1e-5)

        @staticmethod
        def backward(ctx, *cotangents):
            return None, None, None

    field, x, _, seen = _observed(lambda f, y0, _: Silent.apply(f, y0, f.w), ALL, replay=True)
    found = torch.autograd.grad(seen.penalty, (x, field.w))
    field, x, _, direct = _observed(_ode(), ALL, adjoint=False)
    for gradient, wanted in zip(found, torch.autograd.grad(direct.penalty, (x, field.w)), strict=True):
        assert (gradient - wanted).norm() <= GRADIENT * wanted.norm() > 0


@pytest.mark.parametrize("name", ["dopri5", "heun", "euler, doubled"])
def test_replay_leaves_nothing_to_the_garbage_collector(name):
    solve, term, _ = CASES[name]
    gc.collect()
    gc.disable()
    try:
        field, _, y, seen = _observed(solve, term, replay=True)
        (seen.penalty + y.sum()).backward()
        solved = weakref.ref(seen.solves[0])
        gc.collect()  # torchsde's own cycles
        found = weakref.ref(field)
        del field, y, seen
        if name == "dopri5":
            assert found() is None
        assert solved() is None
    finally:
        gc.enable()


class Own(dopri5.Dopri5Solver):
    def _adaptive_step(self, state):
        return super()._adaptive_step(state)


def _no_gradient(field, y0, adjoint):
    with torch.no_grad():
        return _ode()(field, y0, adjoint)


REFUSED = {
    "multistep": (_ode("implicit_adams", options={"step_size": 0.1}), DOUBLED, errors.FixedStepError, "earlier ones"),
    "closed": (_ode("scipy_solver"), tap.LocalError(), errors.FixedStepError, "cannot be seen"),
    "no_grad": (_no_gradient, tap.LocalError(), errors.GradientDisabledError, "switched off"),
}


@pytest.mark.parametrize("name", REFUSED)
@fault(
    "`replay=True` of steps that cannot be taken again: multistep, closed, of a solver of the user's",
    "an exception of its own class before the solve, with the reason; under `regularize` left out",
)
def test_what_cannot_be_replayed_is_refused_with_its_reason(name):
    solve, term, error, reason = REFUSED[name]
    with pytest.raises(error, match=reason):
        _observed(solve, term, replay=True)
    text = "local_error:replay" + (":estimate=doubling:scale=raw" if term is DOUBLED else "")
    with tap.regularize(text) as regularized:
        solve(Field(), START, adjoint=True)
    assert name == "no_grad" or any(reason in each for each in regularized.left_out)


def test_steps_of_a_solver_of_the_users_are_not_replayed(monkeypatch):
    monkeypatch.setitem(odeint.__globals__["SOLVERS"], "own", Own)
    with pytest.raises(errors.ContinuousAdjointError, match="`Own` takes its steps in its own way"):
        _observed(_ode("own"), tap.LocalError(), replay=True)


def test_refusal_under_an_adjoint_names_the_replay():
    for name in ("dopri5", "heun"):
        with pytest.raises(errors.ContinuousAdjointError, match=r"`replay=True`.*`LocalSample`"):
            _observed(CASES[name][0], tap.LocalError())
    with pytest.raises(errors.InvalidInputError, match="Leave `replay` out"):
        tap.LocalSample(tap.LocalError(replay=True))


def test_replay_in_text():
    ((weight, term),) = tap.parse_term("10*local_error:replay:max")(0).pairs()
    assert (weight, term) == (10, tap.LocalError(replay=True, reduce="max"))
    assert tap.parse_term("stiffness:replay=true")(0).pairs()[0][1] == tap.Stiffness(replay=True)


def test_memory_of_a_replay_is_that_of_its_states():
    class Deep(Field):
        def forward(self, t, y):
            for _ in range(8):
                y = torch.tanh(y @ self.w) + torch.sin(9 * t)
            return y

    def bytes_a_step(adjoint):
        def solve(steps):
            field, y0 = Deep(), START.repeat(200, 1)
            with tap.observe(tap.LocalError(), replay=True) as seen:
                odeint_solve = _ode(times=TIMES[:2], tolerance=1e-2, options={"max_step": 0.3 / steps})
                odeint_solve(field, y0, adjoint)
            torch.autograd.grad(seen.penalty, field.w)

        solve(2)
        return (most_held(lambda: solve(16)) - most_held(lambda: solve(6))) / 10

    state = START.repeat(200, 1).nbytes
    direct, replayed = bytes_a_step(adjoint=False), bytes_a_step(adjoint=True)
    assert direct > 40 * state  # eight layers in each of six slopes
    assert replayed < 4 * state  # the state, the slope there, and what the times take
