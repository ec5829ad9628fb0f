"""`LocalSample`: one extra step from a random time, measured and differentiated alone."""

import random
from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from scipy.integrate import RK45

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint, odeint_adjoint, odeint_event
from torchdiffeq._impl.dopri5 import Dopri5Solver

import solvertap as tap
from solvertap import adapting, errors
from solvertap.solves.reservoir import keep
from tests.faults import fault
from tests.oracle import assert_gradient_matches, directional_difference, scaled_error

SAMPLE = tap.LocalSample(tap.LocalError())
AT_A_STEP = tap.LocalSample(tap.LocalError(), draw="steps")
DOUBLED = tap.LocalSample(tap.LocalError(estimate="doubling", scale="raw"))
TOLERANCE = 1e-5
TIMES = torch.tensor([0.2, 0.9, 1.7], dtype=torch.float64)
W = 2 * np.random.default_rng(0).normal(size=(3, 3))
Y0 = np.random.default_rng(1).normal(size=(4, 3))


class Field(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(W))
        self.optimiser = torch.optim.SGD([self.w], lr=0.1)  # what is trained

    def forward(self, t, y):
        return 4 * torch.tanh(y @ self.w) + torch.sin(9 * t) - y

    f = forward

    def g(self, t, y):
        return 0.1 * torch.cos(y @ self.w)


def _solve(field, solve=odeint, times=TIMES, y0=None, **options):
    y0 = torch.tensor(Y0) if y0 is None else y0
    return solve(field, y0, times, rtol=TOLERANCE, atol=TOLERANCE, **options)


def numbers_of(seed):
    """A key that any framework may have, the n-th number of which is the same in each."""
    numbers = np.random.default_rng(seed).uniform(size=1000)
    return lambda n: float(numbers[n])


# --- The draw ---------------------------------------------------------------------------------------------------------


def _drawn(sizes, draw, key, end=None):
    """Which of steps of these sizes is drawn."""
    kept, t = None, 0.0
    draws = adapting.RandomSource(lambda n, y: key.random(), end)
    for n, h in enumerate(sizes, 1):
        step = tap.Step(t0=np.float64(t), t1=np.float64(t + h), y0=np.full(2, n), y1=np.zeros(2))
        kept, t = keep(kept, draw, step, draws, n), t + h
    return int(kept.y0[0]) - 1


@pytest.mark.parametrize(
    ("draw", "end", "weights"),
    [
        ("steps", None, [1, 1, 1, 1, 1]),
        ("uniform", None, [0.1, 0.4, 0.05, 1.0, 0.6]),
        ("uniform", 1.75, [0.1, 0.4, 0.05, 1.0, 0.2]),  # the last step passes the end
    ],
)
def test_every_step_is_drawn_with_the_probability_of_its_weight(draw, end, weights):
    key, draws = random.Random(0), 20000
    end = None if end is None else np.float64(end)
    counts = Counter(_drawn([0.1, 0.4, 0.05, 1.0, 0.6], draw, key, end) for _ in range(draws))
    for i, weight in enumerate(weights):
        p = weight / sum(weights)
        assert abs(counts[i] / draws - p) < 4 * np.sqrt(p * (1 - p) / draws)


# --- The step, against NumPy ------------------------------------------------------------------------------------------


def _numpy_field(t, y, w):
    return 4 * np.tanh(y @ w) + np.sin(9 * t) - y


# The estimate is Shampine's, two thirds of Dormand and Prince's own.
_ESTIMATE = Dopri5Solver.tableau.c_error.double().numpy()


def _step(t, y, h, w):
    """One step of Dormand and Prince's method, by SciPy's coefficients: the new state and the error."""
    slopes = []
    for c, row in zip([*RK45.C, 1.0], [*RK45.A, RK45.B], strict=True):
        slopes.append(_numpy_field(t + c * h, y + h * sum(a * k for a, k in zip(row, slopes, strict=False)), w))
    error = h * sum(e * k for e, k in zip(_ESTIMATE, slopes, strict=True))
    return y + h * sum(b * k for b, k in zip(RK45.B, slopes[:6], strict=True)), error


