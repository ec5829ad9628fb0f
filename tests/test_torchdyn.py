"""torchdyn observed: bitwise the bare solution, everything counted, what carries no gradient refused."""

import inspect
import threading
from collections import Counter
from importlib import import_module

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdyn.numerics")

import torchdyn.numerics
from torchdyn.numerics import odeint, odeint_hybrid, odeint_mshooting, odeint_symplectic  # by name, before any tap
from torchdyn.numerics.solvers.hyper import HyperEuler
from torchdyn.numerics.solvers.ode import DormandPrince45, Euler
from torchdyn.numerics.utils import EventCallback

import solvertap as tap
from solvertap import errors
from tests.faults import fault
from tests.neutrality import Originals

odeint_module = import_module("torchdyn.numerics.odeint")
TERM = 100 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
SAMPLE = tap.LocalSample(tap.LocalError())
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")
TIMES = torch.tensor([0.0, 0.45, 0.97], dtype=torch.float64)
Y0 = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)
CALL = {"atol": 1e-4, "rtol": 1e-4}


class Field(torch.nn.Module):
    """A random tanh field with a kink in its forcing, so that steps are rejected; it counts its calls."""

    order = 1

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.Parameter(torch.randn((3, 3), generator=generator, dtype=torch.float64))
        self.calls = 0

    def forward(self, t, x, args=None):
        self.calls += 1
        y = x.real if x.is_complex() else x
        slope = 4 * torch.tanh(y @ self.weights.to(y.dtype)) + 20 * torch.relu(torch.as_tensor(t).real - 0.5) - y
        return slope.to(x.dtype)


WAYS = {
    "dopri5": lambda f: odeint(f, Y0, TIMES, "dopri5", **CALL),
    "tsit5": lambda f: odeint(f, Y0, TIMES, "tsit5", **CALL),
    "backwards": lambda f: odeint(f, Y0, TIMES.flip(0), "dopri5", **CALL),
    "a solver of float32": lambda f: odeint(f, Y0, TIMES, DormandPrince45(), **CALL),
    "interpolated": lambda f: odeint(f, Y0, TIMES, "dopri5", interpolator="4th", **CALL),
    "every step": lambda f: odeint(f, Y0, TIMES, "dopri5", return_all_eval=True, **CALL),
    "seminorm": lambda f: odeint(f, Y0, TIMES, "dopri5", seminorm=(True, 1), **CALL),
    "times in float32": lambda f: odeint(f, Y0, TIMES.float(), "dopri5", **CALL),
    "state in float32": lambda f: odeint(f, Y0.float(), TIMES, "tsit5", **CALL),
    "all in float32": lambda f: odeint(f, Y0.float(), TIMES.float(), "dopri5", **CALL),
    "complex": lambda f: odeint(f, Y0 + 0j, TIMES, "dopri5", **CALL),
    "by keyword": lambda f: odeint(f=f, x=Y0, t_span=TIMES, solver="dopri5", verbose=True, **CALL),
}


def solved(solve, **asked):
    """Solution, gradient, calls of the field, and the observation, if one is asked for."""
    field = Field()
    torch.manual_seed(0)
    if asked.pop("bare", False):
        seen, (times, states) = None, solve(field)
    else:
        with tap.observe(asked.pop("term", None), **asked) as seen:
            times, states = solve(field)
    calls = field.calls
    gradients = torch.autograd.grad(states.abs().sum(), field.weights, allow_unused=True)
    return (times.detach(), states.detach(), *gradients), calls, seen


def assert_same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None and b is None) or (a.dtype == b.dtype and torch.equal(a, b))


@pytest.fixture
def attempts(monkeypatch):
    """Counts the attempts of every adaptive loop, by what it is about to choose the next step from."""
    counted, adapt_step = Counter(), odeint_module.adapt_step

    def counting(dt, error_ratio, *others):
        counted[bool(error_ratio <= 1)] += 1
        return adapt_step(dt, error_ratio, *others)

    monkeypatch.setattr(odeint_module, "adapt_step", counting)
    return counted


