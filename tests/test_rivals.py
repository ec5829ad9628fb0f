"""What other papers train with, against closed forms, other derivatives and replayed steps."""

import itertools
from datetime import date, timedelta
from functools import partial

import numpy as np
import pytest

pytest.importorskip("diffrax")
pytest.importorskip("optax")
pytest.importorskip("rich")

import jax
import jax.numpy as jnp
from rich.console import Console

import solvertap as tap
from solvertap import errors
from solvertap_lab.problems.mnist import Mnist
from solvertap_lab.problems.optimiser import Optimiser
from solvertap_lab.problems.problem import Problem
from solvertap_lab.problems.spiral import Spiral, SpiralSDE
from solvertap_lab.results.report import Report
from solvertap_lab.training import methods, rivals
from solvertap_lab.training.backends import BACKENDS, choose_backends
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.diffrax_solve import diffrax_solve
from solvertap_lab.training.jax_trainer import JaxTrainer
from solvertap_lab.training.methods import choose_method
from solvertap_lab.training.run import Run
from solvertap_lab.training.trainer import Setting

KEY = jax.random.key(0)
Y0 = jnp.array([[1.0, -0.5, 2.0], [0.3, 0.7, -1.0]])
A, B = np.array([-1.0, 0.8, 1.5]), 0.6
PARAMETERS = {"a": jnp.asarray(A), "b": jnp.asarray(B)}
# The integrals are of fifth order on steps chosen for y at 1e-8.
INTEGRATED = 1e-7


class Linear(Problem):
    """y' = a y + b t, whose Jacobian is diagonal and whose solution c exp(a t) - b t / a - b / a^2 is known."""

    name = "linear"
    metric = "mean square"
    times = (0.0, 1.0)
    tolerance = 1e-8
    epochs, batch_size, precision = 1, 2, 64
    optimiser = Optimiser("momentum", 1e-3)

    def parameters(self, rng):
        return {"a": A, "b": np.asarray(B)}

    def batches(self, rng, size):
        yield self.test_batch()

    def test_batch(self):
        return {"y0": np.asarray(Y0)}

    def initial_state(self, parameters, batch, key):
        return batch["y0"]

    def field(self, parameters, t, y):
        return parameters["a"] * y + parameters["b"] * t

    def loss(self, parameters, states, batch, key):
        return (states[-1] ** 2).mean()

    score = loss


class Lively(Linear):
    """A forcing that sets in suddenly: some steps are rejected."""

    times = (0.0, 0.4, 1.0)
    tolerance = 1e-5

    def field(self, parameters, t, y):
        return 4 * jnp.sin(parameters["a"] * y) + 20 * jnp.maximum(t - 0.5, 0) - y


def _setting(rival=None, problem=None):
    problem = problem or Linear()
    return Setting(problem, (), problem.tolerance, align=False, precision=64, seed=0, rival=rival)


def _values(rival, problem=None, parameters=PARAMETERS, y0=Y0, key=KEY):
    return rivals.rival_solve(_setting(rival, problem), parameters, y0, key)[1]


@pytest.mark.parametrize("order", [2, 3])
def test_taynode_integrates_the_squared_derivative_of_the_solution(order):
    (value,) = _values(f"taynode-{order}")
    c = Y0 + B / A**2
    exact = np.mean(A ** (2 * order) * c**2 * (np.exp(2 * A) - 1) / (2 * A))
    assert float(value) == pytest.approx(float(exact), rel=INTEGRATED)


@pytest.mark.parametrize("problem", [Spiral(), Mnist()], ids=lambda problem: problem.name)
def test_derivatives_are_those_of_differentiating_along_the_solution_again_and_again(problem):
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(jnp.asarray, problem.parameters(rng))
    field, t, y = partial(problem.field, parameters), jnp.asarray(0.3), jnp.asarray(rng.normal(size=(2, 784)))
    y = y[:, : 2 if problem.name == "spiral" else 784]

    def along(g):
        return lambda t, y: jax.jvp(g, (t, y), (jnp.ones(()), field(t, y)))[1]

    once = along(field)
    found = jax.jit(lambda t, y: rivals.derivatives(field, t, y, 3))(t, y)
    expected = jax.jit(lambda t, y: [g(t, y) for g in (field, once, along(once))])(t, y)
    assert len(found) == 3
    for ours, theirs in zip(found, expected, strict=True):
        assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def _exact_rnode(a):
    """The kinetic energy and the squared norm of the Jacobian of `Linear`, each a mean over the elements."""
    c = Y0 + B / a**2
    kinetic = a**2 * c**2 * (jnp.exp(2 * a) - 1) / (2 * a) - 2 * B * c * (jnp.exp(a) - 1) / a + (B / a) ** 2
    return jnp.mean(kinetic), jnp.mean(a**2)


