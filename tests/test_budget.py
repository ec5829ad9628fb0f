"""A budget finds its weight: by what rule, the same in every framework and on every way, and to the harm of nobody."""

import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import solvertap as tap
from solvertap.errors import InvalidInputError, NothingObservedError
from solvertap.observing.budget_state import BudgetState
from tests.faults import fault

torch = pytest.importorskip("torch")
torchdiffeq = pytest.importorskip("torchdiffeq")
jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")
import jax.numpy as jnp
from jax import export

TURN = np.array([[-0.4161, -0.9093], [0.9093, -0.4161]])
RATE = 3e-3
TOLERANCE = 1e-6


def told(budget, state, steps=8, by_loss=1.0, by_penalty=1.0, loss=1.0):
    """The state after a solve of so many steps, whose gradients have these norms."""
    stats = tap.Stats(1, steps, 0, 6 * steps)
    return budget.updated(state, stats, np.float64(loss), [np.array([by_loss])], [np.array([by_penalty])])


def after(budget, updates, **solve):
    state = budget.init()
    for _ in range(updates):
        state = told(budget, state, **solve)
    return state


def test_weight_grows_to_the_cap_while_a_solve_takes_more_steps_than_the_target():
    budget = tap.budget(steps=4, gain=0.2)
    weights = [float(after(budget, n, steps=8, by_loss=3.0, by_penalty=2.0).weight) for n in (1, 5, 50)]
    assert weights[0] < weights[1] < weights[2]
    assert weights[2] == pytest.approx(budget.cap * 3.0 / 2.0, rel=1e-12)


def test_weight_of_a_target_that_is_met_decays_to_next_to_nothing_and_comes_back():
    budget = tap.budget(steps=4, gain=0.2)
    state = after(budget, 300, steps=3)
    assert state.weight == pytest.approx(1e-4 * budget.cap, rel=1e-9)
    for _ in range(100):
        state = told(budget, state, steps=8)
    assert state.weight == pytest.approx(budget.cap, rel=1e-9)


def test_target_that_is_just_met_holds_the_weight():
    budget = tap.budget(steps=4, gain=0.2)
    state = after(budget, 5, steps=4)
    assert told(budget, state, steps=4).weight == state.weight


def test_weight_falls_as_soon_as_a_solve_takes_fewer_steps_and_the_multiplier_only_later():
    budget = tap.budget(steps=8, gain=0.2)
    state = after(budget, 100, steps=16)
    assert state.log_share == state.log_multiplier == 0
    for _ in range(20):
        state = told(budget, state, steps=5)
    assert state.excess < 0
    assert state.log_multiplier > -0.5
    assert state.weight < 0.2 * budget.cap
    assert state.log_share == pytest.approx(state.log_multiplier + budget.response * state.excess)


def test_weight_follows_a_growing_gradient_at_once_and_a_vanishing_one_slowly():
    budget = tap.budget(steps=4, gain=0.2)
    state = after(budget, 100)
    assert told(budget, state, by_penalty=1e3).weight == pytest.approx(1e-3 * state.weight)
    assert told(budget, state, by_penalty=1e-9).weight == pytest.approx(2 * state.weight)


def test_gradients_of_what_the_penalty_does_not_depend_on_count_for_nothing():
    budget, head = tap.budget(steps=4), np.array([1e6])
    stats, loss = tap.Stats(1, 8, 0, 48), np.float64(1.0)
    field = [np.array([1.0])], [np.array([1.0])]
    both = [*field[0], head], [*field[1], np.array([0.0])]
    unknown = [*field[0], head], [*field[1], None]
    states = [budget.updated(budget.init(), stats, loss, *by) for by in (field, both, unknown)]
    assert states[0] == states[1] == states[2]


def test_solves_whose_gradients_are_no_numbers_or_were_not_measured_leave_the_scale():
    budget = tap.budget(steps=4, gain=0.2)
    state = after(budget, 3)
    for by_penalty in (math.nan, math.inf, 0.0):
        assert told(budget, state, by_penalty=by_penalty).log_scale == state.log_scale
    assert budget.updated(state, tap.Stats(1, 8, 0, 48), np.float64(1.0)).measured == state.measured == 3


