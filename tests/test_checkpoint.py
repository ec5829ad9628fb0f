"""`observe(checkpoint=True)`: the steps are taken once more in the backward pass, and nothing else changes."""

import gc
import weakref

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint, odeint_adjoint, odeint_event

import solvertap as tap
from solvertap import errors
from solvertap.plugins import registry
from solvertap_lab.overhead.memory import most_held
from tests import numpy_solver
from tests.faults import fault
from tests.test_torchdiffeq import TERM, TIMES, Field, _y0

# The same numbers, added in another order; a stiffness is a quotient of small differences (dopri8: 1.3e-12).
RELATIVE = 1e-10


def _tuple_field(field, t, y):
    return field(t, y[0]), -y[1] * t


WAYS = {
    "dopri5": lambda field, y0: odeint(field, y0, TIMES, rtol=1e-5, atol=1e-5, options={"first_step": 0.3}),
    "dopri8": lambda field, y0: odeint(field, y0, TIMES, rtol=1e-5, atol=1e-5, method="dopri8"),
    # Their stiffness evaluates the field once and twice more.
    "bosh3": lambda field, y0: odeint(field, y0, TIMES, rtol=1e-4, atol=1e-4, method="bosh3"),
    "fehlberg2": lambda field, y0: odeint(field, y0, TIMES, rtol=1e-3, atol=1e-3, method="fehlberg2"),
    "backwards": lambda field, y0: odeint(field, y0, TIMES.flip(0), rtol=1e-5, atol=1e-5),
    "tuple": lambda field, y0: odeint(lambda t, y: _tuple_field(field, t, y), (y0, y0[0]), TIMES, rtol=1e-5, atol=1e-5)[
        0
    ],
    "jump": lambda field, y0: odeint(field, y0, TIMES, method="dopri5", options={"jump_t": torch.tensor([0.5])}),
    "event": lambda field, y0: odeint_event(field, y0, TIMES[0], event_fn=lambda t, y: t - 0.5, rtol=1e-5, atol=1e-5)[
        1
    ],
}
GRIDS = {
    method: lambda field, y0, method=method: odeint(
        field, y0, TIMES, method=method, options={"step_size": 0.1, "interp": "cubic"}
    )
    for method in ("euler", "midpoint", "heun2", "heun3", "rk4")
}


def _trained(solve, term, **options):
    """The solution, the penalty, the gradient of both, and what was seen."""
    field = Field()
    y0 = _y0().requires_grad_()
    with tap.observe(term, **options) as seen:
        states = solve(field, y0)
    penalty = seen.penalty if term is not None else states.sum() * 0
    gradients = torch.autograd.grad(states.square().sum() + penalty, (field.weights, y0))
    return states, penalty, gradients, seen


def _agree(found, expected):
    for x, y in zip(found, expected, strict=True):
        assert (x - y).norm() <= RELATIVE * y.norm()
        assert y.norm() > 0


@pytest.mark.parametrize("term", [TERM, None], ids=["penalty", "statistics"])
@pytest.mark.parametrize("way", WAYS)
def test_solution_and_penalty_are_bitwise_and_the_gradient_to_rounding_those_of_the_kept_solve(way, term):
    states, penalty, gradients, bare = _trained(WAYS[way], term)
    replayed, its_penalty, its_gradients, seen = _trained(WAYS[way], term, checkpoint=True)
    assert torch.equal(replayed, states)
    assert torch.equal(its_penalty, penalty)
    _agree(its_gradients, gradients)
    assert seen.stats == bare.stats
    assert bare.phases["recomputation"] == tap.Stats()
    again = seen.phases["recomputation"]
    assert (again.solves, again.accepted, again.rejected) == (1, 0, 0)
    assert 0 < again.evaluations <= seen.stats.evaluations + seen.stats.measuring