def test_rnode_is_the_kinetic_energy_and_of_a_diagonal_jacobian_the_exact_norm():
    assert np.allclose(_values("rnode"), _exact_rnode(A), rtol=INTEGRATED)


def test_jacobian_term_draws_one_sign_vector_a_solve_whose_mean_is_the_frobenius_norm():
    class Turning(Linear):
        def field(self, parameters, t, y):
            return y @ parameters["matrix"].T

    matrix, signs = np.array([[0.2, -1.0], [0.5, 0.7]]), np.array([*itertools.product([-1, 1], repeat=2)])
    keys = jax.random.split(KEY, 64)
    solve = partial(_values, "rnode", Turning(), {"matrix": jnp.asarray(matrix)}, Y0[:1, :2])
    found = jax.jit(jax.vmap(lambda key: solve(key=key)[1]))(keys)
    possible = np.unique(np.mean((signs @ matrix) ** 2, axis=1).round(12))
    assert np.array_equal(np.unique(found.round(7)), possible.round(7))
    # Each as likely, so that this is the expectation.
    assert np.mean(possible) == pytest.approx(np.mean(np.sum(matrix**2, axis=0)))


@pytest.fixture(scope="module")
def plain():
    """The states and the counts of the plain training solve."""
    with tap.observe() as seen:
        states = diffrax_solve(_setting(None, Lively()), PARAMETERS, Y0, KEY)
    assert seen.stats.rejected > 0
    return states, seen.stats


def test_what_rides_along_moves_no_step_and_is_counted_in_none(plain):
    states, stats = plain
    with tap.observe() as seen:
        found, _ = rivals.rival_solve(_setting("taynode-3", Lively()), PARAMETERS, Y0, KEY)
    assert seen.stats == stats
    assert np.allclose(found, states, rtol=1e-12, atol=1e-12)


def test_steer_draws_every_time_but_the_first_within_half_a_gap():
    keys = jax.random.split(KEY, 1000)
    ends = jax.vmap(partial(rivals.steered, jnp.array([0.0, 1.0])))(keys)
    assert (ends[:, 0] == 0).all()
    assert 0.5 <= ends[:, 1].min() < 0.51
    assert 1.49 < ends[:, 1].max() <= 1.5
    several = jax.vmap(partial(rivals.steered, jnp.asarray(Spiral.times)))(keys)
    assert (jnp.diff(several) > 0).all()
    assert (abs(several - jnp.asarray(Spiral.times)) <= 0.5 / 29 + 1e-12).all()


@pytest.mark.slow
def test_steer_changes_every_training_solve_without_compiling_and_no_prediction():
    calls = []

    class Still(Linear):
        optimiser = Optimiser("momentum", 0.0)

        def field(self, parameters, t, y):
            calls.append(t)
            return super().field(parameters, t, y)

    problem = Still()
    steered, plain = (JaxTrainer(_setting(rival, problem), problem.parameters(None)) for rival in ("steer", None))
    batch = problem.test_batch()
    steered.prepare(batch, ())
    traced = len(calls)
    assert traced > 0
    losses = [steered.step(batch, ())[0] for _ in range(3)]
    assert len(calls) == traced
    assert len(set(losses)) == 3
    assert steered.predict(batch) == plain.predict(batch)


@pytest.mark.slow
def test_training_follows_the_gradient_of_the_weighted_values():
    problem = Linear()
    batch, weights, moved = problem.test_batch(), (0.5, 1.5), {}
    trainer = JaxTrainer(_setting("rnode"), problem.parameters(None))
    start = trainer.parameters, trainer.optimiser_state, trainer.key
    trainer.prepare(batch, weights)
    for scale in (0.0, 1.0):
        trainer.parameters, trainer.optimiser_state, trainer.key = start
        trainer.step(batch, tuple(scale * w for w in weights))
        moved[scale] = trainer.parameters["a"]
    gradient = jax.grad(lambda a: sum(w * value for w, value in zip(weights, _exact_rnode(a), strict=True)))(A)
    assert (abs(gradient) > 1e-9).all()
    assert np.allclose(moved[0.0] - moved[1.0], problem.optimiser.rate * gradient, rtol=10 * INTEGRATED)