def test_fraction_is_of_the_first_fifty_solves():
    budget = tap.budget(fraction=0.5, gain=0.2)
    state = after(budget, 50, steps=8)
    assert state.reference == 8
    assert state.weight == 1e-6
    weights = [state.weight]
    for _ in range(100):
        state = told(budget, state, steps=8)
        weights.append(state.weight)
    assert weights == sorted(weights)
    assert weights[-1] == pytest.approx(budget.cap)
    assert state.reference == 8
    assert told(budget, state, steps=4).excess < told(budget, state, steps=8).excess
    assert told(budget, state, steps=100).reference == 8


def test_loss_lets_the_weight_grow_as_long_as_the_loss_stays_near_its_best():
    budget = tap.budget(loss=0.02, gain=0.2)
    assert after(budget, 50, loss=1.0).weight == 1e-6  # only watched
    state = after(budget, 100, loss=1.0)
    assert state.weight == pytest.approx(budget.cap)
    for _ in range(100):
        state = told(budget, state, loss=1.1)
    assert state.reference == 1.0
    assert state.weight < 0.1 * budget.cap


def test_loss_lets_the_weight_wait_while_the_loss_falls():
    budget, part = tap.budget(loss=0.02), 0.02
    state, levels = budget.init(), [4.0]
    for n in range(1000):
        state = told(budget, state, loss=4.0 * 0.999**n)  # by 5 % in fifty updates
        levels.append(levels[-1] + part * (4.0 * 0.999**n - levels[-1]))
    assert state.level == pytest.approx(levels[-1])
    assert state.level / state.reference < 0.96
    assert state.weight == pytest.approx(1e-4 * budget.cap)
    for _ in range(1000):
        state = told(budget, state, loss=4.0 * 0.999**1000)
    assert state.level / state.reference == pytest.approx(1, abs=1e-4)
    assert state.weight == pytest.approx(budget.cap)


@pytest.mark.parametrize("best", [1.0, -1.0])
def test_loss_that_gets_much_worse_lets_the_weight_of_every_target_fall(best):
    budget = tap.budget(steps=4, gain=0.2)
    state = after(budget, 100, steps=8, loss=best)
    assert state.weight == pytest.approx(budget.cap)
    for _ in range(100):
        state = told(budget, state, steps=8, loss=best + 0.4)
    assert state.weight == pytest.approx(budget.cap)
    for _ in range(200):
        state = told(budget, state, steps=8, loss=best + 1.0)
    assert state.weight < 1e-3 * budget.cap
    assert state.best == pytest.approx(best)
    for _ in range(200):
        state = told(budget, state, steps=8, loss=best)
    assert state.weight == pytest.approx(budget.cap)


def test_loss_near_zero_may_get_worse_by_half_of_it_as_long_as_little_of_the_training_is_lost():
    budget = tap.budget(steps=4, gain=0.2)
    state = after(budget, 1, steps=8, loss=3.0)
    for _ in range(500):
        state = told(budget, state, steps=8, loss=0.04)
    # 3 % of what it has fallen by: 0.04 + 0.089.
    for loss, weight in ((0.12, budget.cap), (0.14, 0.0)):
        for _ in range(300):
            state = told(budget, state, steps=8, loss=loss)
        assert state.weight == pytest.approx(weight, abs=1e-3 * budget.cap)


def test_loss_that_is_no_number_is_left_out():
    budget = tap.budget(steps=4)
    state = after(budget, 10, loss=2.0)
    assert told(budget, state, loss=math.nan).loss == told(budget, state, loss=math.inf).loss == state.loss


@pytest.mark.parametrize("target", [{"steps": 4}, {"fraction": 0.5}, {"loss": 0.02}], ids=str)
def test_training_whose_first_losses_are_no_numbers_begins_with_the_first_that_is_one(target):
    budget = tap.budget(**target)
    state = after(budget, 3, loss=math.inf)
    state = told(budget, state, loss=math.nan)
    for loss in (2.0, 3.0):
        state = told(budget, state, loss=loss)
    assert (state.best, state.first) == (2.0, 2.0)
    assert state.loss == pytest.approx(2.0 + 0.02)
    for _ in range(500):
        state = told(budget, state, loss=2.0)
    assert state.weight == pytest.approx(budget.cap, rel=1e-3)