@pytest.mark.parametrize("method", GRIDS)
def test_steps_of_a_grid_are_replayed_as_well(method):
    states, _, gradients, bare = _trained(GRIDS[method], None)
    replayed, _, its_gradients, seen = _trained(GRIDS[method], None, checkpoint=True)
    assert torch.equal(replayed, states)
    _agree(its_gradients, gradients)
    # What the interpolation asks for at the end of a step is not part of it.
    assert 0 < seen.phases["recomputation"].evaluations <= seen.stats.evaluations == bare.stats.evaluations


def test_a_rejected_step_is_neither_kept_nor_taken_again():
    _, _, _, seen = _trained(WAYS["dopri5"], None, checkpoint=True)
    assert seen.stats.rejected > 0
    # Six evaluations an attempt; two before the first, for its slope and for the size of a step that is given here.
    assert seen.phases["recomputation"].evaluations == 6 * seen.stats.accepted


class Net(torch.nn.Module):
    """A field whose activations are much larger than its state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(64, 3), torch.nn.Tanh()).double()

    def forward(self, t, y):
        return self.layers(y)


def _kept_bytes(steps, term, used=None, **options):
    net, y0 = Net(), torch.ones(32, 3, dtype=torch.float64)

    def trained():
        with tap.observe(term, **options) as seen:
            states = odeint(net, y0, TIMES, rtol=1e-2, atol=1e-2, method="dopri5", options={"max_step": 1 / steps})
        loss = states[-1].sum() + (0 if term is None else seen.penalty)
        torch.autograd.grad(loss, list(net.parameters())[:used])
        assert seen.stats.accepted >= steps

    return most_held(trained)


@pytest.mark.parametrize("term", [TERM, None], ids=["penalty", "statistics"])
def test_memory_grows_with_the_states_and_not_with_the_activations(term):
    short, long = (_kept_bytes(steps, term, checkpoint=True) for steps in (10, 40))
    kept_short, kept_long = (_kept_bytes(steps, term) for steps in (10, 40))
    activations = (kept_long - kept_short) / 30
    # A step has ten states with a penalty (its own, its slopes, its error, and what the times take), three without.
    assert (long - short) / 30 < (0.1 if term is not None else 0.03) * activations


def test_what_no_derivative_asks_for_is_not_held_from_step_to_step():
    # The first parameters alone: what the others would need is found with the rest, and let go at the next step.
    short, long = (_kept_bytes(steps, None, used=2, checkpoint=True) for steps in (10, 40))
    assert (long - short) / 30 < 0.03 * (_kept_bytes(40, None) - _kept_bytes(10, None)) / 30


def test_second_derivatives_go_through_a_replayed_solve():
    def second(**options):
        field = Field()
        with tap.observe(TERM, **options) as seen:
            states = WAYS["dopri5"](field, _y0())
        loss = states.square().sum() + seen.penalty
        (first,) = torch.autograd.grad(loss, field.weights, create_graph=True)
        return torch.autograd.grad(first.square().sum(), field.weights)

    for found, expected in zip(second(checkpoint=True), second(), strict=True):
        assert (found - expected).norm() <= 1e-9 * expected.norm()


def test_a_graph_is_gone_through_as_often_as_it_is_kept_for():
    field = Field()
    with tap.observe(TERM, checkpoint=True) as seen:
        states = WAYS["dopri5"](field, _y0())
    loss = states.square().sum() + seen.penalty
    first, second = (torch.autograd.grad(loss, field.weights, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_random_numbers_and_autocast_are_those_of_the_forward_pass():
    class Noisy(Field):
        def forward(self, t, y):
            y = torch.nn.functional.dropout(y.float() @ self.weights.float(), 0.5)
            return torch.tanh(y).double() - 0.1 * y.double()

    def gradient(**options):
        field = Noisy()
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16), tap.observe(None, **options):
            states = GRIDS["rk4"](field, _y0())
        after = torch.rand(1)
        (found,) = torch.autograd.grad(states.square().sum(), field.weights)
        return found, after, torch.rand(1)

    for found, expected in zip(gradient(checkpoint=True), gradient(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("outer", [False, True], ids=["itself", "inside `torch.utils.checkpoint`"])
def test_solve_inside_a_checkpointed_solve(outer):
    def solve(field, y0):
        inner = lambda t, y: field(t, y) + odeint(field, y, TIMES[:2], rtol=1e-3, atol=1e-3)[-1]  # noqa: E731
        run = lambda y0: odeint(inner, y0, TIMES, rtol=1e-3, atol=1e-3)  # noqa: E731
        return checkpoint(run, y0, use_reentrant=False) if outer else run(y0)

    states, penalty, gradients, _ = _trained(solve, TERM)
    replayed, its_penalty, its_gradients, _ = _trained(solve, TERM, checkpoint=True)
    assert torch.equal(replayed, states)
    assert torch.equal(its_penalty, penalty)
    _agree(its_gradients, gradients)


def test_nothing_stays_in_memory():
    field = Field()
    with tap.observe(TERM, checkpoint=True) as seen:
        loss = WAYS["dopri5"](field, _y0())[-1].sum() + seen.penalty
    held = weakref.ref(seen), weakref.ref(seen.solves[0])  # a graph that held the solve would be held by it
    del seen, loss
    gc.collect()
    assert [reference() for reference in held] == [None, None]


def test_without_gradients_and_under_an_adjoint_nothing_is_taken_again():
    field = Field()
    with torch.no_grad(), tap.observe(checkpoint=True) as seen:
        WAYS["dopri5"](field, _y0())
    assert seen.phases["recomputation"] == tap.Stats()
    with tap.observe(checkpoint=True) as seen:
        odeint_adjoint(field, _y0(), TIMES, rtol=1e-5, atol=1e-5).sum().backward()
    assert seen.phases["recomputation"] == tap.Stats()
    assert seen.phases["adjoint"].evaluations > 0


@fault(
    "a field that does something else each time it is called, under `observe(checkpoint=True)`",
    "refused in the backward pass, with what was kept the first time and the second",
)
def test_field_that_does_not_repeat_itself_is_refused():
    forward = True

    def fickle(t, y):
        return torch.sin(y) if forward else -y

    y0 = _y0().requires_grad_()
    with tap.observe(checkpoint=True):
        states = odeint(fickle, y0, TIMES, method="euler", options={"step_size": 0.3})
    forward = False
    with pytest.raises(errors.CheckpointError, match="must do the same"):
        states.sum().backward()


@fault(
    "a state is changed in place between a solve under `observe(checkpoint=True)` and its backward pass",
    "refused in the backward pass; torch's own check does not see it",
)
def test_state_that_was_changed_in_place_is_refused():
    y0 = _y0()
    field = Field()
    with tap.observe(checkpoint=True):
        states = WAYS["dopri5"](field, y0)
    y0 += 1
    with pytest.raises(errors.CheckpointError, match=r"changed in place.*Change a copy"):
        states.sum().backward()


@fault(
    "`observe(checkpoint=True)` where steps cannot be taken once more: multistep methods, diffrax's `DirectAdjoint`, "
    "an adapter that has no checkpoints",
    "refused at the door, with the remedy",
)
@pytest.mark.parametrize("method", ["explicit_adams", "implicit_adams"])
def test_methods_that_build_on_earlier_steps_are_refused(method):
    field = Field()
    with (
        pytest.raises(errors.CheckpointError, match=r"build on earlier ones.*method=.rk4."),
        tap.observe(checkpoint=True) as seen,
    ):
        odeint(field, _y0(), TIMES, method=method, options={"step_size": 0.1})
    assert seen.stats == tap.Stats()


def test_adapter_without_checkpoints_is_refused():
    if "numpy-loop" not in registry.plugins().adapters:
        tap.register(numpy_solver.NumpyAdapter())
    with pytest.raises(errors.CheckpointError, match=r"numpy-loop.*Leave it out"), tap.observe(checkpoint=True):
        numpy_solver.solve(lambda t, y: -y, [1.0], 0.0, 1.0)
