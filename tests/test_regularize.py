"""`regularize` adds the gradient of the penalty to code that knows nothing of it, and changes nothing else."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint, odeint_adjoint, odeint_event

import solvertap as tap
from solvertap import adapting, errors
from tests.faults import fault

TERM = 2 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
TEXT = "2*local_error + 0.1*stiffness:max"
TIMES = torch.tensor([0.0, 1.0], dtype=torch.float64)


def _weights():
    return torch.randn((3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)


def _start(rows=4):
    return torch.randn((rows, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Field(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(_weights().detach())
        self.optimiser = torch.optim.SGD([self.w], lr=0.1)  # what is trained

    def forward(self, t, y):
        return 4 * torch.tanh(y @ self.w) - y

    f = forward

    def g(self, t, y):
        return 0.1 * torch.sigmoid(y)


def _ode(field, y0=None, **options):
    first = {"first_step": torch.tensor(0.1, dtype=torch.float64)}
    return odeint(field, _start() if y0 is None else y0, TIMES, rtol=1e-5, atol=1e-5, options=first, **options)


def _tuple_state(field):
    y0 = _start()
    pair = (y0, y0[:2] / 2)
    times, options = TIMES, {"first_step": torch.tensor(0.1, dtype=torch.float64)}
    a, b = odeint(lambda t, y: (field(t, y[0]), -field(t, y[1])), pair, times, rtol=1e-5, atol=1e-5, options=options)
    return torch.cat([a, b], 1)


def _event(field):
    _, y = odeint_event(
        field,
        _start(),
        TIMES[0],
        event_fn=lambda t, y: t - 0.7,
        odeint_interface=odeint,
        rtol=1e-5,
        atol=1e-5,
        options={"first_step": torch.tensor(0.1, dtype=torch.float64)},
    )
    return y


def _sde(field, adaptive=True, method="milstein"):
    path = torchsde.BrownianInterval(0.0, 1.0, size=(4, 3), dtype=torch.float64, entropy=3)
    tolerances = {"adaptive": adaptive, "rtol": 1e-2, "atol": 1e-2}
    return torchsde.sdeint(field, _start(), TIMES, bm=path, dt=0.1, method=method, **tolerances)


def _gradient(solve, field):
    """The loss, and its gradient: all that training code sees."""
    field.optimiser.zero_grad()
    loss = solve(field)[-1].square().mean()
    loss.backward()
    return loss.detach(), field.w.grad


def _left_alone(solve, term):
    """Asserts that every bit of the gradient is the plain one; returns the `regularize` that was at work."""
    field = Field()
    _, gradient = _gradient(solve, field)
    with tap.regularize(term) as regularizer:
        assert torch.equal(_gradient(solve, field)[1], gradient)
    return regularizer


@pytest.mark.parametrize("solve", [_ode, _tuple_state, _event, _sde])
@pytest.mark.parametrize("term", [TERM, TEXT])
def test_gradient_of_the_penalty_is_added_and_nothing_else_changes(solve, term):
    field = Field()
    loss, gradient = _gradient(solve, field)
    with tap.observe(TERM) as seen:
        solve(field)
    (penalty_gradient,) = torch.autograd.grad(seen.penalty, field.w)
    with tap.regularize(term) as regularizer:
        regularized_loss, regularized = _gradient(solve, field)
    assert torch.equal(regularized_loss, loss)
    assert penalty_gradient.abs().max() > 0.1
    torch.testing.assert_close(regularized - gradient, penalty_gradient, rtol=1e-9, atol=1e-10)
    assert regularizer.stats == {"training": seen.stats}
    assert torch.equal(_gradient(solve, field)[1], gradient)  # it has ended


@fault("a term is named twice in what `regularize` adds", "it is added once, with the sum of both weights")
@pytest.mark.parametrize(
    "term",
    [tap.LocalError() + 2 * tap.LocalError(), "1*local_error + 2*local_error", "0*local_error + 3*local_error"],
    ids=["terms", "text", "weight zero"],
)
def test_term_that_is_named_twice_is_added_once(term):
    found = []
    for each in (3 * tap.LocalError(), term):
        field, records = Field(), []
        with tap.regularize(each, listener=records.append):
            found.append((*_gradient(_ode, field), records[0].penalty))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("solve", [_ode, _sde])
@pytest.mark.parametrize("term", [0 * tap.LocalError(), "0*local_error", lambda k: 0.0 * TERM, None])
def test_weight_zero_changes_no_bit(solve, term):
    assert _left_alone(solve, term).stats["training"].solves == 1


def test_automatic_first_step_keeps_its_gradient_under_weight_zero():
    _left_alone(lambda field: odeint(field, _start(), TIMES, rtol=1e-5, atol=1e-5), "0*local_error")


def test_evaluation_is_counted_as_measuring_and_asked_for_nothing():
    field, records = Field(), []
    with tap.regularize(TERM, listener=records.append) as regularizer:
        _ode(field)
        with torch.no_grad():
            _ode(field)
    training, evaluation = records
    assert (training.kind, evaluation.kind) == ("training", "evaluation")
    assert set(training.values) == {"local_error", "stiffness"}
    assert training.penalty == 2 * training.values["local_error"] + 0.1 * training.values["stiffness"]
    assert not training.penalty.requires_grad
    assert (dict(evaluation.values), evaluation.penalty) == ({}, None)
    assert regularizer.stats["evaluation"] == regularizer.stats["training"]
    assert regularizer.left_out == {}


@fault(
    "`regularize` offers a term to a solve in which it would carry no gradient",
    "the solve goes without it, `left_out` says why",
)
@pytest.mark.parametrize(
    ("solve", "why"),
    [
        (lambda f: odeint_adjoint(f, _start(), TIMES, rtol=1e-5, atol=1e-5), "odeint_adjoint"),
        (lambda f: odeint(f, _start(), TIMES, method="rk4", options={"step_size": 0.1}), "RK4"),
        (lambda f: _sde(f, adaptive=False), "adaptive=False"),
    ],
)
def test_solve_that_would_refuse_a_term_goes_without_and_says_why(solve, why):
    regularizer = _left_alone(solve, TERM)
    assert regularizer.stats["training"].solves == 1
    (reason,) = regularizer.left_out
    assert why in reason
    with tap.regularize(TERM), pytest.raises(errors.PenaltyRefusedError, match=why), tap.observe(TERM):
        solve(Field())  # this block insists


def test_adjoint_solves_are_a_kind_of_their_own():
    with tap.regularize() as regularizer:
        odeint_adjoint(Field(), _start(), TIMES, rtol=1e-5, atol=1e-5)[-1].sum().backward()
    assert set(regularizer.stats) == {"training", "adjoint"}
    assert regularizer.stats["adjoint"].accepted > 0


def _no_estimate(step):
    raise errors.NoEstimateError("This method has no such estimate.")


def test_term_without_an_estimate_is_zero_and_the_others_stay():
    field, missing = Field(), tap.term(_no_estimate, name="missing")
    with pytest.raises(errors.NoEstimateError), tap.observe(missing):
        _ode(field)
    with tap.regularize(tap.LocalError()):
        _, wanted = _gradient(_ode, field)
    with tap.regularize(tap.LocalError() + missing) as regularizer:
        _, regularized = _gradient(_ode, field)
    torch.testing.assert_close(regularized, wanted, rtol=1e-12, atol=1e-13)
    assert list(regularizer.left_out) == ["This method has no such estimate."]


def test_weight_follows_the_steps_of_the_optimiser():
    field, records = Field(), []
    optimiser = torch.optim.SGD(field.parameters(), lr=0.0)
    with tap.regularize("100:1:2*local_error", listener=records.append) as regularizer:
        for _ in range(3):
            optimiser.zero_grad()
            _ode(field)[-1].sum().backward()
            optimiser.step()
    assert regularizer.k == 3
    assert [record.k for record in records] == [0, 1, 2]
    weights = [float(record.penalty / record.values["local_error"]) for record in records]
    assert weights == pytest.approx([100, 10, 1])


def test_second_optimiser_does_not_count_twice():
    fields = Field(), Field()
    optimisers = [torch.optim.SGD(field.parameters(), lr=0.1) for field in fields]
    with tap.regularize() as regularizer:
        for _ in range(3):
            for field, optimiser in zip(fields, optimisers, strict=True):
                _ode(field)[-1].sum().backward()
                optimiser.step()
    assert regularizer.k == 3


def test_scale_of_a_grad_scaler_multiplies_the_penalty_too():
    """Two passes and a change of the scale: what is unscaled afterwards is the gradient without a scaler."""
    field = Field()
    with tap.regularize(TERM):
        _, wanted = _gradient(_ode, field)
        for scale in (2.0**10, 2.0**4):
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            field.w.grad = None
            scaler.scale(_ode(field)[-1].square().mean()).backward()
            torch.testing.assert_close(field.w.grad / scale, wanted, rtol=1e-9, atol=1e-10)
        _, after = _gradient(_ode, field)  # of a loss that nothing scaled
    torch.testing.assert_close(after, wanted, rtol=1e-12, atol=1e-12)


@fault("a script checkpoints a solve that `regularize` adds a penalty to", "the penalty is added once")
@pytest.mark.parametrize("reentrant", [False, True])
def test_torch_checkpoint_around_the_solve_gets_the_penalty_once(reentrant):
    from torch.utils.checkpoint import checkpoint

    field, y0 = Field(), _start().requires_grad_()

    def gradient(solve):
        y0.grad = None
        solve()[-1].square().mean().backward()
        return y0.grad

    with tap.regularize(TERM):
        wanted = gradient(lambda: _ode(field, y0))
        got = gradient(lambda: checkpoint(lambda y: _ode(field, y), y0, use_reentrant=reentrant))
    plain = gradient(lambda: _ode(field, y0))
    assert not torch.allclose(wanted, plain, rtol=1e-2)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def test_transformed_solve_gets_the_penalty():
    """Of torchsde: torchdiffeq's adaptive solvers serve no `torch.func`."""

    def loss(w):
        field = Field()
        field.f = lambda t, y: 4 * torch.tanh(y @ w) - y
        return _sde(field, method="euler")[-1].square().mean()

    with tap.regularize(tap.LocalError(), passes="all"):
        (wanted,) = torch.autograd.grad(loss(w := _weights()), w)
        got = torch.func.grad(loss)(w.detach())
    (plain,) = torch.autograd.grad(loss(w), w)
    assert not torch.allclose(wanted, plain, rtol=1e-2)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch says where its graph breaks
