"""Under `regularize` the backward pass that trains carries the penalty, once; others stay the program's own."""

import threading

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torch.autograd import functional
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from solvertap import errors
from tests.faults import fault

TERM = 2 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
SAMPLED = 2 * tap.LocalSample(tap.LocalError(weigh_by_step=False))
TIMES = torch.tensor([0.0, 1.0], dtype=torch.float64)
START = torch.randn((4, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SETTINGS = {"rtol": 1e-4, "atol": 1e-4, "options": {"first_step": torch.tensor(0.1, dtype=torch.float64)}}


class Field(torch.nn.Module):
    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        weights = torch.randn((3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.w = torch.nn.Parameter(weights)
        self.optimiser = torch.optim.SGD([self.w], lr=0.1)

    def forward(self, t, y):
        return 3 * torch.tanh(y @ self.w) - y

    f = forward

    def g(self, t, y):
        return 0.1 * torch.sigmoid(y)


def _ode(field, y0=START):
    return odeint(field, y0, TIMES, **SETTINGS)[-1]


def _adjoint(field, y0=START):
    return odeint_adjoint(field, y0, TIMES, **SETTINGS)[-1]


def _sde(field, y0=START):
    path = torchsde.BrownianInterval(0.0, 1.0, size=(4, 3), dtype=torch.float64, entropy=3)
    settings = {"adaptive": True, "rtol": 1e-2, "atol": 1e-2}
    return torchsde.sdeint(field, y0, TIMES, bm=path, dt=0.1, method="milstein", **settings)[-1]


def _pair(field, y0=START):
    a, b = odeint(lambda t, y: (field(t, y[0]), -field(t, y[1])), (y0, y0[:2] / 2), TIMES, **SETTINGS)
    return torch.cat([a[-1], b[-1]])


SOLVES = [_ode, _sde, _pair]


def _penalty(field, solve=_ode, y0=START):
    """The gradient of the penalty by the weights of the field."""
    with tap.observe(TERM) as seen:
        solve(field, y0)
    (gradient,) = torch.autograd.grad(seen.penalty, field.w)
    assert gradient.abs().max() > 0.1
    return gradient


def _trained(field, loss):
    field.optimiser.zero_grad()
    loss.backward()
    return field.w.grad


def _gradient_in_the_loss(field, solve):
    y0 = START.clone().requires_grad_()
    (g,) = torch.autograd.grad(solve(field, y0).square().sum(), y0, create_graph=True)
    return (g.norm(dim=1) - 1).square().mean()


def _log_determinant(field, solve):
    jacobian = functional.jacobian(lambda y: solve(field, y).flatten()[:12], START).reshape(12, 12)
    return torch.linalg.slogdet(jacobian)[1]


def _by_the_input(field, solve):
    y0 = START.clone().requires_grad_()
    return torch.autograd.grad(solve(field, y0).square().mean(), y0)[0]


def _by_the_weights_as_values(field, solve):
    return torch.autograd.grad(solve(field).square().mean(), field.w)[0]


def _optimised_input(field, solve):
    field.w.requires_grad_(False)
    y0 = START.clone().requires_grad_()
    optimiser = torch.optim.SGD([y0], lr=0.1)
    optimiser.zero_grad()
    solve(field, y0).square().mean().backward()
    return y0.grad


def _into_the_input_alone(field, solve):
    y0 = START.clone().requires_grad_()
    solve(field, y0).square().mean().backward(inputs=[y0])
    return y0.grad


def _without_an_optimiser(field, solve):
    del field.optimiser
    y0 = START.clone().requires_grad_()
    solve(field, y0).square().mean().backward()
    return torch.cat([y0.grad, field.w.grad])


def _hessian_vector_product(field, solve):
    return functional.hvp(lambda y: solve(field, y).square().mean(), START, torch.ones_like(START))[1]


def _hessian_vector_product_of_the_weights(field, solve):
    (g,) = torch.autograd.grad(solve(field).square().mean(), field.w, create_graph=True)
    return torch.autograd.grad(g.sum(), field.w)[0]


def _first_order_inner_loop(field, solve):
    (g,) = torch.autograd.grad(solve(field).square().mean(), field.w)
    return field.w.detach() - 0.1 * g


OTHERS = [
    _gradient_in_the_loss,
    _by_the_input,
    _by_the_weights_as_values,
    _optimised_input,
    _into_the_input_alone,
    _without_an_optimiser,
    _hessian_vector_product,
    _hessian_vector_product_of_the_weights,
    _first_order_inner_loop,
]
CASES = [(_log_determinant, _ode), *((of, solve) for of in OTHERS for solve in SOLVES)]  # the first: twelve passes


@fault(
    "under `regularize` something else is differentiated than the training loss: a gradient penalty, a Jacobian, a "
    "saliency map, an input that is optimised, a Hessian-vector product, an inner loop",
    "every bit of it is the program's own: only the pass that trains carries the penalty",
)
@pytest.mark.parametrize(("of", "solve"), CASES)
def test_what_is_differentiated_and_not_trained_stays_bitwise_the_programs_own(of, solve):
    plain = of(Field(), solve)
    with tap.regularize(TERM) as regularizer:
        assert torch.equal(of(Field(), solve), plain)
    assert regularizer.backward_passes["carried"] == 0
    assert regularizer.backward_passes["left"] > 0


@pytest.mark.parametrize("solve", [_ode, _sde])
def test_pass_that_trains_on_a_gradient_in_the_loss_carries_the_penalty_once(solve):
    field = Field()
    plain = _trained(field, _gradient_in_the_loss(field, solve))
    penalty = _penalty(field, solve)
    with tap.regularize(TERM) as regularizer:
        found = _trained(field, _gradient_in_the_loss(field, solve))
    torch.testing.assert_close(found - plain, penalty, rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes["carried"] == 1


def test_loss_of_a_solution_and_its_gradient_carries_the_penalty_once():
    field = Field()

    def loss():
        y0 = START.clone().requires_grad_()
        y = _ode(field, y0)
        (g,) = torch.autograd.grad(y.square().sum(), y0, create_graph=True)
        return y.mean() + g.square().mean()

    plain = _trained(field, loss())
    with tap.regularize(TERM):
        found = _trained(field, loss())
    torch.testing.assert_close(found - plain, _penalty(field), rtol=1e-8, atol=1e-9)


def test_outer_pass_of_meta_learning_carries_the_penalty_of_each_solve_it_goes_through():
    field = Field()

    def adapted(term=None):
        with tap.observe(term) as seen:
            inner = odeint(field, START, TIMES, **SETTINGS)[-1].square().mean()
            (g,) = torch.autograd.grad(inner, field.w, create_graph=True)
            w = field.w - 0.1 * g
            y = odeint(lambda t, y: 3 * torch.tanh(y @ w) - y, START, TIMES, **SETTINGS)[-1]
        return y.square().mean(), seen

    plain = _trained(field, adapted()[0])
    loss, seen = adapted(TERM)
    wanted = _trained(field, loss + seen.penalty)
    with tap.regularize(TERM):
        found = _trained(field, adapted()[0])
    assert (wanted - plain).abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("solve", [_ode, _sde, _pair])
def test_two_losses_on_one_solution_carry_the_penalty_once(solve):
    field = Field()
    y = solve(field)
    plain = _trained(field, y.mean() + y.square().mean())
    with tap.regularize(TERM) as regularizer:
        field.optimiser.zero_grad()
        y = solve(field)
        y.mean().backward(retain_graph=True)
        y.square().mean().backward()
    torch.testing.assert_close(field.w.grad - plain, _penalty(field, solve), rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes == {"carried": 1, "left": 1}


@pytest.mark.parametrize("solve", [_ode, _adjoint])
def test_sample_is_carried_by_the_pass_that_trains_alone(solve):
    field = Field()
    with tap.regularize(SAMPLED) as regularizer:
        torch.manual_seed(0)
        plain = torch.autograd.grad(solve(field).square().mean(), field.w)[0]
        torch.manual_seed(0)
        found = _trained(field, solve(field).square().mean())
    assert regularizer.backward_passes == {"carried": 1, "left": 1}
    assert not torch.allclose(plain, found, rtol=1e-2)
    with tap.regularize():
        torch.testing.assert_close(plain, _trained(field, solve(field).square().mean()), rtol=1e-12, atol=0)


def test_parameters_that_the_initial_state_alone_depends_on_are_trained():
    field, encoder = Field(), torch.nn.Linear(3, 3, dtype=torch.float64)
    field.w.requires_grad_(False)
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)

    def gradient():
        optimiser.zero_grad()
        _ode(field, encoder(START)).square().mean().backward()
        return encoder.weight.grad

    plain = gradient()
    with tap.observe(TERM) as seen:
        _ode(field, encoder(START))
    (penalty,) = torch.autograd.grad(seen.penalty, encoder.weight)
    with tap.regularize(TERM):
        torch.testing.assert_close(gradient() - plain, penalty, rtol=1e-8, atol=1e-9)


def test_tensor_that_the_field_depends_on_is_trained_where_an_optimiser_holds_it():
    field = Field()
    w = field.w.detach().clone().requires_grad_()
    optimiser = torch.optim.SGD([w], lr=0.1)

    def gradient():
        optimiser.zero_grad()
        odeint(lambda t, y: 3 * torch.tanh(y @ w) - y, START, TIMES, **SETTINGS)[-1].square().mean().backward()
        return w.grad

    plain = gradient()
    with tap.regularize(TERM):
        torch.testing.assert_close(gradient() - plain, _penalty(field), rtol=1e-8, atol=1e-9)


def test_pass_without_an_optimiser_is_told_of_and_can_be_said_to_train():
    field = Field()
    w = field.w.detach().clone().requires_grad_()

    def gradient():
        loss = odeint(lambda t, y: 3 * torch.tanh(y @ w) - y, START, TIMES, **SETTINGS)[-1].square().mean()
        return torch.autograd.grad(loss, w)[0]

    plain = gradient()
    with tap.regularize(TERM) as regularizer:
        assert torch.equal(gradient(), plain)
    assert regularizer.backward_passes == {"carried": 0, "left": 1}
    with tap.regularize(TERM, passes="all") as regularizer:
        torch.testing.assert_close(gradient() - plain, _penalty(field), rtol=1e-8, atol=1e-9)
    assert regularizer.backward_passes == {"carried": 1, "left": 0}


def test_penalty_may_be_bound_to_one_optimiser():
    field, other = Field(), Field()
    plain = _trained(field, _ode(field).square().mean())
    with tap.regularize(TERM, optimiser=other.optimiser):
        assert torch.equal(_trained(field, _ode(field).square().mean()), plain)
    with tap.regularize(TERM, optimiser=field.optimiser):
        found = _trained(field, _ode(field).square().mean())
    torch.testing.assert_close(found - plain, _penalty(field), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("name", "value"), [("passes", "some"), ("batch", "median")])
def test_choice_that_is_none_is_refused_with_the_choices(name, value):
    with pytest.raises(errors.InvalidInputError, match=f"`{name}` is '{value}'; the choices are"):
        tap.regularize(TERM, **{name: value})


def test_optimiser_is_known_whether_it_was_made_before_or_after():
    field = Field()  # with one that is older than any tap: nothing is attached before a test
    plain = _trained(field, _ode(field).square().mean())
    penalty = _penalty(field)
    for _ in range(2):
        with tap.regularize(TERM):
            found = _trained(field, _ode(field).square().mean())
            torch.testing.assert_close(found - plain, penalty, rtol=1e-8, atol=1e-9)
        tap.detach()
        field = Field()  # while nothing is attached


# ------ the scale of a `GradScaler`


class Boom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise ValueError("boom")


@fault(
    "a scaled backward pass raises under `regularize`",
    "its scale is gone with it: the next pass, unscaled, is as before",
)
@pytest.mark.parametrize("solve", [_ode, _sde, _adjoint])
def test_scale_of_a_pass_that_failed_is_not_left_behind(solve):
    field, scaler = Field(), torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with tap.regularize(SAMPLED if solve is _adjoint else TERM):
        torch.manual_seed(0)
        wanted = _trained(field, solve(field).square().mean())
        with pytest.raises(ValueError, match="boom"):
            scaler.scale(Boom.apply(solve(field).square().mean())).backward()
        torch.manual_seed(0)
        assert torch.equal(_trained(field, solve(field).square().mean()), wanted)


@fault(
    "two threads train under `regularize`, one of them with a `GradScaler`",
    "each penalty has the scale of its own loss: the scale belongs to the backward pass",
)
def test_scale_belongs_to_the_pass_whose_loss_was_scaled():
    solved = threading.Barrier(2, timeout=60)
    found, failed = {}, []

    def train(name, scale):
        field = Field()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
        try:
            for _ in range(15):
                loss = scaler.scale(_ode(field, START[:1]).square().mean())
                solved.wait()
                found.setdefault(name, []).append(_trained(field, loss).clone() / scale)
        except Exception as error:
            failed.append(error)
            solved.abort()

    with tap.regularize(TERM):
        field = Field()
        wanted = _trained(field, _ode(field, START[:1]).square().mean())
        threads = [threading.Thread(target=train, args=args) for args in (("plain", 1.0), ("scaled", 2.0**16))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    for gradient in found["plain"] + found["scaled"]:
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("reentrant", [False, True])
def test_scale_reaches_a_solve_inside_a_checkpoint(reentrant):
    field, y0 = Field(), START.clone().requires_grad_()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with tap.regularize(TERM):
        wanted = _trained(field, _ode(field).square().mean())
        y = checkpoint(lambda y: _ode(field, y), y0, use_reentrant=reentrant)
        found = _trained(field, scaler.scale(y.square().mean())) / 2.0**8
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
