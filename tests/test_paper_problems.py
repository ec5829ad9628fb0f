"""The problems of the papers, and the solvers by which each backend solves them."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")

from solvertap_lab.problems.cnf import Cnf, velocity_and_trace
from solvertap_lab.problems.mnist import Mnist, MnistPal23
from solvertap_lab.problems.mnist_sde import MnistSDE
from solvertap_lab.problems.problem import FIRST_STEP
from solvertap_lab.problems.spiral import Spiral, SpiralSDE
from solvertap_lab.training.backends import BACKENDS
from solvertap_lab.training.solvers import ODES, SDES
from solvertap_lab.training.torchdiffeq_solve import torchdiffeq_solve
from solvertap_lab.training.trainer import Setting


def _setting(problem, tolerance, solver=None):
    return Setting(problem, (), tolerance, align=False, precision=64, seed=0, solver=solver)


def _flow():
    """Points, a time and weights of a flow that bends them."""
    rng = np.random.default_rng(0)
    weights = {name: value + rng.normal(0, 0.3, value.shape) for name, value in Cnf().parameters(rng).items()}
    return rng.normal(0, 2, (7, 2)), 0.3, weights


def test_trace_of_the_flow_is_that_of_its_jacobian():
    points, t, weights = _flow()
    parameters = {name: torch.tensor(value) for name, value in weights.items()}
    x, time = torch.tensor(points), torch.tensor(t, dtype=torch.float64)
    _, trace = velocity_and_trace(parameters, time, x)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: velocity_and_trace(parameters, time, z[None])[0][0]))(x)
    expected = torch.einsum("bii->b", jacobian)
    assert expected.abs().min() > 1e-3
    assert torch.allclose(trace, expected, rtol=1e-12, atol=1e-14)


def test_flow_is_the_same_in_jax_and_its_sigmoid_overflows_nowhere():
    jnp = pytest.importorskip("jax.numpy")
    points, t, weights = _flow()
    ours = velocity_and_trace({name: torch.tensor(x) for name, x in weights.items()}, t, torch.tensor(points))
    theirs = velocity_and_trace({name: jnp.asarray(x) for name, x in weights.items()}, t, jnp.asarray(points))
    # JAX computes in the precision that another test has chosen.
    assert all(np.allclose(a.numpy(), b, rtol=1e-4, atol=1e-4) for a, b in zip(ours, theirs, strict=True))
    far = torch.full((1, 2), 1e6, dtype=torch.float64, requires_grad=True)
    slope, trace = velocity_and_trace({name: torch.tensor(x) for name, x in weights.items()}, t, far)
    (gradient,) = torch.autograd.grad(slope.sum() + trace.sum(), far)
    assert torch.isfinite(gradient).all()


def test_density_of_the_flow_integrates_to_one():
    _, _, weights = _flow()
    problem, side = Cnf(), np.linspace(-12, 12, 97)
    batch = {"x": torch.tensor(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2))}
    parameters = {name: torch.tensor(value) for name, value in weights.items()}
    y0 = problem.initial_state(parameters, batch, None)
    states = torchdiffeq_solve(_setting(problem, 1e-6), parameters, y0)
    moved = (states[-1, :, :2] - batch["x"]).abs().max()
    assert moved > 1
    total = problem.log_density(states).exp().sum() * (side[1] - side[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)
    assert problem.loss(parameters, states, batch, None) == -problem.log_density(states).mean()


def test_points_of_each_split_are_others_and_lie_about_eight_centres():
    problem = Cnf()
    (train,) = problem.batches(np.random.default_rng(0), 5000)
    splits = [train["x"], problem.validation_batch()["x"], problem.test_batch()["x"]]
    assert len(np.unique(np.concatenate(splits), axis=0)) == sum(map(len, splits))
    for points in splits:
        angle = np.round(np.arctan2(points[:, 1], points[:, 0]) / (np.pi / 4)) % 8
        for centre in range(8):
            around = points[angle == centre]
            expected = 2.8 * np.array([np.cos(centre * np.pi / 4), np.sin(centre * np.pi / 4)])
            assert np.abs(around.mean(axis=0) - expected).max() < 0.1
            assert np.hypot(*(around - expected).T).mean() == pytest.approx(0.35 * np.sqrt(np.pi / 2), abs=0.06)


def test_prediction_of_the_mnist_sde_is_by_the_mean_logits_of_its_paths():
    problem, rng = MnistSDE(), np.random.default_rng(0)
    parameters = {name: torch.tensor(value) for name, value in problem.parameters(rng).items()}
    images = rng.uniform(size=(5, 784))
    y0 = problem.initial_state(parameters, {"images": torch.tensor(images)}, None)
    assert y0.shape == (5, 32)
    states = torch.tensor(rng.normal(size=(3, 2, 5, 32)))
    logits = problem.logits(parameters, states)
    each = [problem.logits(parameters, path[None]) for path in states]
    assert logits.shape == (5, 10)
    assert torch.allclose(logits, sum(each) / 3)
    labels = np.eye(10)[each[0].argmax(1)]
    agreed = (logits.argmax(1) == each[0].argmax(1)).double().mean()
    assert problem.score(parameters, states, {"labels": torch.tensor(labels)}, None) == 100 * agreed
    assert agreed < 1


def test_pal23s_slope_is_pal21s_without_its_last_tanh():
    weights = {name: torch.tensor(value) for name, value in Mnist().parameters(np.random.default_rng(0)).items()}
    y = torch.tensor(np.random.default_rng(1).normal(size=(4, 784)))
    assert torch.equal(MnistPal23().field(weights, 0.3, y).tanh(), Mnist().field(weights, 0.3, y))


@pytest.mark.parametrize("problem", [Cnf(), MnistPal23(), MnistSDE()], ids=lambda problem: problem.name)
def test_problem_takes_a_step_in_torch_and_is_traced_in_jax(problem, monkeypatch):
    rng = np.random.default_rng(0)
    digits = rng.uniform(size=(4, 784)), np.eye(10)[:4]
    monkeypatch.setattr(problem, "_splits", (digits, digits, digits), raising=False)
    batch = next(iter(problem.batches(rng, 4)))
    setting, weights = _setting(problem, 1e-1), problem.parameters(rng)
    backend = "torchsde" if problem.stochastic else "torchdiffeq"
    pytest.importorskip(backend)
    trainer = BACKENDS[backend].make(setting, weights)
    assert np.isfinite(trainer.step(batch, ())[0])
    moved = [np.abs(trainer.parameters[name].detach().numpy() - value).max() for name, value in weights.items()]
    assert min(moved) > 1e-6  # every weight has a gradient
    jax = pytest.importorskip("jax")
    pytest.importorskip("diffrax")
    traced = BACKENDS["diffrax"].make(setting, weights)
    given = traced._batch(batch)
    task = jax.eval_shape(
        traced._update, traced.parameters, traced.optimiser_state, given, (), traced.key, traced.budget_state
    )[2]
    score = jax.eval_shape(partial(traced._solved, trace=False), traced.parameters, given, traced.key)[0]
    assert task.shape == score.shape == ()


Y0 = {"y0": np.tile([2.0, 0.5], (8, 1))}


def _steps(problem, backend, tolerance=1e-3, solver=None):
    """The steps of one solve."""
    setting = _setting(problem, tolerance, solver)
    trainer = BACKENDS[backend].make(setting, problem.parameters(np.random.default_rng(0)))
    return trainer.trace(Y0)["h"].tolist()


@pytest.mark.parametrize("backend", ["torchdiffeq", "torchode", "torchdyn", "torchsde"])
def test_every_solver_of_the_command_line_solves_and_is_another(backend):
    pytest.importorskip(backend)
    problem = SpiralSDE() if backend == "torchsde" else Spiral()
    names = (SDES if problem.stochastic else ODES)[backend]
    tolerance = 1e-3 if problem.stochastic else 1e-6
    steps = {name: tuple(_steps(problem, backend, tolerance, name)) for name in (None, *names)}
    assert steps[None] == steps[names[0]]
    assert len(set(steps.values())) == len(names)


def test_every_solver_of_diffrax_is_traced_and_has_its_name():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    from solvertap_lab.training import diffrax_solve

    for problem, names in ((Spiral(), ODES["diffrax"]), (SpiralSDE(), SDES["diffrax"])):
        problem.score = lambda parameters, states, batch, key: states.sum()
        for name in (None, *names):  # traced alone: they take long to compile
            setting = _setting(problem, 1e-2, name)
            trainer = BACKENDS["diffrax"].make(setting, problem.parameters(np.random.default_rng(0)))
            solved = partial(trainer._solved, trainer.parameters, trainer._batch(Y0), trace=False)
            assert jax.eval_shape(solved, trainer.key)[0].shape == ()
    classes = {"dopri5": "Dopri5", "tsit5": "Tsit5", "bosh3": "Bosh3", "dopri8": "Dopri8"}
    assert {name: solver.__name__ for name, solver in diffrax_solve._ODES.items()} == classes
    halves = {name: solver for name, (solver, _) in diffrax_solve._SDES.items() if name.startswith("half-")}
    assert halves == {
        "half-heun": diffrax.HalfSolver(diffrax.Heun()),
        "half-midpoint": diffrax.HalfSolver(diffrax.Midpoint()),
    }
    assert tuple(diffrax_solve._SDES) == SDES["diffrax"]


def test_sde_that_names_no_first_step_has_one_and_an_ode_leaves_it_to_the_solver():
    class Mine(Spiral):
        stochastic = True

    assert (Mine.first_step, SpiralSDE.first_step, Spiral.first_step) == (FIRST_STEP, FIRST_STEP, None)


@pytest.mark.parametrize("first_step", [None, 0.02, 0.1])
def test_first_step_of_an_sde_is_the_one_given(first_step):
    pytest.importorskip("torchsde")
    problem = SpiralSDE()
    if first_step is not None:
        problem.first_step = first_step
    assert _steps(problem, "torchsde", 1.0)[0] == pytest.approx(first_step or FIRST_STEP)