def test_compiled_loss_gets_the_penalty_while_it_is_at_work():
    torch._dynamo.reset()
    field = Field()
    compiled = torch.compile(lambda: _ode(field)[-1].square().mean(), backend="eager")

    def gradient():
        field.optimiser.zero_grad()
        compiled().backward()
        return field.w.grad

    _, plain = _gradient(_ode, field)
    with tap.regularize(TERM):
        _, wanted = _gradient(_ode, field)
        torch.testing.assert_close(gradient(), wanted, rtol=1e-10, atol=0)
    assert not torch.allclose(plain, wanted, rtol=1e-2)
    torch.testing.assert_close(gradient(), plain, rtol=1e-10, atol=0)
    torch._dynamo.reset()


def test_solution_may_be_changed_in_place():
    field = Field()
    with tap.regularize(TERM):
        solution = _ode(field)
        solution[-1] += 1
        solution.sum().backward()
    assert field.w.grad.isfinite().all()


def test_solve_inside_a_field_is_left_alone():
    inner, outer = Field(), Field()

    def field(t, y):
        return outer(t, y) + 0.01 * _ode(inner, y)[-1]

    with tap.regularize(TERM) as regularizer:
        odeint(field, _start(1), TIMES, rtol=1e-3, atol=1e-3)
    assert regularizer.stats["training"].solves == 1


