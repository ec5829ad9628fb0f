"""torchdyn's continuous adjoints, each an `autograd.Function` made anew for every solve."""

import random
import threading
import weakref

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdyn.core")

from torchdyn.core import MultipleShootingProblem, NeuralODE, ODEProblem
from torchdyn.numerics.sensitivity import _gather_odefunc_adjoint

import solvertap as tap
from solvertap import errors
from solvertap_torch import tapped_function
from tests.faults import fault
from tests.test_torchdyn import CALL, GRID, TERM, TIMES, Y0, Field

ADJOINTS = ["adjoint", "interpolated_adjoint"]
SAMPLE = tap.LocalSample(tap.LocalError())


def model(sensitivity, kind=NeuralODE, **options):
    return kind(Field(), solver="dopri5", sensitivity=sensitivity, **CALL, **options)


def weights(model):
    (found,) = [module.weights for module in model.modules() if isinstance(module, Field)]
    return found


def calls(model):
    return next(module for module in model.modules() if isinstance(module, Field)).calls


def gradient(model, loss):
    return torch.autograd.grad(loss, weights(model), retain_graph=True)[0]


@fault(
    'a model of torchdyn solves with `sensitivity="adjoint"` or `"interpolated_adjoint"`',
    'the forward pass is counted; the backward one in `seen.phases["adjoint"]`, not in `seen.stats`',
)
@pytest.mark.parametrize("kind", [NeuralODE, ODEProblem])
@pytest.mark.parametrize("sensitivity", ADJOINTS)
def test_backward_solve_is_a_phase_of_its_own_and_nothing_changes(sensitivity, kind):
    bare = model(sensitivity, kind)
    expected = bare(Y0, TIMES)[1]
    expected_gradient = gradient(bare, expected.sum())

    observed = model(sensitivity, kind)
    with tap.observe() as seen:
        states = observed(Y0, TIMES)[1]
    forward, made = seen.stats, calls(observed)
    assert forward.evaluations == made
    assert forward.rejected > 0
    assert torch.equal(states, expected)
    assert states.grad_fn.name() == expected.grad_fn.name()
    assert torch.equal(gradient(observed, states.sum()), expected_gradient)
    adjoint = seen.phases["adjoint"]
    assert seen.stats == forward
    assert adjoint.solves == len(TIMES) - 1
    # sensitivity.py::backward evaluates the field at each time as well, between the solves of "adjoint".
    between = len(TIMES) if sensitivity == "adjoint" else 0
    assert adjoint.evaluations == calls(observed) - made - between
    assert calls(observed) == calls(bare)


@pytest.mark.parametrize("sensitivity", ADJOINTS)
def test_full_term_is_refused_with_a_remedy_and_trajectory_serves_it(sensitivity):
    with (
        pytest.raises(
            errors.ContinuousAdjointError, match=r'`sensitivity="autograd"` .*`trajectory`.*, or `LocalSample`'
        ),
        tap.observe(TERM),
    ):
        model(sensitivity)(Y0, TIMES)
    neural = model(sensitivity)
    with tap.observe(TERM) as seen:
        neural.trajectory(Y0, TIMES)  # which torch differentiates
    assert gradient(neural, seen.penalty).abs().sum() > 0


@pytest.mark.parametrize("sensitivity", ADJOINTS)
def test_sample_has_the_value_and_gradient_that_it_has_without_an_adjoint(sensitivity):
    plain, adjoint = model("autograd"), model(sensitivity)
    with tap.observe(SAMPLE, key=random.Random(0)) as expected:
        plain(Y0, TIMES)
    with tap.observe(SAMPLE, key=random.Random(0)) as seen:
        states = adjoint(Y0, TIMES)[1]
    assert torch.equal(seen.penalty, expected.penalty)
    assert torch.equal(gradient(adjoint, seen.penalty), gradient(plain, expected.penalty))
    bare = model(sensitivity)
    assert torch.equal(gradient(adjoint, states.sum()), gradient(bare, bare(Y0, TIMES)[1].sum()))


def test_sample_of_regularize_is_put_behind_the_function():
    def trained(weight):
        neural = model("adjoint")
        optimiser = torch.optim.SGD(neural.parameters(), lr=0.1)
        with tap.regularize(weight * SAMPLE) as regularized:
            neural(Y0, TIMES)[1].sum().backward()
        assert not regularized.left_out
        assert optimiser.param_groups
        return weights(neural).grad

    plain, one, two = map(trained, (0.0, 1.0, 2.0))
    assert (one - plain).abs().sum() > 0
    assert torch.allclose(two - plain, 2 * (one - plain), rtol=1e-9)


def test_backward_pass_of_another_thread_and_after_detaching_finds_its_observation():
    neural = model("adjoint")
    with tap.observe() as seen:
        loss = neural(Y0, TIMES)[1].sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    assert seen.phases["adjoint"].solves == len(TIMES) - 1
    neural = model("adjoint")
    with tap.observe() as seen:
        loss = neural(Y0, TIMES)[1].sum()
    expected = model("adjoint")
    tap.detach()
    assert torch.equal(gradient(neural, loss), gradient(expected, expected(Y0, TIMES)[1].sum()))
    assert seen.phases["adjoint"].solves == 0  # its taps are gone
    assert "tapped" not in repr(_gather_odefunc_adjoint.__code__)


def test_multiple_shooting_is_counted_under_an_adjoint_too():
    problem = MultipleShootingProblem(Field(), "mszero", sensitivity="autograd")
    with tap.observe() as seen:
        problem(Y0, GRID)
    assert seen.stats == tap.Stats(1, None, None, problem.vf.calls)
    assert problem.vf.calls > 0


# --- `tapped_function` ------------------------------------------------------------------------------------------------
def made(scale):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return scale * x

        @staticmethod
        def backward(ctx, cotangent):
            return scale * cotangent

    return Scaled


def test_tapped_function_is_the_function_and_leaves_its_class_alone():
    function = made(3.0)
    before = dict(vars(function))
    tapped = tapped_function(function, "adjoint")
    x = torch.ones(2, requires_grad=True)
    bare, found = function.apply(x), tapped.apply(x)
    assert torch.equal(found, bare)
    assert found.grad_fn.name() == bare.grad_fn.name()
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], torch.full((2,), 3.0))
    assert issubclass(tapped, function)
    assert (tapped.__name__, tapped.__module__) == (function.__name__, function.__module__)
    assert dict(vars(function)) == before


def test_tapped_function_holds_no_observation():
    with tap.observe() as seen:
        loss = model("adjoint")(Y0, TIMES)[1].sum()
    reference = weakref.ref(seen)
    del seen
    assert reference() is None
    loss.backward()
