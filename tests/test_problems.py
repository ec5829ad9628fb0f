"""Problems of other people, and what a problem may ask for: an encoder, a key, trajectories, a validation split."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("diffrax")
pytest.importorskip("typer")

from array_api_compat import array_namespace

import solvertap as tap
from solvertap import errors
from solvertap.plugins.manager import Plugins
from solvertap_lab.problems import finding
from solvertap_lab.problems.layers import apply, dense
from solvertap_lab.problems.optimiser import Optimiser
from solvertap_lab.problems.problem import Problem
from solvertap_lab.problems.spiral import Spiral, SpiralSDE
from solvertap_lab.results.record import as_text, read_runs
from solvertap_lab.results.report import Report
from solvertap_lab.training.backends import BACKENDS
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.methods import choose_method
from solvertap_lab.training.prediction import predict
from solvertap_lab.training.run import Run
from solvertap_lab.training.trainer import Setting
from solvertap_lab.training.trajectories import apart, repeated
from tests.distribution import install
from tests.faults import fault

DOCS = Path(__file__).parent.parent / "docs"
ODE = ("torchdiffeq", "diffrax")
SDE = ("torchsde", "diffrax")
# Of solves at 1e-10, against closed forms.
SOLVED = 1e-6


def _trainer(problem, backend, seed=1):
    pytest.importorskip(backend)
    setting = Setting(problem, (), problem.tolerance, align=False, precision=64, seed=seed)
    return BACKENDS[backend].make(setting, problem.parameters(np.random.default_rng(0)))


def _documented():
    text = (DOCS / "plugins.md").read_text()
    section = text.split("### `solvertap_problems()`")[1].split("\n### ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return example


@pytest.mark.slow
def test_documented_problem_of_another_distribution_is_found_and_trained(tmp_path):
    """Built and installed into an environment of its own beside this one's packages."""
    example = _documented()
    assert len(example.splitlines()) <= 40
    files = {"somebodys_spring.py": example}
    python = install(tmp_path, "somebodys-spring", "1", "somebodys_spring", files)
    methods = ("--method", "vanilla", "--method", "local-error")
    trained = ("--backend", "torchdiffeq", "--epochs", "40", "--precision", "64", "--out", str(tmp_path / "out"))
    done = subprocess.run(
        [python, "-m", "solvertap", "compare", "spring", *methods, *trained],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "400", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "spring: encoder, neural ODE and head" in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["problem"] == "spring"
    assert [run["method"] for run in results["runs"]] == ["vanilla", "local-error"]
    plain, regularized = (run["losses"] for run in results["runs"])
    assert plain[0] == regularized[0]
    assert plain != regularized
    for losses in (plain, regularized):
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def _plugins(monkeypatch, **brought):
    """The lab beside plugins that give these things, or raise them."""
    import solvertap_lab

    found = Plugins()
    found.register(solvertap_lab, "lab")
    for name, problems in brought.items():

        class Plugin:
            @tap.hookimpl
            def solvertap_problems(self, problems=problems):
                if isinstance(problems, Exception):
                    raise problems
                return problems

        found.register(Plugin(), name)
    monkeypatch.setattr(finding, "plugins", lambda: found)
    return found


@pytest.mark.parametrize(
    ("problems", "reason"),
    [
        (ImportError("no module named gone"), "raised ImportError in `solvertap_problems`: no module named gone"),
        (3, "raised TypeError in `solvertap_problems`: 'int' object is not iterable"),
        ({"spiral": Spiral}, "brings a problem named 'spiral', which another plugin brings"),
        ({"mine": Spiral()}, "for 'mine' in `solvertap_problems`; give a name and a function that makes a problem"),
    ],
    ids=["raises", "no mapping", "taken name", "no function"],
)
@fault(
    "a plugin raises when it is asked for its problems, gives none, or one under a name that is taken",
    "the others are there; `solvertap adapters` names it with the reason",
)
def test_plugin_that_fails_to_give_its_problems_harms_nobody(monkeypatch, problems, reason):
    found = _plugins(monkeypatch, broken=problems, good={"another": Spiral})
    for _ in range(2):
        assert list(found.problems())[-3:] == ["spiral", "spiral-sde", "another"]
        (failure,) = found.failures
        assert failure.name == "broken"
        assert reason in failure.reason
    assert type(finding.find_problem("spiral")) is Spiral
    assert finding.find_problem("another").name == "another"
    with pytest.raises(errors.UnknownNameError, match=r"'mine'.*spiral-sde, another\. The plugin 'broken' failed: "):
        finding.find_problem("mine")


def test_what_is_no_problem_is_refused_by_its_name(monkeypatch):
    class Unfinished(Spiral):
        pass

    class Abstract(Problem):
        field = loss = score = initial_state = None

    class Undiffused(Spiral):
        stochastic = True

    problems = {"thing": dict, "unfinished": Unfinished, "abstract": Abstract, "undiffused": Undiffused}
    _plugins(monkeypatch, mine=problems)
    with pytest.raises(errors.PluginError, match="'abstract' of a plugin lacks `batches`, `parameters`, `test_batch`;"):
        finding.find_problem("abstract")
    with pytest.raises(errors.PluginError, match="'undiffused' of a plugin lacks `diffusion`;"):
        finding.find_problem("undiffused")
    with pytest.raises(errors.PluginError, match=r"The problem 'thing' of a plugin is \{\}; .*`solvertap_lab.Problem`"):
        finding.find_problem("thing")
    monkeypatch.delattr(Spiral, "metric")
    with pytest.raises(errors.PluginError, match="The problem 'unfinished' of a plugin lacks `metric`;"):
        finding.find_problem("unfinished")


def test_lab_is_found_without_its_problems_and_without_numpy():
    script = (
        "import sys\n"
        "from solvertap.plugins.registry import plugins\n"
        "assert plugins().manager.has_plugin('lab')\n"
        "print([m for m in sys.modules if m == 'numpy' or m.startswith('solvertap_lab.')])\n"
        "import solvertap_lab\n"
        "assert all(getattr(solvertap_lab, name) for name in solvertap_lab.__all__)\n"
        "print([m for m in ('torch', 'jax', 'typer') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n[]\n"


class Encoded(Problem):
    """y' = a y from tanh of a layer: y(1) = exp(a) tanh(W x + b)."""

    summary = metric = "encoded"
    times = (0.0, 1.0)
    tolerance = 1e-10
    precision = 64
    optimiser = Optimiser("momentum", 1.0)  # one step is the gradient

    def parameters(self, rng):
        return dense(rng, 3, 2, "encoder") | {"a": np.array(-0.7)}

    def batches(self, rng, size):
        yield self.test_batch()

    def test_batch(self):
        rng = np.random.default_rng(7)
        return {"x": rng.normal(size=(5, 3)), "target": rng.normal(size=(5, 2))}

    def initial_state(self, parameters, batch, key):
        return array_namespace(batch["x"]).tanh(apply(parameters, "encoder", batch["x"]))

    def field(self, parameters, t, y):
        return parameters["a"] * y

    def loss(self, parameters, states, batch, key):
        return ((states[-1] - batch["target"]) ** 2).mean()

    score = loss

    def exact(self, parameters):
        """The loss, by the closed form of the solution."""
        batch = self.test_batch()
        y1 = np.exp(parameters["a"]) * self.initial_state(parameters, batch, None)
        return self.loss(parameters, [y1], batch, None)


@pytest.mark.parametrize("backend", ODE)
def test_encoder_is_trained_by_the_gradient_of_the_loss(backend):
    problem = Encoded()
    start = problem.parameters(np.random.default_rng(0))
    trainer = _trainer(problem, backend)
    loss, stats = trainer.step(problem.test_batch(), ())
    assert loss == pytest.approx(problem.exact(start), rel=SOLVED)
    assert stats.accepted > 10
    for name, value in start.items():
        gradient = value - np.asarray(trainer.parameters[name].tolist())
        for place in np.ndindex(value.shape):
            h = np.zeros(value.shape)
            h[place] = 1e-5
            slope = (problem.exact(start | {name: value + h}) - problem.exact(start | {name: value - h})) / 2e-5
            assert abs(slope) > 1e-3
            assert gradient[place] == pytest.approx(slope, rel=SOLVED, abs=1e-9)


class Drawn(Encoded):
    """Its initial state and its loss are drawn."""

    optimiser = Optimiser("momentum", 1e-9)
    tolerance = 1e-3

    def initial_state(self, parameters, batch, key):
        return super().initial_state(parameters, batch, key) + key.uniform((5, 2))

    def loss(self, parameters, states, batch, key):
        return super().loss(parameters, states + key.normal(states[-1].shape), batch, key)

    score = loss


@pytest.mark.parametrize("backend", ODE)
def test_what_is_drawn_from_the_key_is_of_the_seed_and_the_step(backend):
    batch, trainer = Drawn().test_batch(), _trainer(Drawn(), backend)
    started = dict(vars(trainer))

    def train(seed):
        nonlocal trainer
        if backend == "diffrax":  # what it has compiled stays
            vars(trainer).update(started | {"key": _trainer(Drawn(), backend, seed).key})
        else:
            trainer = _trainer(Drawn(), backend, seed)
        return [trainer.step(batch, ())[0] for _ in range(3)] + [trainer.predict(batch)[0]]

    drawn = train(1)
    assert train(1) == drawn
    assert trainer.predict(batch)[0] == drawn[-1]
    assert len({*drawn, *train(2), trainer.predict(batch, "validation")[0]}) == 9


def _keys(backend):
    if backend == "torch":
        import torch

        from solvertap_lab.training.torch_key import TorchKey

        uses = ("training", "prediction", "validation")
        return [TorchKey(seed, use, torch.float64) for seed in (1, 2) for use in uses]
    import jax

    from solvertap_lab.training.jax_key import JaxKey

    return [JaxKey(jax.random.key(seed), np.float64) for seed in range(6)]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_key_draws_new_numbers_of_its_distribution_in_every_call(framework):
    uniform, normal = [], []
    for key in _keys(framework):
        for _ in range(2):
            uniform.append(np.asarray(key.uniform((50, 100))))
            normal.append(np.asarray(key.normal((50, 100))))
    drawn = np.stack([*uniform, *normal]).reshape(24, -1)
    assert drawn.dtype == np.float64
    # 5000 numbers: their correlation has a standard deviation of 0.014.
    assert np.abs(np.corrcoef(drawn) - np.eye(24)).max() < 0.08
    assert 0 <= np.min(uniform) < 1e-3
    assert 0.999 < np.max(uniform) < 1
    assert [np.mean(normal), np.std(normal)] == pytest.approx([0, 1], abs=0.02)


def test_draws_for_a_problem_are_none_of_those_of_its_solve():
    """JAX's `split` and `fold_in` may give one key; the solve splits the key from which the problem draws."""
    import jax

    from solvertap_lab.training.jax_key import JaxKey, key_of

    key = jax.random.key(3)
    assert key_of(key, "test") is key
    seen = set()
    for used in (key, key_of(key, "validation")):
        parts = [*jax.random.split(used, 8), *(jax.random.fold_in(used, n) for n in range(8))]
        others = {float(jax.random.normal(part, ())) for part in [used, *parts]}
        draws = JaxKey(used, np.float64)
        drawn = {float(draws.normal(())) for _ in range(8)}
        assert not drawn & others
        assert not seen & (drawn | others)
        seen |= drawn | others


class Sampled(Problem):
    """A geometric Brownian motion, three samples of each input; the score is the least spread of one at the end."""

    summary = metric = "sampled"
    stochastic = True
    trajectories = 3
    times = (0.0, 0.1, 0.2, 0.3, 0.4)
    tolerance = 1e-2
    precision = 64

    def __init__(self):
        self.shapes = []

    def parameters(self, rng):
        return {"noise": np.array(0.3)}

    def batches(self, rng, size):
        yield self.test_batch()

    def test_batch(self):
        return {"y0": np.arange(1.0, 5.0).reshape(2, 2)}

    def initial_state(self, parameters, batch, key):
        return batch["y0"]

    def field(self, parameters, t, y):
        return 0 * y

    def diffusion(self, parameters, t, y):
        return parameters["noise"] * y

    def loss(self, parameters, states, batch, key):
        self.shapes.append(tuple(states.shape))
        return (states[..., -1, :, :] ** 2).mean()

    def score(self, parameters, states, batch, key):
        xp = array_namespace(states)
        self.shapes.append(tuple(states.shape))
        misplaced = xp.max(xp.abs(states[:, 0] - batch["y0"]))
        return xp.min(xp.std(states[:, -1], axis=0)) - 100 * misplaced


@pytest.mark.parametrize("backend", SDE)
def test_samples_of_one_input_begin_in_one_state_and_go_their_own_ways(backend):
    problem = Sampled()
    problem.test_trajectories = 4
    trainer = _trainer(problem, backend)
    spread, stats = trainer.predict(problem.test_batch())
    assert problem.shapes.pop() == (4, 5, 2, 2)
    assert spread > 0.01
    assert stats.solves == 1
    if backend == "diffrax":  # traced alone: it takes long to compile
        import jax

        jax.eval_shape(
            trainer._update,
            trainer.parameters,
            trainer.optimiser_state,
            problem.test_batch(),
            (),
            trainer.key,
            trainer.budget_state,
        )
    else:
        trainer.step(problem.test_batch(), ())
        assert trainer.parameters["noise"].item() != 0.3
    assert problem.shapes.pop() == (3, 5, 2, 2)


@pytest.mark.parametrize("framework", ["torch", "jax.numpy", "numpy"])
def test_one_trajectory_is_left_as_it_is_and_several_are_told_apart(framework):
    xp = pytest.importorskip(framework)
    y0 = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    solved = xp.stack([10.0 * k + repeated(y0, 3) for k in range(5)])
    assert solved.shape == (5, 6, 2)
    states = np.asarray(apart(solved, 3))
    assert states.shape == (3, 5, 2, 2)
    for sample in states:
        assert np.array_equal(sample, [10.0 * k + np.asarray(y0) for k in range(5)])
    assert repeated(y0, None) is y0
    assert apart(solved, None) is solved
    assert repeated(y0, 1) is y0
    assert apart(solved, 1).shape == (1, 5, 6, 2)


@pytest.mark.parametrize("backend", ["torchsde"])
def test_brownian_paths_are_of_the_seed(backend):
    """JAX draws them from the key; torchsde's own choice would come from NumPy, which nobody seeds."""
    losses = []
    for seed in (1, 1, 2):
        trainer = _trainer(Sampled(), backend, seed)
        losses.append([trainer.step(Sampled().test_batch(), ())[0] for _ in range(2)])
    assert losses[0] == losses[1]
    assert len({*losses[0], *losses[2]}) == 4


class Unsplit(SpiralSDE):
    """Validated on what it is tested on: what differs is drawn."""

    def test_batch(self):
        return self._batch(50, self._test)

    validation_batch = test_batch


@pytest.mark.parametrize("backend", SDE)
def test_prediction_is_drawn_once_and_the_validation_is_drawn_anew(backend):
    problem = Unsplit()
    trainer, run = _trainer(problem, backend), Run(backend, "vanilla", 1)
    predict(trainer, problem, run)
    accepted = run.trace["accepted"]
    assert (sum(accepted), len(accepted) - sum(accepted)) == (run.accepted, run.rejected)
    assert run.validation != run.metric
    for _ in range(2):
        metric, stats = trainer.predict(problem.test_batch())
        assert (metric, stats.evaluations, stats.accepted) == (run.metric, run.evaluations, run.accepted)
        assert trainer.predict(problem.test_batch(), "validation")[0] == run.validation


def _comparison(problem):
    method = choose_method("vanilla", problem)
    return Comparison(problem, [BACKENDS["torchdiffeq"]], [method], [1], 1, 32, 1e-3, align=False, precision=64)


def test_validation_metric_is_written_and_has_its_column_where_there_is_one(tmp_path):
    problem = Spiral()
    comparison = _comparison(problem)
    (combination,) = comparison.runs()
    run = comparison.train(*combination)
    trainer = BACKENDS["torchdiffeq"].make(
        Setting(problem, (), 1e-3, align=False, precision=64, seed=1), problem.parameters(np.random.default_rng(1))
    )
    trainer.step(next(problem.batches(np.random.default_rng(2), 32)), ())
    assert run.validation == pytest.approx(trainer.predict(problem.validation_batch())[0], rel=1e-6)
    assert run.validation != run.metric
    batches = [problem.test_batch(), problem.validation_batch(), next(problem.batches(np.random.default_rng(0), 32))]
    assert len({batch["y0"].sum() for batch in batches}) == 3
    (tmp_path / "results.json").write_text(as_text(comparison, [run]))
    assert json.loads((tmp_path / "results.json").read_text())["runs"][0]["validation"] == run.validation
    without = Run("torchdiffeq", "local-error", 1, metric=1.0)
    headings, *rows = Report(comparison, [run, without]).rows()
    assert headings[:4] == ["backend", "method", "test error, rms", "validation"]
    assert [row[3] for row in rows] == [f"{run.validation:.4g}", "-"]
    failed = Report(comparison, [run, Run("torchdiffeq", "vanilla", 2, failure="it ran out of steps")])
    assert {len(row) for row in failed.rows()} == {len(headings)}
    report = Report(comparison, [without])
    assert "validation" not in report.rows()[0]
    assert "validation" not in report.footnote()


def test_results_from_before_there_was_a_validation_metric_are_read(tmp_path):
    comparison = _comparison(Spiral())
    document = json.loads(as_text(comparison, [Run("torchdiffeq", "vanilla", 1, metric=0.5)]))
    assert document["runs"][0].pop("validation") is None
    (tmp_path / "results.json").write_text(json.dumps(document))
    (run,) = read_runs(tmp_path, comparison)
    assert run.metric == 0.5
    assert run.validation is None
