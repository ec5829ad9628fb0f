"""The tapped solve under what torch does to functions, to gradients and to a training step."""

import copy
import multiprocessing
import os
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torchdiffeq import odeint

import solvertap as tap
from solvertap import errors
from tests.faults import fault
from tests.oracle import TERMS, directional_difference

TERM = tap.LocalError() + 0.1 * tap.Stiffness(reduce="max") + 0.01 * tap.KineticEnergy()
EVERY = sum(TERMS.values(), start=0)
TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
Y0 = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)
WEIGHTS = torch.randn((3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CALL = {"rtol": 1e-4, "atol": 1e-4, "method": "dopri5", "options": {"first_step": 0.5}}  # the first is rejected
FROZEN = CALL | {"options": {"first_step": 0.125, "min_step": 0.125, "max_step": 0.125}}


def slope(weights, t, y):
    return 4 * torch.tanh(y @ weights) + 20 * torch.relu(t - 0.5) - y


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(WEIGHTS.clone())

    def forward(self, t, y):
        return slope(self.weights, t, y)


class SDE:
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self, weights):
        self.weights = weights

    def f(self, t, y):
        return slope(self.weights, t, y)

    def g(self, t, y):
        return 0.3 * torch.sigmoid(y * self.weights.diagonal())


def _solve(field, y0=Y0, **changes):
    return odeint(field, y0, TIMES.to(y0.dtype), **(CALL | changes))


def _solve_sde(weights, y0=Y0, **changes):
    path = torchsde.BrownianInterval(0.0, 1.0, size=Y0.shape, dtype=torch.float64, entropy=3)
    call = {"method": "heun", "adaptive": True, "dt": 0.5, "rtol": 1e-3, "atol": 1e-3} | changes
    return torchsde.sdeint(SDE(weights), y0, TIMES, bm=path, **call)


def _penalized(field):
    with tap.observe(TERM) as seen:
        y = _solve(field)
    return y, seen.penalty


def _gradient(penalty, field):
    return torch.autograd.grad(penalty, field.weights)[0]


@pytest.fixture(scope="module")
def backend():
    """Runs the graphs that it is given as they are, and counts them; one for all, so that none is traced twice."""
    torch._dynamo.reset()
    yield CompileCounterWithBackend("eager")
    torch._dynamo.reset()


@pytest.mark.slow
@fault(
    "the field is compiled (`torch.compile`)",
    "the solution is bitwise that of the compiled field; the penalty and its gradient are those of the plain one",
)
def test_compiled_field_is_observed_like_a_plain_one():
    field, backend = Field(), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(field, backend=backend)
    y, penalty = _penalized(compiled)
    _, expected = _penalized(field)
    assert backend.frame_count > 0
    assert torch.equal(y, _solve(compiled))
    torch.testing.assert_close(penalty, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(_gradient(penalty, field), _gradient(expected, field), rtol=1e-10, atol=0)


@pytest.mark.slow
@fault("the loss is compiled, block and solve inside it", "value and gradient are those of the loss that is not")
@pytest.mark.filterwarnings("ignore:Dynamo")
def test_compiled_loss_has_the_values_and_the_gradient_of_the_plain_one(backend):
    field, before = Field(), backend.frame_count
    expected_y, expected = _penalized(field)
    y, penalty = torch.compile(_penalized, backend=backend)(field)
    assert backend.frame_count > before
    torch.testing.assert_close(y, expected_y, rtol=1e-12, atol=0)
    torch.testing.assert_close(penalty, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(_gradient(penalty, field), _gradient(expected, field), rtol=1e-10, atol=0)


@pytest.mark.slow
@fault("the solve was compiled before the block opens", "it is seen: torch compiles it anew, unlike `jax.jit`")
@pytest.mark.filterwarnings("ignore:Dynamo")
def test_solve_compiled_before_the_block_is_seen_inside_it_and_left_alone_after_it(backend):
    field, before = Field(), backend.frame_count
    compiled = torch.compile(_solve, backend=backend)
    bare = compiled(field)
    assert backend.frame_count > before
    with tap.observe(TERM) as seen:
        assert torch.equal(compiled(field), bare)
    assert torch.equal(compiled(field), bare)
    assert seen.stats.solves == 1
    assert seen.stats.rejected > 0
    torch.testing.assert_close(seen.penalty, _penalized(field)[1], rtol=1e-12, atol=0)


def test_functional_call_is_observed_like_the_module():
    field = Field()
    weights = {"weights": WEIGHTS.clone().requires_grad_()}
    y, penalty = _penalized(lambda t, y: torch.func.functional_call(field, weights, (t, y)))
    assert torch.equal(y, _solve(field))
    (gradient,) = torch.autograd.grad(penalty, weights["weights"])
    assert torch.equal(gradient, _gradient(_penalized(field)[1], field))


def _forward_mode(solve):
    with forward_ad.dual_level():
        weights = forward_ad.make_dual(WEIGHTS, WEIGHTS)
        solve(lambda t, y: slope(weights, t, y))


REFUSED = {
    "grad": (_solve, lambda solve: torch.func.grad(lambda w: solve(lambda t, y: slope(w, t, y)).sum())(WEIGHTS)),
    "jvp": (_solve, lambda solve: torch.func.jvp(lambda y0: solve(Field(), y0), (Y0,), (Y0,))),
    "vmap": (_solve, lambda solve: torch.func.vmap(lambda y0: solve(Field(), y0))(torch.stack([Y0, -Y0]))),
    "forward mode": (_solve, _forward_mode),
    "vmap of an SDE": (_solve_sde, lambda solve: torch.func.vmap(solve)(torch.stack([WEIGHTS, -WEIGHTS]))),
}


@pytest.mark.parametrize("name", REFUSED)
@fault("a transformation that torch refuses of the bare solve (`vmap`)", "torch's own error, word for word")
def test_transformation_that_torch_refuses_is_refused_in_its_own_words(name):
    solve, transform = REFUSED[name]
    with pytest.raises(Exception) as bare:  # noqa: PT011  # whatever it is, it is to stay
        transform(solve)
    with pytest.raises(type(bare.value)) as around, tap.observe():
        transform(solve)
    with pytest.raises(type(bare.value)) as inside:
        transform(lambda *args: tap.tapped(solve, TERM)(*args)[0])
    assert type(around.value) is type(inside.value) is type(bare.value)
    assert str(around.value) == str(inside.value) == str(bare.value)


def test_functional_transformations_differentiate_the_penalty_of_torchsde():
    def penalty(weights):
        with tap.observe(TERM) as seen:
            _solve_sde(weights)
        return seen.penalty

    weights = WEIGHTS.clone().requires_grad_()
    (expected,) = torch.autograd.grad(penalty(weights), weights)
    torch.testing.assert_close(torch.func.grad(penalty)(WEIGHTS), expected, rtol=1e-10, atol=1e-12)
    _, forwards = torch.func.jvp(penalty, (WEIGHTS,), (torch.ones_like(WEIGHTS),))
    torch.testing.assert_close(forwards, expected.sum(), rtol=1e-10, atol=1e-12)


@fault("`torch.func.grad` inside the block", "`EscapedTraceError`: open the block inside the function")
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
def test_penalty_of_a_solve_transformed_inside_the_block_is_refused(transform):
    solve = transform(lambda weights: _solve_sde(weights).sum())
    bare = solve(WEIGHTS)
    with pytest.raises(errors.EscapedTraceError), tap.observe(TERM):
        solve(WEIGHTS)
    with tap.observe():
        assert torch.equal(solve(WEIGHTS), bare)


def test_field_may_transform_itself():
    """A continuous normalizing flow: the divergence of the field, by torch.func and by hand."""

    def transformed(weights):
        jacobians = torch.func.vmap(torch.func.jacrev(lambda y: torch.tanh(y @ weights)))
        return lambda t, y: (torch.tanh(y[0] @ weights), torch.einsum("bii->b", jacobians(y[0])))

    def by_hand(weights):
        derivative = lambda y: 1 - torch.tanh(y @ weights) ** 2  # noqa: E731  # one formula
        return lambda t, y: (torch.tanh(y[0] @ weights), derivative(y[0]) @ weights.diagonal())

    found = []
    for field in (transformed, by_hand):
        weights = WEIGHTS.clone().requires_grad_()
        with tap.observe(TERM) as seen:
            odeint(field(weights), (Y0, torch.zeros(2, dtype=torch.float64)), TIMES, **CALL)
        found.append((seen.penalty, torch.autograd.grad(seen.penalty, weights, retain_graph=True)[0]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


FREEZABLE = {
    "torchdiffeq": lambda weights: _solve(lambda t, y: slope(weights, t, y), **FROZEN),
    # Of a tolerance that no step meets: each is accepted for being the smallest.
    "torchsde": lambda weights: _solve_sde(weights, dt=0.125, dt_min=0.125, rtol=1e-6, atol=1e-6),
}


def _frozen_gradient(framework, name, weights, **options):
    with tap.observe(TERMS[name], trace=True) as seen:
        FREEZABLE[framework](weights)
    steps = seen.trace.numpy()
    return torch.autograd.grad(seen.penalty, weights, **options)[0], np.stack([steps["t"], steps["h"]])


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("framework", FREEZABLE)
@pytest.mark.filterwarnings("ignore:Hitting minimum allowed step size")
def test_hessian_of_the_penalty_is_the_derivative_of_its_gradient(framework, name):
    direction = torch.randn((3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = WEIGHTS.clone().requires_grad_()
    gradient, steps = _frozen_gradient(framework, name, weights, create_graph=True)
    (product,) = torch.autograd.grad((gradient * direction).sum(), weights)

    def perturbed(weights):
        gradient, perturbed_steps = _frozen_gradient(framework, name, torch.tensor(weights, requires_grad=True))
        assert np.array_equal(perturbed_steps, steps)
        return gradient.numpy()

    quotient = directional_difference(perturbed, WEIGHTS.numpy(), direction.numpy(), 1e-5)
    assert np.linalg.norm(product.numpy() - quotient) <= 1e-8 * np.linalg.norm(quotient)


def test_gradient_of_the_penalty_may_itself_be_penalized():
    def loss(weights):
        y0 = Y0.clone().requires_grad_()
        with tap.observe(EVERY) as seen:
            y = _solve(lambda t, y: slope(weights, t, y), y0, **FROZEN)
        (gradient,) = torch.autograd.grad(seen.penalty, y0, create_graph=True)
        return y[-1].square().mean() + seen.penalty + gradient.square().sum()

    weights = WEIGHTS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weights), weights)
    quotient = directional_difference(lambda w: loss(torch.tensor(w)).item(), WEIGHTS.numpy(), np.eye(3), 1e-5)
    assert gradient.trace().item() == pytest.approx(quotient, rel=1e-7)


@fault("mixed precision (`torch.autocast`)", "the terms are measured in single precision, whatever the field runs in")
def test_autocast_does_not_lower_the_precision_of_the_terms():
    values = {}
    for enabled in (False, True):
        weight = torch.tensor(1.3, requires_grad=True)  # a field of sums and products, which autocast leaves alone
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), tap.observe(EVERY) as seen:
            _solve(lambda t, y, weight=weight: 4 * torch.tanh(weight * y) + 20 * torch.relu(t - 0.5), Y0.float())
            assert ((Y0.float() @ Y0.float().T).dtype == torch.bfloat16) is enabled
            (gradient,) = torch.autograd.grad(seen.penalty, weight)
        values[enabled] = {name: value.item() for name, value in seen.values.items()} | {"gradient": gradient.item()}
    assert values[True] == pytest.approx(values[False], rel=1e-6)


def _mixed_precision_loss(net):
    with torch.autocast("cpu", torch.bfloat16), tap.observe(TERM) as seen:
        y = _solve(lambda t, y: 4 * net(y).float() + 20 * torch.relu(t - 0.5) - y, Y0.float(), rtol=1e-3, atol=1e-3)
    return y[-1].square().mean() + seen.penalty, seen


@fault("a gradient scaler (`torch.amp.GradScaler`)", "the penalty's gradient is scaled and unscaled with the rest")
def test_scaled_and_unscaled_gradients_are_the_gradients():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    optimizer, scaler = torch.optim.SGD(net.parameters(), lr=1e-3), torch.amp.GradScaler("cpu")
    loss, seen = _mixed_precision_loss(net)
    assert seen.stats.rejected > 0
    loss.backward()
    plain = [parameter.grad.clone() for parameter in net.parameters()]
    optimizer.zero_grad()
    scaler.scale(_mixed_precision_loss(net)[0]).backward()
    assert net[0].weight.grad.abs().max() > 1000 * plain[0].abs().max()
    scaler.unscale_(optimizer)
    for parameter, expected in zip(net.parameters(), plain, strict=True):
        # Scaled by a power of two, not a digit is lost.
        assert torch.equal(parameter.grad, expected)
    before = net[0].weight.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(net[0].weight, before)


class Solved(torch.utils.data.Dataset):
    """A data set that solves its items, and observes them too."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with tap.observe(TERM) as seen:
            y = _solve(Field(), Y0 + index)
        return y.detach(), seen.penalty.detach(), os.getpid()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX says that it does not like it; no JAX runs in the workers
@fault("the workers of a `DataLoader` solve inside a block", "the block sees the solves of its own process alone")
def test_workers_of_a_data_loader_solve_for_themselves():
    loader = torch.utils.data.DataLoader(Solved(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    with tap.observe(TERM) as seen:
        items = list(loader)
        assert seen.stats.solves == 0
        expected = [Solved()[index] for index in range(4)]
    assert seen.stats.solves == 4
    for (y, penalty, process), (expected_y, expected_penalty, here) in zip(items, expected, strict=True):
        assert torch.equal(y, expected_y)
        assert torch.equal(penalty, expected_penalty)
        assert process != here


@fault("the backward pass runs in another thread, as on a GPU", "bitwise the same gradient")
def test_backward_in_another_thread_gives_the_same_gradient():
    here, there = Field(), Field()
    _penalized(here)[1].backward()
    with ThreadPoolExecutor(1) as pool, tap.observe(TERM) as seen:
        _solve(there)
        pool.submit(seen.penalty.backward).result()
    assert torch.equal(there.weights.grad, here.weights.grad)
    assert seen.stats.solves == 1


def test_observed_module_is_untouched():
    field = Field()
    before = pickle.dumps(field)
    with tap.observe(EVERY, trace=True):
        _solve(field)
        assert torch.equal(_solve(copy.deepcopy(field)), _solve(field))
        assert pickle.dumps(field) == before
    assert pickle.dumps(field) == before


@fault("another default device than that of the state", "everything stays on the device of the state")
def test_default_device_is_not_that_of_the_terms():
    # On "meta" there are no values: whatever were made there would be lost.
    options = {"first_step": torch.tensor(0.5, dtype=torch.float64)}
    with tap.observe(EVERY) as expected:
        bare = _solve(Field(), options=options)
    with torch.device("meta"), tap.observe(EVERY, trace=True) as seen:
        assert torch.equal(_solve(Field(), options=options), bare)
        penalty = seen.penalty
    assert torch.equal(penalty, expected.penalty)
    assert len(seen.trace.numpy()["h"]) == seen.stats.accepted + seen.stats.rejected


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_detection_finds_none_where_every_term_is_zero():
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with torch.autograd.detect_anomaly(check_nan=True):
        with tap.observe(EVERY) as seen:
            _solve(lambda t, y: weight * y)
        seen.penalty.backward()
    assert seen.penalty == 0
    assert weight.grad == 0


class Synchronizing(TorchDispatchMode):
    """Counts the operations that would wait for a device, or copy a constant to it."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # `item()` and `bool()` are the first.
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "_to_copy", "nonzero", "lift_fresh"):
            self.counts[function] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize(
    "solve", [lambda: _solve(Field()), lambda: _solve_sde(Field().weights)], ids=["torchdiffeq", "torchsde"]
)
@fault(
    "tensors are asked for numbers, which on a GPU waits for it",
    "no more often than bare; no constant is copied at a step",
)
def test_no_synchronisation_is_added(solve, trace):
    term = tap.LocalError() + tap.Stiffness() + tap.KineticEnergy()
    with tap.observe(term, trace=trace) as seen:  # what is made once for each method and device, in both passes
        y = solve()
    (y.sum() + seen.penalty).backward()
    assert seen.stats.rejected > 0
    with Synchronizing() as bare:
        solve().sum().backward()
    with Synchronizing() as observed:
        with tap.observe(term, trace=trace) as seen:
            y = solve()
        (y.sum() + seen.penalty).backward()
    assert observed.counts == bare.counts
    assert bare.counts.total() > seen.stats.accepted