def _extra_step(trace, draw, key, sign=1):
    """(t, y, h) of the extra step, from the sizes of the accepted steps alone: everything else is taken again."""
    accepted = trace["accepted"]
    starts, sizes = trace["t"][accepted], trace["h"][accepted]
    end = 1.7 if sign == 1 else 0.2
    weights = [1.0 if draw == "steps" else min(abs(h), abs(end - t)) for t, h in zip(starts, sizes, strict=True)]
    totals = list(accumulate(weights))
    # The last step that takes the place of the one before.
    n = max(n for n in range(1, len(totals) + 1) if n == 1 or key(n) * totals[n - 1] <= weights[n - 1])
    y = Y0
    for t, h in zip(starts[: n - 1], sizes[: n - 1], strict=True):
        y, _ = _step(t, y, h, W)
    t, h = starts[n - 1], sizes[n - 1]
    if draw == "uniform":
        inside = key(0) * min(abs(h), abs(end - t)) * sign
        y, _ = _step(t, y, inside, W)
        t = t + inside
        h = sign * min(abs(h), abs(end - t))
    return t, y, h


def _error(w, t, y, h):
    y1, error = _step(t, y, h, w)
    return scaled_error(error, y, y1, TOLERANCE, TOLERANCE) * abs(h)


@pytest.mark.parametrize("solve", [odeint, odeint_adjoint])
@pytest.mark.parametrize("draw", ["uniform", "steps"])
@pytest.mark.parametrize(("sign", "seed"), [(1, 0), (1, 1), (-1, 2)])
def test_value_and_gradient_are_those_of_one_step_that_starts_from_a_constant(solve, draw, sign, seed):
    field, key = Field(), numbers_of(seed)
    times = TIMES if sign == 1 else TIMES.flip(0)
    reduced = tap.LocalError(reduce="mean" if sign == 1 else "max")  # of one step the same
    with tap.observe(tap.LocalSample(reduced, draw=draw), trace=solve is odeint, key=key) as seen:
        _solve(field, solve, times)
    seen.penalty.backward()
    with tap.observe(trace=True) as bare:
        _solve(Field(), times=times)
    t, y, h = _extra_step(bare.trace.numpy(), draw, key, sign)
    assert 0 < abs(h) < 1
    assert seen.penalty.item() == pytest.approx(_error(W, t, y, h), rel=1e-9)
    gradient = field.w.grad.numpy().ravel()
    assert_gradient_matches(lambda w: _error(w.reshape(3, 3), t, y, h), W.ravel(), gradient)


def test_two_terms_share_the_step_they_are_measured_on():
    with tap.observe(SAMPLE + 2.0 * tap.LocalSample(tap.Stiffness()), key=numbers_of(0)) as both:
        _solve(Field())
    with tap.observe(tap.LocalSample(tap.Stiffness()), key=numbers_of(0)) as alone:
        _solve(Field())
    assert list(both.values) == ["sampled_local_error", "sampled_stiffness"]
    assert both.values["sampled_stiffness"] == alone.penalty
    assert both.penalty.item() == pytest.approx(both.values["sampled_local_error"].item() + 2 * alone.penalty.item())
    with tap.observe() as bare:
        _solve(Field())
    # The slope at the start and six more, of the step to the drawn time and of the one that is measured.
    assert alone.stats == bare.stats._replace(measuring=14)


def test_whole_term_beside_a_sampled_one_is_what_it_is_alone():
    def gradient(term, name):
        field = Field()
        with tap.observe(term, key=numbers_of(0)) as seen:
            _solve(field)
        seen.values[name].backward()
        return seen.values[name].item(), field.w.grad

    for name, term in (("local_error", tap.LocalError()), ("sampled_local_error", SAMPLE)):
        (value, alone), (same, beside) = gradient(term, name), gradient(tap.LocalError() + SAMPLE, name)
        assert value == same
        assert torch.equal(alone, beside)


def test_mean_over_many_draws_is_the_integral():
    error = tap.LocalError(rtol=TOLERANCE, atol=TOLERANCE)
    times = TIMES[[0, -1]]
    with tap.observe(trace=True) as seen:
        odeint(Field(), torch.tensor(Y0), times, rtol=1e-2, atol=1e-2)
    accepted = seen.trace.numpy()["accepted"]
    starts, sizes = seen.trace.numpy()["t"][accepted], seen.trace.numpy()["h"][accepted]
    mean, y = 0.0, Y0
    nodes, weights = np.polynomial.legendre.leggauss(20)
    for t, h in zip(starts, sizes, strict=True):
        end = min(t + h, 1.7)
        for place, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            s = t + place * (end - t)
            middle, _ = _step(t, y, s - t, W)
            mean += weight * (end - t) / 1.5 * _error(W, s, middle, min(h, 1.7 - s))
        y, _ = _step(t, y, h, W)
    key, found = random.Random(1), []
    for _ in range(2000):
        with tap.observe(tap.LocalSample(error), key=key) as seen:
            odeint(Field(), torch.tensor(Y0), times, rtol=1e-2, atol=1e-2)
        found.append(seen.penalty.item())
    assert np.std(found) > 0.05 * mean
    assert abs(np.mean(found) - mean) < 2 * np.std(found) / np.sqrt(2000)


