"""What torch solves once more in its backward pass: counted as a phase of its own, never twice."""

import gc
import threading
import weakref

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint, odeint_adjoint, odeint_event

import solvertap as tap
from solvertap import errors
from solvertap.plugins import registry
from tests.faults import fault
from tests.test_torchdiffeq import TERM, TIMES, Field, _y0

NOTHING = tap.Stats()


def _counted(field):
    """The field, and the list of the times at which it is evaluated."""
    calls = []
    field.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0]))
    return field, calls


def _solve(field, y0, function=odeint):
    return function(field, y0, TIMES, rtol=1e-5, atol=1e-5, method="dopri5", options={"first_step": 0.3})


def _gradients(loss, field):
    return torch.autograd.grad(loss, field.parameters())[0]


@fault(
    "the backward pass of `odeint_adjoint` solves backwards in time",
    'it is no step of the problem: counted in `seen.phases["adjoint"]`, not in `seen.stats`',
)
def test_backward_solve_of_odeint_adjoint_is_a_phase_of_its_own():
    field, calls = _counted(Field())
    with tap.observe() as seen:
        y = _solve(field, _y0(), odeint_adjoint)
    forward, made = seen.stats, len(calls)
    assert forward.evaluations == made
    assert seen.phases == {"forward": forward, "adjoint": NOTHING, "recomputation": NOTHING}
    y.sum().backward()
    adjoint = seen.phases["adjoint"]
    assert seen.stats == forward
    assert adjoint.solves == len(TIMES) - 1
    assert adjoint.accepted > 0
    assert adjoint.evaluations == len(calls) - made
    assert seen.phases["recomputation"] == NOTHING


def test_who_observes_the_backward_pass_alone_counts_its_solves():
    with tap.observe() as forward:
        y = _solve(Field(), _y0(), odeint_adjoint)
    with tap.observe(TERM) as backward:
        y.sum().backward()
    assert backward.stats == NOTHING
    assert backward.phases["adjoint"] == forward.phases["adjoint"] != NOTHING


def test_backward_solve_of_sdeint_adjoint_is_a_phase_of_its_own():
    pytest.importorskip("torchsde")
    from tests import test_torchsde

    calls = []

    class Counted(test_torchsde.SDE):
        def f(self, t, y):
            calls.append(t)
            return super().f(t, y)

    for adaptive in (True, False):
        sde = Counted("stratonovich")
        options = {"adaptive": adaptive, "adjoint_adaptive": adaptive, "adjoint_rtol": 1e-2, "adjoint_atol": 1e-2}
        with tap.observe() as seen:
            states = test_torchsde._solve(sde, "midpoint", "none", function=test_torchsde.sdeint_adjoint, **options)
        forward, made = seen.stats, len(calls)
        states.sum().backward()
        adjoint = seen.phases["adjoint"]
        assert seen.stats == forward
        assert adjoint.solves == len(test_torchsde.TIMES) - 1
        assert adjoint.accepted > 0
        assert adjoint.evaluations == len(calls) - made
        assert sde.weights.grad.abs().sum() > 0


@fault(
    "`torch.utils.checkpoint` solves again in the backward pass",
    'the penalty and its gradient are the same; counted in `seen.phases["recomputation"]`, not in `seen.stats`',
)
@pytest.mark.parametrize("closed", [True, False], ids=["after the block", "inside the block"])
@pytest.mark.parametrize("trace", [False, True], ids=["", "trace"])
def test_penalty_of_a_checkpointed_solve_has_its_gradient_and_counts_once(closed, trace):
    plain = Field()
    with tap.observe(TERM, trace=trace) as bare:
        loss = _solve(plain, _y0())[-1].sum()
    expected = _gradients(loss + bare.penalty, plain)

    field, calls = _counted(Field())
    with tap.observe(TERM, trace=trace) as seen:
        loss = checkpoint(_solve, field, _y0(), use_reentrant=False)[-1].sum() + seen.penalty
        made = len(calls)
        if not closed:
            gradient = _gradients(loss, field)
    if closed:
        gradient = _gradients(loss, field)
    assert torch.equal(gradient, expected)
    assert torch.equal(seen.penalty, bare.penalty)
    assert seen.stats == bare.stats
    assert seen.phases["recomputation"].evaluations == len(calls) - made > 0
    assert seen.phases["adjoint"] == NOTHING


@fault(
    "a solve inside `torch.utils.checkpoint` is recomputed when `regularize` has stopped",
    "its penalty has its gradient, as without the checkpoint",
)
def test_regularized_solve_is_recomputed_as_it_was_when_regularize_has_stopped():
    found = []
    for solve in (_solve, lambda *arguments: checkpoint(_solve, *arguments, use_reentrant=False)):
        field = Field()
        optimiser = torch.optim.SGD(field.parameters(), lr=0.0)
        with tap.regularize(TERM) as regularizer:
            loss = solve(field, _y0())[-1].sum()
        loss.backward()
        optimiser.step()
        assert regularizer.backward_passes == {"carried": 1, "left": 0}
        found.append([x.grad for x in field.parameters()])
    plain = Field()
    _solve(plain, _y0())[-1].sum().backward()
    assert all(map(torch.equal, *found))
    assert not any(torch.equal(x.grad, g) for x, g in zip(plain.parameters(), found[0], strict=True))