@pytest.mark.parametrize("way", WAYS)
def test_solution_gradient_and_counts_are_those_of_the_bare_solve(way, attempts, monkeypatch):
    bare, calls, _ = solved(WAYS[way], bare=True)
    accepted, rejected = attempts[True], attempts[False]
    assert rejected > 0
    for asked in ({}, {"trace": True}, {"term": SAMPLE}, {"checkpoint": True}):
        found, made, seen = solved(WAYS[way], **asked)
        assert_same_bits(found, bare)
        assert seen.stats.evaluations + seen.stats.measuring == made
        assert seen.stats.evaluations == calls
        assert (seen.stats.accepted, seen.stats.rejected) == (accepted, rejected)

    init_step = odeint_module.init_step
    observed = {asked: solved(WAYS[way], term=TERM, **asked_with(asked)) for asked in ("term", "trace", "checkpoint")}
    monkeypatch.setattr(odeint_module, "init_step", lambda *args: init_step(*args).detach())
    cut, *_ = solved(WAYS[way], bare=True)
    for found, _, seen in observed.values():
        assert_same_bits(found, cut)
        assert torch.equal(seen.penalty, observed["term"][2].penalty)
        assert seen.penalty > 0
    if cut[2] is not None:
        assert not torch.equal(cut[2], bare[2])  # the premise: torchdyn differentiates its first step size


def asked_with(name):
    return {} if name == "term" else {name: True}


def test_checkpointed_penalty_has_the_same_gradient_and_counts_what_is_taken_again():
    def gradient(**asked):
        field = Field()
        with tap.observe(TERM, **asked) as seen:
            _, states = odeint(field, Y0, TIMES.flip(0), "dopri5", **CALL)
        made = field.calls
        (gradient,) = torch.autograd.grad(states.sum() + seen.penalty, field.weights)
        return gradient, seen, field.calls - made

    expected, _, again = gradient()
    assert again == 0
    found, seen, again = gradient(checkpoint=True)
    assert torch.equal(found, expected)
    assert seen.phases["recomputation"].evaluations == again > 0


def test_penalty_of_regularize_reaches_the_weights_through_either_call():
    from torchdyn.core import NeuralODE

    def gradient(weight, solve):
        field = Field()
        with tap.regularize(weight * tap.LocalError()):
            field.optimiser = torch.optim.SGD(field.parameters())  # which makes the pass one that trains
            states = solve(field)
            states.sum().backward()
        return field.weights.grad

    neural = lambda field: NeuralODE(field, solver="dopri5", **CALL)  # noqa: E731  # made where it is regularized
    for solve in (lambda f: neural(f).trajectory(Y0, TIMES), lambda f: neural(f)(Y0, TIMES)[1]):
        one, two, three = (gradient(weight, solve) for weight in (1.0, 2.0, 3.0))
        assert not torch.equal(one, two)
        assert torch.allclose(three - one, 2 * (two - one), rtol=1e-9)


# --- Where the taps are -----------------------------------------------------------------------------------------------
@fault(
    "`from torchdyn.numerics import odeint` before anything observes",
    "the function stays the object it was, its code is exchanged, and given back",
)
def test_function_imported_early_is_observed_and_given_back():
    tap.detach()
    code, signature, originals = odeint.__code__, inspect.signature(odeint), Originals("torchdyn")
    with tap.observe() as seen:
        assert odeint.__code__ is not code
        assert torchdyn.numerics.odeint is odeint is odeint_module.odeint
        assert inspect.signature(odeint) == signature
        odeint(Field(), Y0, TIMES, "dopri5", **CALL)
        import_module("torchdyn.core").NeuralODE(Field(), solver="dopri5", **CALL).trajectory(Y0, TIMES)
    assert seen.stats.solves == 2
    tap.detach()
    assert odeint.__code__ is code
    assert not originals.changed()