def test_every_rival_has_a_solve_and_weights():
    assert rivals.RIVALS.keys() == methods.RIVALS.keys()


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("taynode-3", (3.02e-3,), (3.02e-3,)),
        ("taynode-3=0.5", (0.5,), (0.5,)),
        ("rnode=4:1", (4, 4), (1, 1)),
        ("local-biased", (2.5,), (1.0,)),
        ("local-error=5:1", (5,), (1,)),
        ("local-error + 0.1*stiffness=5", (5, 0.5), (5, 0.5)),
        ("kinetic_energy=3:2", (3,), (2,)),
    ],
)
def test_weight_is_the_one_typed_with_the_method(text, first, last):
    method = choose_method(text, Mnist())
    assert method.name == text
    assert method.weights(0, 10) == pytest.approx(first)
    assert method.weights(10, 10) == pytest.approx(last)


@pytest.mark.parametrize(
    ("text", "problem", "words"),
    [
        ("rnode", SpiralSDE(), ["`--method rnode`", "'spiral-sde'", "vanilla, budget=STEPS, local-error, stiffness"]),
        ("steer=0.3", Spiral(), ["`--method steer=0.3`", "leave '0.3' out"]),
        ("vanilla=1", Spiral(), ["`--method vanilla=1`", "leave '1' out"]),
        ("taynode-3=ten", Spiral(), ["'ten'", "`taynode-3=ten`", "1:0.1"]),
        ("local-error=", Spiral(), ["''", "`local-error=`", "1:0.1"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(text, problem, words):
    with pytest.raises(errors.InvalidInputError) as refusal:
        choose_method(text, problem)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def test_rival_is_refused_in_a_named_backend_that_lacks_it_and_left_out_of_one_not_named(monkeypatch):
    pytest.importorskip("torchdiffeq")
    problem = Spiral()
    chosen = [choose_method(text, problem) for text in ("vanilla", "rnode=0.1")]
    for named in (["torchdiffeq"], ["diffrax", "torchdiffeq"]):
        with pytest.raises(errors.InvalidInputError, match=r"rnode=0\.1.*'torchdiffeq'.*`--backend diffrax`"):
            choose_backends(named, problem, chosen)
    backends = choose_backends([], problem, chosen)
    comparison = Comparison(problem, backends, chosen, [1, 2], 1, 32, 1e-3, align=False, precision=64)
    trained = [(b.name, m.name) for b, m, _ in comparison.runs()]
    assert trained == [("torchdiffeq", "vanilla")] * 2 + [("diffrax", "vanilla"), ("diffrax", "rnode=0.1")] * 2
    measured = {"evaluations": 1, "train_seconds": 1, "step_milliseconds": 5, "predict_milliseconds": 1}
    report = Report(comparison, [Run(*pair, 1, **measured) for pair in trained])
    headings, *rows = report.rows()
    assert [row[:2] for row in rows] == [list(pair) for pair in dict.fromkeys(trained)]
    assert rows[-1][headings.index("step ms")] == "5.0 (1.00)"
    with (console := Console(width=60)).capture() as printed:
        console.print(report.table())
    assert "…" not in printed.get()
    monkeypatch.setattr(type(BACKENDS["diffrax"]), "is_installed", lambda backend: backend.name != "diffrax")
    with pytest.raises(errors.MissingExtraError, match=r"'rnode=0\.1'.*pip install 'solvertap\[diffrax\]'"):
        choose_backends([], problem, chosen)


@pytest.mark.slow
def test_run_is_trained_and_knows_its_day_and_the_time_of_its_median_step():
    method = choose_method("local-biased=0.01", Linear())
    comparison = Comparison(Linear(), [BACKENDS["diffrax"]], [method], [1], 9, 2, 1e-8, align=False, precision=64)
    (run,) = itertools.starmap(comparison.train, comparison.runs())
    assert run.failure is None
    assert run.losses[-1] < run.losses[0]
    assert 0 < run.step_milliseconds < 1000 * run.train_seconds
    assert date.today() - date.fromisoformat(run.day) < timedelta(days=2)  # a midnight may have passed