# --- Where the whole penalty is refused -------------------------------------------------------------------------------


def _event(field, interface=odeint):
    return odeint_event(
        field,
        torch.tensor(Y0),
        TIMES[0],
        event_fn=lambda t, y: t - 1.1,
        odeint_interface=interface,
        rtol=TOLERANCE,
        atol=TOLERANCE,
    )[1]


def _sde(solve, adaptive=True):
    def solved(field):
        # A halfway tree: the path does not depend on the times at which it is asked.
        options = {"tol": 1e-5, "halfway_tree": True}
        path = torchsde.BrownianInterval(0.2, 1.7, (4, 3), torch.float64, entropy=1, **options)
        options = {"bm": path, "dt": 0.1, "adaptive": adaptive, "rtol": 1e-2, "atol": 1e-2, "method": "midpoint"}
        return solve(field, torch.tensor(Y0), TIMES, **options)

    return solved


def _grid(solve, method):
    return lambda field: _solve(field, solve, method=method, options={"step_size": 0.1})


PAIRS = {
    "odeint": (lambda f: _solve(f), lambda f: _solve(f, odeint_adjoint), SAMPLE),
    "event": (_event, lambda f: _event(f, odeint_adjoint), SAMPLE),
    "rk4": (_grid(odeint, "rk4"), _grid(odeint_adjoint, "rk4"), DOUBLED),
    "implicit_adams": (_grid(odeint, "implicit_adams"), None, None),
    "sdeint": (_sde(torchsde.sdeint), _sde(torchsde.sdeint_adjoint), SAMPLE + tap.LocalSample(tap.Stiffness())),
    "sdeint, fixed": (_sde(torchsde.sdeint, False), _sde(torchsde.sdeint_adjoint, False), DOUBLED),
}
ADJOINTS = {name: pair for name, pair in PAIRS.items() if pair[1] is not None}


@pytest.mark.parametrize("name", ADJOINTS)
def test_continuous_adjoint_gives_the_value_and_the_gradient_of_the_solve_that_is_differentiated(name):
    found = []
    for solve in ADJOINTS[name][:2]:
        field = Field()
        with tap.observe(ADJOINTS[name][2], key=numbers_of(2)) as seen:
            solution = solve(field)
        (penalty,) = torch.autograd.grad(seen.penalty, field.w, retain_graph=True)
        (whole,) = torch.autograd.grad(seen.penalty + (solution**2).sum(), field.w)
        (plain,) = torch.autograd.grad((solve(other := Field()) ** 2).sum(), other.w)
        assert torch.allclose(whole, plain + penalty, rtol=1e-12, atol=1e-14 * whole.abs().max())
        found.append((seen.penalty.item(), penalty))
    (value, gradient), (adjoint_value, adjoint_gradient) = found
    assert value == adjoint_value != 0
    assert torch.equal(gradient, adjoint_gradient)
    assert gradient.abs().sum() > 0


def test_scipys_steps_are_closed_and_one_of_dormand_and_prince_is_measured():
    field, key = Field(), numbers_of(0)
    options = {"method": "scipy_solver", "options": {"solver": "LSODA"}}
    with tap.observe(SAMPLE + tap.LocalSample(tap.LocalError(reduce="max"), name="peak"), key=key) as seen:
        _solve(field, odeint_adjoint, **options)
    assert seen.values["peak"] == seen.values["sampled_local_error"]
    seen.values["peak"].backward()
    t = 0.2 + key(0) * 1.5
    with torch.no_grad():
        y = odeint(Field(), torch.tensor(Y0), torch.tensor([0.2, t], dtype=torch.float64), rtol=1e-10, atol=1e-10)
    y = y[-1].numpy()
    arguments = (lambda s, y: _numpy_field(s, y, W), t, y, 1.0, 5, TOLERANCE, TOLERANCE)
    h = float(adapting.initial_step(*arguments))
    assert seen.values["peak"].item() == pytest.approx(_error(W, t, y, h), rel=1e-2)  # as exact as SciPy's state
    found = field.w.grad.numpy().ravel()
    expected = np.array(
        [directional_difference(lambda w: _error(w.reshape(3, 3), t, y, h), W.ravel(), e, 1e-5) for e in np.eye(9)]
    )
    assert np.allclose(found, expected, rtol=1e-2, atol=1e-2 * abs(expected).max())