def test_loss_of_zero_is_at_its_best_level():
    budget = tap.budget(loss=0.02)
    assert after(budget, 500, loss=0.0).weight == pytest.approx(budget.cap)


def test_evaluations_are_those_of_drift_and_diffusion_and_of_one_solve():
    budget = tap.budget(evaluations=20)
    assert budget.updated(budget.init(), tap.Stats(2, 4, 0, 30, 10), np.float64(1.0)).level == 20


def test_batch_is_as_slow_as_its_slowest_sample():
    budget = tap.budget(steps=4, gain=0.2)
    counts = tap.Stats(1, np.array([3, 7]), np.array([0, 1]), np.array([0, 0]))
    assert budget.updated(budget.init(), counts, np.float64(1.0)).level == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "`budget` was given no target; give one of steps, evaluations, fraction, loss"),
        ({"steps": 3, "loss": 0.1}, "`budget` was given `steps` and `loss`"),
        ({"steps": 0}, "`steps` of `budget` is 0; give a positive, finite number"),
        ({"fraction": 1.5}, "`fraction` of `budget` is 1.5; give a number between 0 and 1"),
        ({"steps": 3, "cap": 1.0}, "`cap` of `budget` is 1.0"),
        ({"steps": 3, "every": math.inf}, "`every` of `budget` is inf"),
        ({"term": 3, "steps": 3}, "`budget` was given 3, which is no term"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        tap.budget(**arguments)


def test_solver_that_shows_no_steps_is_refused():
    budget = tap.budget(steps=4, gain=0.2)
    with pytest.raises(InvalidInputError, match="`budget` counts steps, which the solver does not show"):
        budget.updated(budget.init(), tap.Stats(1, None, None, 30), np.float64(1.0))


@pytest.mark.parametrize("updates", [0, 1])  # the gradients are measured, or not
def test_block_without_a_solve_is_refused(updates):
    budget = tap.budget(steps=4)
    state = budget.init()._replace(updates=np.float64(updates))
    with tap.observe(budget.at(state)) as seen:
        pass
    parameter = torch.ones((), requires_grad=True)
    with pytest.raises(NothingObservedError, match=r"[Nn]o solve"):
        budget.update(state, seen, parameter**2, [parameter])


def weights_of(seed):
    rng = np.random.default_rng(seed)
    return [0.8 * rng.normal(size=(2, 20)), 0.8 * rng.normal(size=(20, 2))]


def inputs(k):
    return np.random.default_rng([7, k]).normal(size=(8, 2))


class Torch:
    """Gradient descent in torch: by the two lines, or unaware of what `regularize` does."""

    def __init__(self, scaled=False):
        self.parameters = [torch.nn.Parameter(torch.tensor(w)) for w in weights_of(0)]
        self.optimiser = torch.optim.SGD(self.parameters, RATE)
        self.scaler = torch.amp.GradScaler("cpu", enabled=scaled, growth_interval=3)

    def loss(self, x):
        first, second = self.parameters
        x = torch.tensor(x)
        y = torchdiffeq.odeint(
            lambda t, y: torch.tanh(y @ first) @ second,
            x,
            torch.tensor([0.0, 1.0], dtype=x.dtype),
            rtol=TOLERANCE,
            atol=TOLERANCE,
            options={"first_step": 0.1},
        )[-1]
        return torch.mean((y - x @ torch.tensor(TURN)) ** 2)

    def step(self, loss):
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()

    def unaware(self, updates):
        for k in range(updates):
            self.step(self.loss(inputs(k)))

    def two_lines(self, budget, updates):
        state = budget.init()
        for k in range(updates):
            with tap.observe(budget.at(state)) as seen:
                loss = self.loss(inputs(k))
            state = budget.update(state, seen, loss, self.parameters)
            self.step(loss + seen.penalty)
        return state

    @property
    def trained(self):
        return [x.detach().numpy() for x in self.parameters]


def solved_in_jax(parameters, x, throw=True):
    first, second = parameters
    y = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: jnp.tanh(y @ first) @ second),
        diffrax.Dopri5(),
        0.0,
        1.0,
        0.1,
        x,
        stepsize_controller=diffrax.PIDController(TOLERANCE, TOLERANCE),
        max_steps=100,
        throw=throw,
    ).ys[-1]
    return jnp.mean((y - x @ TURN) ** 2)