def test_block_inside_a_checkpointed_function_recomputes_its_own():
    def step(field, y0, inner):
        with tap.observe(inner) as seen:
            y = _solve(field, y0)
        return y[-1].sum() + seen.penalty

    def gradient(function):
        field = Field()
        with tap.observe(tap.LocalError(reduce="mean")) as seen:
            loss = function(step, field, _y0(), TERM) + seen.penalty
        return _gradients(loss, field), seen

    expected, bare = gradient(lambda function, *args: function(*args))
    found, seen = gradient(lambda function, *args: checkpoint(function, *args, use_reentrant=False))
    assert torch.equal(found, expected)
    assert seen.stats == bare.stats
    assert seen.phases["recomputation"].evaluations > 0


def test_recomputation_repeats_the_penalty_also_when_nobody_holds_the_observation_any_more():
    field = Field()

    def loss():
        with tap.observe(TERM) as seen:
            y = checkpoint(_solve, field, _y0(), use_reentrant=False)
        return y[-1].sum() + seen.penalty

    total = loss()
    gc.collect()
    with tap.observe(tap.Stiffness(reduce="mean")) as other:  # asks for something else, and may not disturb
        gradient = _gradients(total, field)
    assert gradient.abs().sum() > 0
    assert other.stats == NOTHING
    assert other.phases["recomputation"].evaluations > 0


def test_reentrant_checkpoint_is_counted_once_and_refuses_a_penalty():
    field, calls = _counted(Field())
    y0 = _y0().requires_grad_()
    with tap.observe() as seen:
        y = checkpoint(_solve, field, y0, use_reentrant=True)
    made = len(calls)
    y.sum().backward()
    assert seen.stats.evaluations == made
    assert seen.phases["recomputation"].evaluations == len(calls) - made == made
    with pytest.raises(errors.GradientDisabledError, match="use_reentrant=False"), tap.observe(TERM):
        checkpoint(_solve, field, y0, use_reentrant=True)


@fault(
    "the backward pass runs on another thread, as on a GPU",
    "recomputation and adjoint find the observation of the forward pass",
)
def test_backward_pass_of_another_thread_finds_its_observation():
    def run(loss):
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()

    field, again = Field(), Field()
    with tap.observe(TERM) as seen:
        loss = checkpoint(_solve, field, _y0(), use_reentrant=False)[-1].sum() + seen.penalty
    run(loss)
    with tap.observe(TERM) as bare:
        loss = _solve(again, _y0())[-1].sum() + bare.penalty
    loss.backward()
    assert torch.equal(field.weights.grad, again.weights.grad)
    assert seen.phases["recomputation"].solves == 1
    with tap.observe() as seen:
        loss = _solve(field, _y0(), odeint_adjoint).sum()
    run(loss)
    assert seen.phases["adjoint"].solves == len(TIMES) - 1


def test_checkpoint_and_adjoint_leave_nothing_in_memory():
    released = []
    for function in (lambda *args: checkpoint(_solve, *args, use_reentrant=False), lambda *args: _solve(*args)):
        field = Field()
        with tap.observe(TERM) as seen:
            loss = function(field, _y0())[-1].sum() + seen.penalty
        released.append(weakref.ref(seen))
        del seen, loss
    gc.collect()
    assert [reference() for reference in released] == [None, None]


def test_event_of_an_adjoint_is_counted_like_any_other():
    y0 = _y0().requires_grad_()
    with tap.observe() as seen:
        time, _ = odeint_event(
            Field(), y0, TIMES[0], event_fn=lambda t, y: t - 0.5, odeint_interface=odeint_adjoint, atol=1e-6, rtol=1e-6
        )
        forward = seen.stats
    assert forward.solves == 1
    assert time.item() == pytest.approx(0.5)


def test_observers_hear_the_steps_of_the_forward_pass_and_the_phase_of_every_solve():
    heard = {"steps": 0, "ended": []}

    class Observer:
        @tap.hookimpl
        def solvertap_step(self, step):
            heard["steps"] += 1

        @tap.hookimpl
        def solvertap_solve_finished(self, stats, phase):
            heard["ended"].append((phase, stats.evaluations))

    observer = Observer()
    tap.register(observer)
    try:
        with tap.observe() as seen:
            _solve(Field(), _y0(), odeint_adjoint).sum().backward()
    finally:
        registry.plugins().manager.unregister(observer)
    assert heard["steps"] == seen.stats.accepted + seen.stats.rejected
    assert [phase for phase, _ in heard["ended"]] == ["forward", "adjoint", "adjoint"]
    assert sum(count for phase, count in heard["ended"] if phase == "adjoint") == seen.phases["adjoint"].evaluations