REFUSED = {
    "sdeint, fixed": (_sde(torchsde.sdeint, False), SAMPLE, errors.FixedStepError, "doubling"),
    "odeint_adjoint": (
        lambda f: _solve(f, odeint_adjoint),
        tap.LocalError(),
        errors.ContinuousAdjointError,
        "LocalSample",
    ),
    "sdeint_adjoint": (_sde(torchsde.sdeint_adjoint), tap.LocalError(), errors.ContinuousAdjointError, "LocalSample"),
    "scipy": (lambda f: _solve(f, method="scipy_solver"), tap.LocalError(), errors.FixedStepError, "LocalSample"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_remedy(name):
    solve, term, refusal, remedy = REFUSED[name]
    with pytest.raises(refusal, match=remedy), tap.observe(term):
        solve(Field())


@fault(
    "a `LocalSample` where nothing can be sampled: without gradients, of a grid without doubling, of SciPy's steps",
    "an exception of its own class before the field is evaluated, with the remedy",
)
@pytest.mark.parametrize(
    ("solve", "term", "refusal"),
    [
        (torch.no_grad()(lambda f: _solve(f)), SAMPLE, errors.GradientDisabledError),
        (torch.no_grad()(lambda f: _solve(f, odeint_adjoint)), SAMPLE, errors.GradientDisabledError),
        (_grid(odeint, "rk4"), SAMPLE, errors.FixedStepError),
        (_grid(odeint, "implicit_adams"), DOUBLED, errors.FixedStepError),
        (lambda f: _solve(f, method="scipy_solver"), AT_A_STEP, errors.FixedStepError),
    ],
)
def test_sample_without_a_step_or_a_gradient_is_refused_at_the_door(solve, term, refusal):
    class Untouched(Field):
        def forward(self, t, y):
            raise AssertionError("the field was evaluated")

        f = forward

    with pytest.raises(refusal) as raised, tap.observe(term):
        solve(Untouched())
    assert str(raised.value).count(". ") <= 2  # three sentences at most


def test_bad_terms_and_keys_are_refused():
    for wrong in (100 * tap.LocalError(), SAMPLE, "local_error"):
        with pytest.raises(errors.InvalidInputError, match="samples one term"):
            tap.LocalSample(wrong)
    with pytest.raises(errors.InvalidInputError, match="'uniform', 'steps'"):
        tap.LocalSample(tap.LocalError(), draw="anywhere")
    with pytest.raises(errors.InvalidInputError, match="draws numbers"), tap.observe(SAMPLE, key="a key"):
        _solve(Field())


class _NoStep(adapting.Adapter):
    name, module = "no_step", "torchdiffeq"

    def attach(self, patches):
        pass


def test_adapter_that_takes_no_step_refuses_a_sample():
    with pytest.raises(errors.NoEstimateError, match=r"declare `Serves\(samples=True\)`"), tap.observe(SAMPLE):
        adapting.open_solve(_NoStep(), like=np.zeros(2))


# --- What is left alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_solution_is_bitwise_the_bare_one(name):
    for solve in PAIRS[name][:2]:
        if solve is None or PAIRS[name][2] is None:
            continue
        bare = solve(Field())
        with tap.observe(PAIRS[name][2]):
            assert torch.equal(solve(Field()), bare)


def test_solve_of_no_length_has_the_value_zero():
    field = Field()
    with tap.observe(SAMPLE) as seen:
        _solve(field, times=TIMES[:1])
    assert seen.penalty.item() == 0


def test_field_that_raises_in_the_extra_step_loses_nothing():
    class Late(Field):
        raises = False

        def forward(self, t, y):
            if self.raises:
                raise ZeroDivisionError
            return super().forward(t, y)

    field = Late()

    def key(n):
        field.raises = n == 0  # which is asked for when the solve is over
        return 0.5

    with tap.observe(SAMPLE, key=key) as seen:
        with pytest.raises(ZeroDivisionError):
            _solve(field)
        field.raises = False
        assert not seen.solves
        _solve(Field())
    assert len(seen.solves) == 1


def test_torchs_own_seed_makes_the_draw_and_a_generator_too():
    def drawn(key=None):
        with tap.observe(SAMPLE, key=key) as seen:
            _solve(Field())
        return seen.penalty.item()

    torch.manual_seed(3)
    first, second = drawn(), drawn()
    torch.manual_seed(3)
    assert drawn() == first != second
    assert drawn(torch.Generator().manual_seed(3)) == drawn(torch.Generator().manual_seed(3))


# --- Added to code that knows nothing of it ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADJOINTS)
def test_regularize_adds_its_gradient_under_a_continuous_adjoint(name):
    term = ADJOINTS[name][2]

    def loss(solve):
        return (solve(field) ** 2).mean()

    torch.manual_seed(1)  # not a time so near the end that what is left of the step has no error
    for solve in ADJOINTS[name][:2]:
        field = Field()
        state = torch.get_rng_state()
        with tap.observe(3.0 * term, key=adapting.FallbackKey(0)) as seen:
            expected = loss(solve)
        (expected + seen.penalty).backward()
        other, field = field, Field()
        with tap.regularize(3.0 * term) as regularizer:
            value = loss(solve)
        value.backward()
        assert torch.equal(value, expected)
        assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are his
        assert torch.allclose(field.w.grad, other.w.grad, rtol=1e-9)
        assert not torch.allclose(field.w.grad, torch.autograd.grad(loss(solve), field.w)[0], rtol=1e-6)
        assert not regularizer.left_out


def test_every_optimiser_step_draws_anew():
    field, drawn = Field(), []
    optimiser = torch.optim.SGD(field.parameters(), lr=0.0)
    with tap.regularize(SAMPLE, listener=lambda record: drawn.extend(x.item() for x in record.values.values())):
        for _ in range(3):
            optimiser.zero_grad()
            _solve(field, odeint_adjoint).sum().backward()
            optimiser.step()
    assert len(set(drawn)) == 3


def test_scaled_loss_scales_the_penalty_under_an_adjoint():
    def gradient(scale):
        field = Field()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with tap.regularize(SAMPLE):
            scaler.scale(0.0 * _solve(field, odeint_adjoint).mean()).backward()
        return field.w.grad / scale

    torch.manual_seed(0)
    assert torch.allclose(gradient(1024.0), gradient(1.0), rtol=1e-12)


@pytest.mark.parametrize("solve", [odeint, odeint_adjoint])
def test_checkpointed_solve_draws_the_same_time_once_more(solve):
    from torch.utils.checkpoint import checkpoint

    def gradient(around):
        field = Field()
        torch.manual_seed(5)
        with tap.observe(SAMPLE) as seen:
            y = around(lambda y0: _solve(field, solve, y0=y0))
            loss = y.mean() + seen.penalty
        loss.backward()
        return seen.penalty.item(), field.w.grad

    value, plain = gradient(lambda solved: solved(torch.tensor(Y0)))
    again, checkpointed = gradient(lambda solved: checkpoint(solved, torch.tensor(Y0), use_reentrant=False))
    assert value == again
    assert torch.allclose(plain, checkpointed, rtol=1e-12)


def test_evaluation_goes_without_and_a_whole_term_is_left_out_alone():
    field = Field()
    with tap.regularize(1e-3 * tap.LocalError() + SAMPLE) as regularizer:
        with torch.no_grad():
            _solve(field, odeint_adjoint)
        _solve(field, odeint_adjoint).mean().backward()
    assert ["LocalSample" in reason for reason in regularizer.left_out] == [True]
    assert regularizer.stats["training"].solves == regularizer.stats["evaluation"].solves == 1
    plain = torch.autograd.grad(_solve(field, odeint_adjoint).mean(), field.w)[0]
    assert not torch.allclose(field.w.grad, plain, rtol=1e-6)


def test_text_names_a_sample():
    ((weight, term),) = tap.parse_term("2*local_error:draw=steps:scale=raw")(0).pairs()
    assert (weight, term) == (2.0, tap.LocalSample(tap.LocalError(scale="raw"), draw="steps"))
    with pytest.raises(errors.InvalidInputError, match="'uniform', 'steps'"):
        tap.parse_term("local_error:draw=often")