class Jax:
    """Gradient descent in JAX, its step compiled: by both gradients, or unaware of what `regularize` does."""

    def __init__(self):
        self.trained = [jnp.asarray(w) for w in weights_of(0)]
        self.compiled = 0

    def unaware(self, updates, gradient):
        @jax.jit
        def step(parameters, x):
            _, by = gradient(parameters, x)
            return [w - RATE * g for w, g in zip(parameters, by, strict=True)]

        for k in range(updates):
            self.trained = step(self.trained, inputs(k))
        jax.effects_barrier()

    def two_lines(self, budget, updates):
        @jax.jit
        def step(parameters, state, x):
            self.compiled += 1

            def losses(parameters):
                with tap.observe(budget.term) as seen:
                    loss = solved_in_jax(parameters, x)
                return (loss, seen.penalty), seen.stats

            (loss, _), pull, stats = jax.vjp(losses, parameters, has_aux=True)
            (by_loss,), (by_penalty,) = pull((1.0, 0.0)), pull((0.0, 1.0))
            now = state.updates % budget.every == 0
            found = budget.updated(state, stats, loss, by_loss, [jnp.where(now, g, 0) for g in by_penalty])
            gradient = [g + state.weight * p for g, p in zip(by_loss, by_penalty, strict=True)]
            return [w - RATE * g for w, g in zip(parameters, gradient, strict=True)], found

        state = budget.init()
        for k in range(updates):
            self.trained, state = step(self.trained, state, inputs(k))
        return state


def close(ours, theirs, rtol=1e-10):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=1e-12)


BUDGET = tap.budget(steps=3, every=4, cap=0.1)


@pytest.fixture(scope="module")
def by_hand():
    """The parameters and the state of torch's two lines."""
    training = Torch()
    state = training.two_lines(BUDGET, 30)
    assert state.measured == 8
    assert state.weight > 1e-3
    return training.trained, state


def test_weight_is_the_share_of_the_cap_that_the_gradients_leave():
    training, budget = Torch(), tap.budget(steps=3)
    with tap.observe(budget.at(budget.init())) as seen:
        loss = training.loss(inputs(0))
    state = budget.update(budget.init(), seen, loss, training.parameters)
    norms = []
    for value in (loss, seen.values["local_error"]):
        by = torch.autograd.grad(value, training.parameters, retain_graph=True)
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in by)))
    assert state.weight == pytest.approx(budget.cap * math.exp(state.log_share) * norms[0] / norms[1], rel=1e-10)


@pytest.mark.filterwarnings("error")
def test_loss_of_two_lines_may_carry_its_gradient():
    training, budget = Torch(), tap.budget(loss=0.02)
    with tap.observe(budget.at(budget.init())) as seen:
        loss = training.loss(inputs(0))
    assert budget.update(budget.init(), seen, loss, training.parameters).level == loss.item()


@pytest.mark.parametrize("scaled", [False, True])
def test_regularize_trains_as_the_two_lines_do(by_hand, scaled):
    training = Torch(scaled)
    with tap.regularize(BUDGET) as regularizer:
        training.unaware(30)
    close(training.trained, by_hand[0])
    close(regularizer.budget_state, by_hand[1], rtol=1e-7)
    assert regularizer.backward_passes == {"carried": 30, "left": 0}


@pytest.fixture(scope="module")
def by_both_gradients():
    """The parameters and the state of a step of JAX that takes both gradients."""
    training = Jax()
    state = training.two_lines(BUDGET, 12)
    assert training.compiled == 1
    return training.trained, state


def test_state_is_found_alike_in_torch_and_in_jax(by_hand, by_both_gradients):
    # torchdiffeq passes the last time and diffrax cuts its last step: the steps are as many, the errors are not.
    training = Torch()
    in_torch = training.two_lines(BUDGET, 12)
    in_jax = by_both_gradients[1]
    assert in_torch.measured == in_jax.measured == 3
    close([in_jax.level, in_jax.excess, in_jax.log_share], [in_torch.level, in_torch.excess, in_torch.log_share])
    assert in_jax.weight == pytest.approx(float(in_torch.weight), rel=0.5)