def test_framework_imported_later_is_tapped():
    code = (
        "import solvertap as tap\n"
        "with tap.regularize() as regularizer:\n"
        "    import torch, torchdiffeq\n"
        "    torchdiffeq.odeint(lambda t, y: -y, torch.ones(2), torch.tensor([0.0, 1.0]))\n"
        "print(regularizer.stats['training'].solves)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


@fault("a second `regularize` is started", "`InvalidInputError` says that one is at work")
def test_one_at_a_time():
    with tap.regularize() as first:
        with pytest.raises(errors.InvalidInputError, match="at work already"):
            tap.regularize().start()
        assert adapting.regularizing() is first
    assert adapting.regularizing() is None


@pytest.mark.parametrize(
    ("term", "said"),
    [(3.0, "3.0"), ("local_err", "local_error"), (lambda k: 3.0, "3.0"), ("1:2*local_error", "START:STOP:STEPS")],
)
def test_term_that_is_none_is_refused_before_anything_starts(term, said):
    with pytest.raises(errors.SolvertapError, match=said):
        tap.regularize(term)


def test_other_terms_at_another_step_are_refused():
    regularizer = tap.regularize(lambda k: tap.LocalError() if k == 0 else tap.Stiffness())
    with regularizer:
        regularizer.k = 1
        with pytest.raises(errors.InvalidInputError, match="other terms"):
            _ode(Field())
