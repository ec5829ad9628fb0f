"""A run that was cut short goes on from its last epoch, and ends as if it had not been."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")

from solvertap import errors
from solvertap_lab.problems.optimiser import Optimiser
from solvertap_lab.problems.problem import Problem
from solvertap_lab.results.checkpoint import CheckpointFile
from solvertap_lab.training.backends import BACKENDS
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.methods import choose_method
from solvertap_lab.training.run import Run, Standing
from solvertap_lab.training.trainer import Setting
from tests.faults import fault


class Tiny(Problem):
    """Batches are drawn by NumPy, the initial state by the framework's key."""

    name = "tiny"
    summary = metric = "tiny"
    times = (0.0, 1.0)
    tolerance = 1e-2
    precision = 64
    optimiser = Optimiser("adam", 0.1, decay=0.1)
    averaged = 0.75

    def parameters(self, rng):
        return {"rate": np.array([-1.0, -2.0]), "noise": np.array(0.3)}

    def batches(self, rng, size):
        for _ in range(2):
            yield {"y0": rng.normal(size=(3, 2))}

    def test_batch(self):
        return {"y0": np.ones((3, 2))}

    def initial_state(self, parameters, batch, key):
        return batch["y0"] + key.normal((3, 2))

    def field(self, parameters, t, y):
        return parameters["rate"] * y

    def loss(self, parameters, states, batch, key):
        return ((states[-1] - 2 * batch["y0"]) ** 2).mean()

    score = loss


class TinySDE(Tiny):
    stochastic = True

    def diffusion(self, parameters, t, y):
        return parameters["noise"] * y


def _comparison(problem, backend, epochs=4, tolerance=1e-2):
    method = choose_method("local-error=1:0.1", problem)
    return Comparison(problem, [BACKENDS[backend]], [method], [1], epochs, 3, tolerance, align=False, precision=64)


def _checkpoint(folder, comparison, *, resume):
    ((backend, method, seed),) = comparison.runs()
    run = Run(backend.name, method.name, seed, method.penalty())
    return CheckpointFile.of(folder, comparison, run, resume=resume)


def _interrupt_after(epochs):
    def on_epoch(epoch, evaluations):
        if epoch == epochs:
            raise KeyboardInterrupt

    return on_epoch


@pytest.mark.parametrize("kind", ["adam", "momentum"])
@pytest.mark.parametrize("backend", ["torchdiffeq", "torchsde"])
def test_interrupted_run_ends_bitwise_as_one_that_was_not(tmp_path, backend, kind):
    pytest.importorskip(backend)
    problem = TinySDE() if backend == "torchsde" else Tiny()
    problem.optimiser = Optimiser(kind, 0.1, decay=0.1)
    comparison = _comparison(problem, backend)
    (combination,) = comparison.runs()
    whole = comparison.train(*combination)
    with pytest.raises(KeyboardInterrupt):
        comparison.train(*combination, _interrupt_after(2), _checkpoint(tmp_path, comparison, resume=False))
    (path,) = tmp_path.iterdir()
    epochs = []
    resumed = comparison.train(
        *combination, lambda epoch, _: epochs.append(epoch), _checkpoint(tmp_path, comparison, resume=True)
    )
    assert epochs == [3, 4]
    assert len(set(whole.losses)) == 8
    assert resumed.losses == whole.losses
    assert (resumed.metric, resumed.trace) == (whole.metric, whole.trace)
    assert not path.exists()


@fault(
    "a run is gone on with on another day",
    "both days stand with it: its time of training is compared with none, that of a prediction by the day of that",
)
def test_days_of_a_run_are_those_on_which_it_was_trained_and_timed(tmp_path, monkeypatch):
    comparison = _comparison(Tiny(), "torchdiffeq")
    (combination,) = comparison.runs()

    def train(day, on_epoch=None):
        monkeypatch.setattr("time.strftime", lambda _: day)
        return comparison.train(*combination, on_epoch, _checkpoint(tmp_path, comparison, resume=True))

    for day, epochs in (("2026-11-29", 1), ("2026-11-29", 2), ("2026-11-30", 4)):
        with pytest.raises(KeyboardInterrupt):
            train(day, _interrupt_after(epochs))
    run = train("2026-12-01")  # no epoch is left
    assert (run.day, run.timed) == ("2026-11-29, 2026-11-30", "2026-12-01")
    assert (train("2026-12-02").day, train("2026-12-02").timed) == ("2026-12-02", "2026-12-02")