@pytest.mark.parametrize("way", ["jitted loss", "mapped"])
def test_regularize_trains_in_jax_as_both_gradients_do(by_both_gradients, way):
    def mapped(parameters, x):
        return jnp.mean(jax.vmap(solved_in_jax, (None, 0))(parameters, x[None]))

    loss = {"jitted loss": jax.jit(solved_in_jax), "mapped": mapped}[way]
    gradient = jax.value_and_grad(loss)
    training = Jax()
    with tap.regularize(BUDGET) as regularizer:
        training.unaware(12, gradient)
    close(training.trained, by_both_gradients[0])
    close(regularizer.budget_state, by_both_gradients[1], rtol=1e-7)
    assert regularizer.backward_passes["carried"] == 12
    assert regularizer.k == 11  # of which nobody knows before the next pass begins


def test_saved_program_of_jax_asks_nothing_of_the_host():
    # The error check of diffrax is a host callback, which JAX does not save.
    gradient, arguments = (
        jax.jit(jax.grad(partial(solved_in_jax, throw=False))),
        (Jax().trained, jnp.asarray(inputs(0))),
    )
    bare = gradient(*arguments)
    jax.clear_caches()
    with tap.regularize(BUDGET):
        program = export.export(gradient)(*arguments)
    close(program.call(*arguments), bare)


def test_gradient_inside_a_field_is_no_loss():
    """A Hamiltonian field is a gradient itself, and of no loss."""
    told = []

    def loss(parameters, x):
        def energy(y):
            return jnp.sum(jnp.tanh(y @ parameters[0])) + jnp.sum(y**2)

        turned = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        field = diffrax.ODETerm(lambda t, y, _: jax.vmap(jax.grad(energy))(y) @ turned)
        controller = diffrax.PIDController(TOLERANCE, TOLERANCE)
        y = diffrax.diffeqsolve(field, diffrax.Tsit5(), 0.0, 1.0, 0.1, x, stepsize_controller=controller).ys[-1]
        return jnp.mean((y - x @ TURN) ** 2)

    budget = tap.budget(loss=0.1)
    with tap.regularize(budget) as regularizer:
        value, _ = jax.jit(jax.value_and_grad(loss))(Jax().trained, jnp.asarray(inputs(0)))
        jax.effects_barrier()
        told.append(float(regularizer.budget_state.level))
    assert told == [pytest.approx(float(value), rel=1e-12)]


@pytest.mark.parametrize("steps", [1, 100])
def test_budget_that_cannot_be_met_or_is_met_already_does_the_loss_no_harm(steps):
    plain, budgeted = Torch(), Torch()
    for training in (plain, budgeted):
        training.optimiser = torch.optim.Adam(training.parameters, 1e-2)
    plain.unaware(100)
    with tap.regularize(tap.budget(steps=steps)) as regularizer:
        budgeted.unaware(100)
    state = regularizer.budget_state
    assert (state.log_share == 0) if steps == 1 else (state.weight < 1e-3)
    losses = [training.loss(inputs(1000)).item() for training in (plain, budgeted)]
    assert losses[1] < 1.05 * losses[0]


def test_pass_of_another_optimiser_or_of_no_loss_tells_nothing():
    training = Torch()
    with tap.regularize(BUDGET) as regularizer:
        training.loss(inputs(0))  # evaluated, and thrown away
        y = torch.tensor([1.0, 2.0], requires_grad=True)
        torch.autograd.backward((y**2).sum())
        (y**2).backward(torch.ones(2))
    assert regularizer.budget_state == BUDGET.init()


