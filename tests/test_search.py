"""`solvertap compare --search`: as many trials for every method, and the weight that the validation data choose."""

import json
import math
from dataclasses import replace

import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")
pytest.importorskip("matplotlib")
optuna = pytest.importorskip("optuna")

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from solvertap import errors
from solvertap_lab.command import compare
from solvertap_lab.problems.spiral import Spiral
from solvertap_lab.results.report import Report
from solvertap_lab.search.allowance import Allowance
from solvertap_lab.search.study import Study
from solvertap_lab.search.weights import RANGE, multiplied
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.run import Run
from tests.faults import fault


def _compare(out, methods=("vanilla", "local-error=0.2", "stiffness"), **options):
    settings = {"backend": ["torchdiffeq"], "epochs": 2, "tolerance": 1e-2, "seed": [1, 2], "search": 2, "out": out}
    compare("spiral", method=list(methods), **(settings | options))


def _runs(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]


def _storage(folder):
    return JournalStorage(JournalFileBackend(str(folder / "search" / "journal.log")))


@pytest.fixture(autouse=True)
def _predicts_once(monkeypatch):
    monkeypatch.setattr("solvertap_lab.training.comparison.PREDICTIONS", 1)


def test_every_method_gets_its_trials_and_the_weight_to_be_had_trains_all_seeds(tmp_path, monkeypatch):
    _compare(tmp_path)
    trials = _runs(tmp_path / "search")
    tried = {kind: [run for run in trials if run["method"].startswith(kind)] for kind in ("local-error", "stiffness")}
    assert [len(tried["local-error"]), len(tried["stiffness"]), len(trials)] == [2, 2, 5]
    assert {run["seed"] for run in trials} == {1}
    (vanilla,) = (run for run in trials if run["method"] == "vanilla")
    # What a trial is told is its own: its evaluations, and by how much its metric is over the allowance.
    for trial in optuna.load_study(study_name="local-error=0.2 in torchdiffeq", storage=_storage(tmp_path)).trials:
        text = multiplied("local-error=0.2", trial.params["factor"], Spiral())
        (run,) = (run for run in trials if run["method"] == text)
        assert trial.value == run["evaluations_by_epoch"][-1]
        assert trial.constraints["over"] == pytest.approx(run["validation"] / vanilla["validation"] - 1.01)
    chosen = []
    for runs in tried.values():
        kept = [run for run in runs if run["validation"] <= 1.01 * vanilla["validation"]]
        by_cost = sorted(kept, key=lambda run: (run["evaluations_by_epoch"][-1], run["validation"]))
        chosen.append([*by_cost, min(runs, key=lambda run: run["validation"])][0]["method"])
    runs = _runs(tmp_path)
    assert {(run["method"], run["seed"]): run["trials"] for run in runs} == {
        (method, seed): 2 if method in chosen else 0 for method in ("vanilla", *chosen) for seed in (1, 2)
    }
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| torchdiffeq")]
    assert [row.split(" | ")[-1].rstrip(" |") for row in rows] == ["-", "2", "2"]

    def train(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(Comparison, "train", train)
    _compare(tmp_path, resume=True)
    assert _runs(tmp_path) == runs


def test_trial_that_was_cut_short_is_tried_again_and_others_are_not(tmp_path):
    journal = tmp_path / "journal.log"
    study = Study(journal, "local-error", 1)
    ((ended, factor),) = study.ask(1)
    study.tell(ended, 20.0, -1.0)
    ((_, cut),) = study.ask(1)
    again = Study(journal, "local-error", 1)
    assert again.factors == [factor]
    assert [each for _, each in again.ask(1)] == [cut]
    assert Study(journal, "stiffness", 1).factors == []


def test_trials_look_where_the_metric_is_kept_and_evaluations_are_few(tmp_path):
    study = Study(tmp_path / "journal.log", "local-error", 0)
    for _ in range(25):
        ((trial, factor),) = study.ask(1)
        # Fewer evaluations with a larger weight, of which one above 1 spoils the metric.
        study.tell(trial, 100 / (1 + factor), 1.0 if factor > 1 else -1.0)
    tried = study.factors
    assert all(RANGE[0] <= factor <= RANGE[1] for factor in tried)
    assert max(factor for factor in tried if factor <= 1) > 0.5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("local-error", "local-error=0.5"),
        ("local-error=0.2", "local-error=0.1"),
        ("local-error:mean=100:10", "local-error:mean=50:5"),
        ("pal21-mnist-ode-error", "pal21-mnist-ode-error=50:5"),
        ("local-unbiased", "local-unbiased=1.25:0.5"),
        ("local-error + 0.1*stiffness = 3", "local-error + 0.1*stiffness=1.5"),
        ("rnode", "rnode=0.005"),
    ],
)
def test_factor_multiplies_the_weight_that_the_method_has(text, found):
    assert multiplied(text, 0.5, Spiral()) == found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search": 0}, "`--search` is 0"),
        ({"methods": ["vanilla", "budget=5"]}, "none of vanilla, budget=5 has one"),
        ({"allowance": "a bit"}, "`--allowance` is 'a bit'"),
        ({"allowance": "-1%"}, "`--allowance` is '-1%'"),
    ],
)
def test_search_for_nothing_is_refused_before_any_work(tmp_path, options, words):
    with pytest.raises(errors.InvalidInputError, match=words):
        _compare(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_search_without_validation_data_or_optuna_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'solvertap\[search\]'"):
        _compare(tmp_path / "out")
    monkeypatch.setattr(Spiral, "validation_batch", lambda _: None)
    with pytest.raises(errors.InvalidInputError, match="validation data, and 'spiral' has none"):
        _compare(tmp_path / "out")


def test_allowance_is_in_the_unit_of_the_metric_or_a_share():
    assert Allowance.of("0.5") == Allowance(0.5, "points")
    assert Allowance.of("1%") == Allowance(0.01, "share")


@pytest.fixture
def faked(monkeypatch):
    """Replaces training by what a function makes of each run; the methods of seed 1 that are trained."""

    def replaced(made):
        methods = []

        def train(comparison, backend, method, seed, *_, **__):
            if seed == 1:
                methods.append(method.name)
            run = Run(backend.name, method.name, seed, method.penalty(), metric=1.0, validation=1.0, evaluations=20)
            times = {"train_seconds": 1.0, "step_milliseconds": 1.0, "predict_milliseconds": 1.0}
            return made(replace(run, evaluations_by_epoch=[20.0], **times), len(methods))

        monkeypatch.setattr(Comparison, "train", train)
        monkeypatch.setattr(Report, "write", Report.write_texts)  # a picture takes a second
        return methods

    return replaced


@fault(
    "a trial of `compare --search` fails, or the plain model",
    "it is trained once in this search, and again by the next `--resume`",
)
def test_what_failed_in_a_search_is_trained_once_in_it(tmp_path, faked):
    def first_trial_fails(run, count):
        return replace(run, failure="it ran out of steps" if count == 2 else None)

    methods = faked(first_trial_fails)
    _compare(tmp_path, ["vanilla", "local-error=0.2"], search=3)
    assert len(methods) == 5
    assert len({*methods[:4]}) == 4
    assert methods[4] == "vanilla"  # with all seeds, outside of the search
    failed = methods[1]
    assert [run["method"] for run in _runs(tmp_path / "search") if run["failure"]] == [failed]
    del methods[:]
    _compare(tmp_path, ["vanilla", "local-error=0.2"], search=3, resume=True)
    assert methods == [failed]


def test_plain_model_that_failed_in_a_search_is_trained_once_in_it(tmp_path, faked):
    def plain_fails(run, _):
        return replace(run, failure="it ran out of steps" if run.method == "vanilla" else None)

    methods = faked(plain_fails)
    with pytest.raises(errors.InvalidInputError, match="or the plain model did"):
        _compare(tmp_path, ["vanilla", "local-error=0.2"])
    assert len(methods) == len({*methods}) == 3


@fault("the validation metric of a trial of `compare --search` is no number", "the trial counts as one that has failed")
def test_trial_whose_metric_is_no_number_is_none(tmp_path, faked):
    def first_trial_is_lost(run, count):
        cheap = {"validation": math.nan, "evaluations_by_epoch": [1.0]}
        return replace(run, **(cheap if count == 2 else {}))

    methods = faked(first_trial_is_lost)
    _compare(tmp_path, ["vanilla", "local-error=0.2"])
    trials = optuna.load_study(study_name="local-error=0.2 in torchdiffeq", storage=_storage(tmp_path)).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert {run["method"] for run in _runs(tmp_path)} == {"vanilla", methods[2]}
    faked(lambda run, _: replace(run, validation=math.nan))
    with pytest.raises(errors.InvalidInputError, match="has no finite validation metric"):
        _compare(tmp_path / "none", ["vanilla", "local-error=0.2"])


@fault(
    "`compare --search` allows a share of the plain model's metric, which is zero",
    "it says that no share can be taken of that, and what to give",
)
def test_share_of_a_metric_of_zero_is_refused(tmp_path, faked):
    methods = faked(lambda run, _: replace(run, validation=0.0))
    with pytest.raises(errors.InvalidInputError, match="metric of zero; give `--allowance` in the unit of the metric"):
        _compare(tmp_path, ["vanilla", "local-error=0.2"])
    tried = methods[1]
    del methods[:]
    _compare(tmp_path, ["vanilla", "local-error=0.2"], allowance="0.5", resume=True)
    assert tried not in methods
    assert {run["method"] for run in _runs(tmp_path)} >= {"vanilla", tried}