def test_dynamo_compiles_a_function_that_solves():
    solve = torch.compile(lambda y: odeint(lambda t, y: torch.sin(9 * t) - y, y, TIMES, "dopri5")[1], backend="eager")
    with tap.observe() as seen:
        found = solve(Y0)
    assert torch.equal(found, odeint(lambda t, y: torch.sin(9 * t) - y, Y0, TIMES, "dopri5")[1])
    assert seen.stats.solves == 1
    torch._dynamo.reset()


def test_derivatives_of_functional_torch_are_those_on_the_frozen_grid():
    def penalty(weights):
        with tap.observe(TERM) as seen:
            odeint(lambda t, y: 4 * torch.tanh(y @ weights) + 20 * torch.relu(t - 0.5) - y, Y0, TIMES, "dopri5", **CALL)
        return seen.penalty

    weights = Field().weights.detach()
    recorded = weights.clone().requires_grad_()
    (expected,) = torch.autograd.grad(penalty(recorded), recorded)
    torch.testing.assert_close(torch.func.grad(penalty)(weights), expected, rtol=1e-9, atol=1e-9)
    _, forwards = torch.func.jvp(penalty, (weights,), (torch.ones_like(weights),))
    torch.testing.assert_close(forwards, expected.sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("inner", ["torchdyn", "torchdiffeq"])
def test_field_that_solves_is_counted_once(inner, backwards):
    torchdiffeq = pytest.importorskip("torchdiffeq")
    times = TIMES.flip(0) if backwards else TIMES
    field = Field()

    def solving(t, x):
        slope = field(t, x)
        if inner == "torchdyn":
            odeint(lambda t, y: -y, x, TIMES, "tsit5")
        else:
            torchdiffeq.odeint(lambda t, y: -y, x, TIMES)
        return slope

    with tap.observe(TERM) as bare:
        odeint(Field(), Y0, times, "dopri5", **CALL)
    with tap.observe(TERM) as seen:
        odeint(solving, Y0, times, "dopri5", **CALL)
    assert seen.stats == bare.stats
    assert seen.stats.evaluations == field.calls
    assert torch.equal(seen.penalty, bare.penalty)


def test_threads_that_share_a_solver_see_each_their_own():
    solver, barrier, found = DormandPrince45(torch.float64), threading.Barrier(2, timeout=60), {}

    def run(scale):
        meetings = iter(range(20))

        def field(t, x):
            if next(meetings, None) is not None:
                barrier.wait()
            return scale * torch.tanh(x) + 20 * torch.relu(t - 0.5) - x

        with tap.observe(TERM) as seen:
            odeint(field, Y0.clone().requires_grad_(), TIMES, solver, **CALL)
        found[scale] = seen.stats, seen.penalty.item()

    threads = [threading.Thread(target=run, args=(scale,)) for scale in (1.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(found)
    barrier = threading.Barrier(1)
    for scale in (1.0, 5.0):
        run(scale)
    assert found == together
    assert found[1.0] != found[5.0]


@pytest.mark.parametrize("at", [1, 2, 3, 20])
def test_exception_of_a_field_comes_through_and_its_solve_counts_for_nothing(at):
    field = Field()

    def failing(t, x):
        if field.calls == at - 1:
            raise ZeroDivisionError("no")
        return field(t, x)

    with tap.observe(TERM) as seen:
        with pytest.raises(ZeroDivisionError, match=r"^no$"):
            odeint(failing, Y0, TIMES, "dopri5", **CALL)
        assert seen.stats == tap.Stats()
        odeint(Field(), Y0, TIMES, "dopri5", **CALL)
    assert seen.stats.solves == 1


@pytest.mark.parametrize("asked", [{}, {"term": TERM}, {"trace": True}, {"checkpoint": True}, {"term": SAMPLE}])
def test_detaching_at_any_call_of_the_field_leaves_a_whole_observation_or_none(asked):
    field = Field()
    expected = odeint(field, Y0, TIMES, "dopri5", **CALL)[1]
    torch.manual_seed(0)
    with tap.observe(**asked) as whole:
        odeint(Field(), Y0, TIMES, "dopri5", **CALL)
    ends = Counter()
    for at in range(field.calls):
        inner = Field()

        def detaching(t, x, at=at, inner=inner):
            if inner.calls == at:
                tap.detach()
            return inner(t, x)

        torch.manual_seed(0)
        with tap.observe(**asked) as seen:
            states = odeint(detaching, Y0, TIMES, "dopri5", **CALL)[1]
        assert torch.equal(states, expected)
        assert seen.stats in (tap.Stats(), whole.stats)
        ends[seen.stats.solves] += 1
        if "term" in asked and seen.stats.solves:
            assert torch.equal(seen.penalty, whole.penalty)
    assert ends[0]
    assert ends[1]


def test_counter_of_torchdyn_counts_what_the_solver_evaluates():
    from torchdyn.core import NeuralODE

    def evaluated(*asked, solver="dopri5", **options):
        model = NeuralODE(Field(), solver=solver, **CALL)
        if asked or options:
            with tap.observe(*asked, **options) as seen:
                states = model.trajectory(Y0, TIMES)
            (states.sum() + (seen.penalty if asked else 0)).backward()
        else:
            model.trajectory(Y0, TIMES).sum().backward()
        return model.vf.nfe

    assert evaluated(SAMPLE) == evaluated(checkpoint=True) == evaluated()
    assert (
        evaluated(DOUBLED, solver="rk4") == evaluated(tap.LocalSample(DOUBLED), solver="rk4") == evaluated(solver="rk4")
    )


def test_trace_of_a_solve_backwards_is_in_the_users_time():
    with tap.observe(trace=True) as seen:
        odeint(Field(), Y0, TIMES.flip(0), "dopri5", **CALL)
    trace = seen.trace.numpy()
    assert trace["t"][0] == pytest.approx(0.97)
    assert (trace["t"] + trace["h"])[trace["accepted"]][-1] == pytest.approx(0)
    assert (trace["h"] < 0).all()


def raised(x, solver):
    try:
        odeint(Field(), x, TIMES, solver)
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize(("x", "solver"), [(1.0, "dopri5"), ({}, "euler"), (Y0, "nothing"), (Y0, None)])
def test_what_torchdyn_refuses_is_refused_by_torchdyn(x, solver):
    bare = raised(x, solver)
    assert bare is not None
    with tap.observe(TERM):
        assert raised(x, solver) == bare


# --- Steps without an estimate, and steps that are not seen -----------------------------------------------------------
GRID = torch.linspace(0, 1, 9, dtype=torch.float64)
FIXED = {
    "euler": (lambda f: odeint(f, Y0, GRID, "euler"), 1),
    "midpoint": (lambda f: odeint(f, Y0, GRID, "midpoint"), 2),
    "rk4": (lambda f: odeint(f, Y0, GRID, "rk4"), 4),
    "rk4 backwards": (lambda f: odeint(f, Y0, GRID.flip(0), "rk4"), 4),
    "some times": (lambda f: odeint(f, Y0, GRID, "rk4", save_at=GRID[::4]), 4),
    "hyper": (lambda f: odeint(f, Y0, GRID, HyperEuler(lambda t, x: torch.tanh(x), torch.float64)), 1),
    "alf": (
        lambda f: odeint_symplectic(f, torch.cat([Y0, Y0], -1), GRID, "alf"),
        2,  # one of them thrown away
    ),
}


@pytest.mark.parametrize("way", FIXED)
def test_fixed_steps_are_counted_and_doubled_and_else_refused(way):
    solve, stages = FIXED[way]
    bare, calls, _ = solved(solve, bare=True)
    assert calls == 8 * stages
    for asked in ({}, {"trace": True}, {"checkpoint": True}, {"term": DOUBLED}, {"term": tap.LocalSample(DOUBLED)}):
        found, made, seen = solved(solve, **asked)
        assert_same_bits(found, bare)
        assert seen.stats[:4] == (1, 8, 0, calls)
        assert made == calls + seen.stats.measuring
        if "term" in asked:
            assert seen.penalty > 0
            assert seen.penalty.requires_grad
    for term in (TERM, SAMPLE):
        with pytest.raises(errors.FixedStepError, match=r"estimates no error.*dopri5.*doubling"), tap.observe(term):
            solve(Field())


def test_doubled_step_is_the_error_of_the_half_steps():
    field = Field()
    with tap.observe(DOUBLED) as seen:
        odeint(field, Y0, GRID[:2], "euler")
    h, y = GRID[1] / 2, Y0
    whole = y + 2 * h * field(0 * h, y)
    half = y + h * field(0 * h, y)
    error = half + h * field(h, half) - whole
    assert seen.penalty.item() == pytest.approx((2 * h * error.square().mean().sqrt()).item(), rel=1e-12)


def test_implicit_and_own_fixed_steps_are_not_doubled():
    class Own(Euler):
        def step(self, f, x, t, dt, k1=None, args=None):
            return super().step(f, x, t, dt, k1, args)

    for solver in ("ieuler", Own(torch.float64)):
        with tap.observe() as seen:
            odeint(Field(), Y0, GRID, solver)
        assert seen.stats.accepted == 8
        with pytest.raises(errors.FixedStepError, match="cannot be taken in halves"), tap.observe(DOUBLED):
            odeint(Field(), Y0, GRID, solver)


def test_dictionary_of_states_is_counted_and_refused():
    class Each(Euler):
        def step(self, f, x, t, dt, k1=None, args=None):
            return None, {key: value + dt * f(t, value) for key, value in x.items()}, None

    solve = lambda f: odeint(f, {"a": Y0, "b": 2 * Y0}, GRID, Each(torch.float64))[1]  # noqa: E731  # twice
    bare = solve(Field())
    with tap.observe(trace=True) as seen:
        found = solve(field := Field())
    assert all(torch.equal(found[key], bare[key]) for key in bare)
    assert seen.stats == tap.Stats(1, 8, 0, field.calls)
    for term in (TERM, DOUBLED):
        with pytest.raises(errors.FixedStepError), tap.observe(term):
            solve(Field())


class Bounce(EventCallback):
    def check_event(self, t, x):
        return bool((x[..., 0].abs() > 1.4).any())

    def jump_map(self, t, x):
        return 0.5 * x


CLOSED = {
    "odeint_hybrid": lambda f: odeint_hybrid(f, Y0, TIMES, 10, "dopri5", [Bounce()], **CALL),
    "odeint_mshooting": lambda f: odeint_mshooting(f, Y0, GRID, "mszero"),
}


@pytest.mark.parametrize("way", CLOSED)
def test_solve_whose_steps_are_not_seen_counts_evaluations_and_refuses(way):
    solve, name = CLOSED[way], way
    bare, calls, _ = solved(solve, bare=True)
    found, made, seen = solved(solve)
    assert_same_bits(found, bare)
    assert seen.stats == tap.Stats(1, None, None, made)
    assert made == calls > 0
    refusals = {
        errors.FixedStepError: {"term": TERM},
        errors.AlignError: {"align": True},
        errors.CheckpointError: {"checkpoint": True},
    }
    for error, asked in refusals.items():
        with pytest.raises(error, match=f"`{name}`.*Solve by `odeint`"), tap.observe(**asked):
            solve(Field())
    with tap.regularize(TERM) as regularized:
        assert_same_bits(solved(solve, bare=True)[0], bare)
    assert any(name in reason for reason in regularized.left_out)


def test_nothing_that_would_carry_no_gradient_is_measured():
    with pytest.raises(errors.GradientDisabledError), tap.observe(TERM), torch.no_grad():
        odeint(Field(), Y0, TIMES, "dopri5")
    with pytest.raises(errors.GradientDisabledError), tap.observe(DOUBLED), torch.no_grad():
        odeint(Field(), Y0, TIMES, "rk4")