@fault(
    "a `budget` measures the penalty of a solve that begins where another one has ended",
    "the first one's own penalty is neither carried nor counted meanwhile",
)
@pytest.mark.parametrize("passes", ["training", "all"])
def test_chained_solves_are_measured_as_one_penalty(passes):
    training = Torch()
    first, second = training.parameters
    x, times = torch.tensor(inputs(0)), torch.tensor([0.0, 1.0], dtype=torch.float64)

    def solved():
        y = x
        for _ in range(2):
            y = torchdiffeq.odeint(lambda t, y: torch.tanh(y @ first) @ second, y, times, rtol=1e-4, atol=1e-4)[-1]
        return torch.mean(y**2)

    with tap.observe(tap.LocalError()) as seen:
        loss = solved()
    by_loss, by_penalty = (torch.autograd.grad(z, [first, second], retain_graph=True) for z in (loss, seen.penalty))
    norms = [math.sqrt(sum(float(g.square().sum()) for g in by)) for by in (by_loss, by_penalty)]
    with tap.regularize(tap.budget(steps=2), passes=passes) as regularizer:
        training.step(solved())
    assert regularizer.backward_passes == {"carried": 2, "left": 0}
    assert math.exp(regularizer.budget_state.log_scale) == pytest.approx(norms[1] / norms[0], rel=1e-6)


def test_field_whose_penalty_cannot_be_differentiated_alone_trains_as_it_did():
    def trained(training):
        first, second = training.parameters

        def field(t, y):
            return torch.tanh(y @ first) @ second

        def checkpointed(t, y):  # a reentrant one knows no `torch.autograd.grad`
            return torch.utils.checkpoint.checkpoint(field, t, y, use_reentrant=True)

        x = torch.nn.Parameter(torch.tensor(inputs(0)))
        training.optimiser.add_param_group({"params": [x]})
        for _ in range(3):
            y = torchdiffeq.odeint(checkpointed, x, torch.tensor([0.0, 1.0], dtype=x.dtype), rtol=1e-4, atol=1e-4)[-1]
            training.step(torch.mean((y - x.detach() @ torch.tensor(TURN)) ** 2))
        return training.trained

    plain = trained(Torch())
    with tap.regularize(BUDGET) as regularizer:
        budgeted = trained(Torch())
    close(budgeted, plain, rtol=1e-4)
    (reason,) = regularizer.left_out
    assert reason.startswith("The gradient of the penalty alone cannot be taken there")
    assert regularizer.budget_state.measured == 0


def test_every_update_is_told_to_plugins():
    class Heard:
        def __init__(self):
            self.states = []

        @tap.hookimpl
        def solvertap_budget_updated(self, state):
            self.states.append(state)

    heard = Heard()
    tap.register(heard)
    try:
        training = Torch()
        training.two_lines(BUDGET, 2)
        with tap.regularize(BUDGET):
            training.unaware(2)
    finally:
        from solvertap.plugins.registry import plugins

        plugins().unregister(heard)
    assert [state.updates for state in heard.states] == [1, 2] * 2
    assert all(isinstance(state, BudgetState) for state in heard.states)


SCRIPT = """
import torch
from torchdiffeq import odeint

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 20), torch.nn.Tanh(), torch.nn.Linear(20, 2))
optimiser = torch.optim.Adam(net.parameters(), 1e-2)
for k in range(20):
    x = torch.randn(16, 2)
    y = odeint(lambda t, y: net(y), x, torch.tensor([0.0, 1.0]), rtol=1e-5, atol=1e-5)[-1]
    loss = ((y + x) ** 2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
"""


def run(path, *options):
    path.write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "solvertap", "run", *options, str(path)], capture_output=True, text=True, check=False
    )


def test_run_takes_a_budget_and_says_what_became_of_it(tmp_path):
    ended = run(tmp_path / "train.py", "--budget", "2")
    assert ended.returncode == 0, ended.stderr
    said = " ".join(ended.stderr.split())
    assert "its gradient was added in 20 backward passes" in said
    assert "Budget: at most 2 steps a solve;" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "few"], "`--budget` is 'few'. Give the most steps of a solve"),
        (["--budget", "5", "--anneal", "1:0.1:10"], "`--budget` finds the weight, and `--anneal` was given as well"),
        (["--budget", "5", "--term", "10:1:5*local_error"], "`--budget` finds the weight, and `--term`"),
    ],
)
def test_run_refuses_a_budget_that_it_cannot_read(tmp_path, options, said):
    ended = run(tmp_path / "train.py", *options)
    assert ended.returncode != 0
    assert said in " ".join(ended.stderr.split())