def test_trainer_of_jax_goes_on_bitwise_from_a_file(tmp_path):
    jax = pytest.importorskip("jax")
    pytest.importorskip("diffrax")
    problem = Tiny()
    comparison = _comparison(problem, "diffrax")
    ((backend, method, seed),) = comparison.runs()
    setting = Setting(problem, (), 1e-2, align=False, precision=64, seed=seed)
    rng = np.random.default_rng(0)
    batches = [batch for _ in range(2) for batch in problem.batches(rng, 3)]
    trainer, other = (backend.make(setting, problem.parameters(rng)) for _ in range(2))
    trainer.prepare(batches[0], ())
    other._step = trainer._step  # compiled once
    losses = [trainer.step(batch, ())[0] for batch in batches[:2]]
    checkpoint = _checkpoint(tmp_path, comparison, resume=True)
    assert checkpoint.read() is None
    run = Run("diffrax", method.name, 1, losses=[*losses, float("nan")])
    checkpoint.write(Standing(run, [0.5], rng.bit_generator.state, trainer.state(), trainer.weights()))
    standing = checkpoint.read()
    assert {name: value.tolist() for name, value in standing.averaged.items()} == {
        name: value.tolist() for name, value in trainer.weights().items()
    }
    assert standing.run.losses[:2] == losses
    assert standing.drawing == rng.bit_generator.state
    other.restore(standing.trainer)
    for batch in batches[2:]:
        assert other.step(batch, ())[0] == trainer.step(batch, ())[0]
    leaves, others = (jax.tree.leaves((t.parameters, t.optimiser_state)) for t in (trainer, other))
    assert len(leaves) > 5
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(leaves, others, strict=True))


@pytest.mark.parametrize("backend", ["torchdiffeq", "diffrax"])
def test_prediction_is_that_of_the_mean_of_the_last_weights(backend):
    pytest.importorskip(backend)
    problem = Tiny()
    problem.averaged = 0.5
    comparison = _comparison(problem, backend)
    made, after = [], []

    def make(setting, parameters):
        made.append(BACKENDS[backend].make(setting, parameters))
        return made[0]

    run = comparison.train(
        replace(BACKENDS[backend], make=make),
        comparison.methods[0],
        1,
        lambda epoch, _: after.append(made[0].weights()),
    )
    assert run.failure is None
    mean = {name: (after[2][name] + after[3][name]) / 2 for name in after[3]}
    assert not np.allclose(mean["rate"], after[3]["rate"])
    used = made[0].weights()
    assert all(np.allclose(used[name], mean[name], rtol=1e-14) for name in mean)
    made[0].use(after[3])
    assert made[0].predict(problem.test_batch())[0] != run.metric
    made[0].use(mean)
    assert made[0].predict(problem.test_batch())[0] == pytest.approx(run.metric, rel=1e-13)


@fault(
    "the checkpoint that `compare --resume` goes on from is cut off, or of other settings", "it says so, and keeps it"
)
def test_checkpoint_that_does_not_fit_is_said_and_kept(tmp_path):
    comparison = _comparison(Tiny(), "torchdiffeq")
    (combination,) = comparison.runs()
    with pytest.raises(KeyboardInterrupt):
        comparison.train(*combination, _interrupt_after(1), _checkpoint(tmp_path, comparison, resume=True))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    other = _checkpoint(tmp_path, _comparison(Tiny(), "torchdiffeq", tolerance=1e-3), resume=True)
    with pytest.raises(errors.InvalidInputError, match=r"checkpoint-torchdiffeq-local-error.*with other settings"):
        other.read()
    assert path.read_bytes() == content
    path.write_bytes(content[:-100])
    with pytest.raises(errors.InvalidInputError, match="cannot be read; move it away"):
        _checkpoint(tmp_path, comparison, resume=True).read()
    assert path.read_bytes() == content[:-100]
    # Without `--resume` it is not asked for, and gives way.
    assert comparison.train(*combination, None, _checkpoint(tmp_path, comparison, resume=False)).failure is None
    assert list(tmp_path.iterdir()) == []
