"""The runs of a comparison, as a folder keeps them for `--resume`, and as its table compares them."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from rich.console import Console

from solvertap_lab.command import compare
from solvertap_lab.progress import Job, train_missing
from solvertap_lab.results.footnotes import times_told
from solvertap_lab.results.ledger import Ledger
from solvertap_lab.results.record import as_text
from solvertap_lab.results.report import Report
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.recipe import Recipe
from solvertap_lab.training.run import Run
from tests.faults import fault

METHODS = ("vanilla", "local-error=0.2", "stiffness")
RECIPE = Recipe("spiral", METHODS, ("torchdiffeq",), (1,), epochs=2, tolerance=1e-2)
OPTIONS = {"backend": ["torchdiffeq"], "seed": [1], "epochs": 2, "tolerance": 1e-2}


def _run(method, failure=None, seed=1, evaluations=20):
    ((_, chosen, _),) = replace(RECIPE, methods=(method,)).comparison().runs()
    measured = {"train_seconds": 1.0, "step_milliseconds": 1.0, "predict_milliseconds": 1.0}
    found = Run("torchdiffeq", method, seed, chosen.penalty(), evaluations=evaluations, failure=failure, **measured)
    return replace(found, metric=1.0, validation=1.0, evaluations_by_epoch=[20.0, 20.0])


def _keep(folder, *runs):
    (folder / "results.json").write_text(as_text(RECIPE.comparison(), runs))


def _failures(folder):
    runs = json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]
    return [(run["method"], run["failure"]) for run in runs]


@pytest.fixture
def trained(monkeypatch):
    """The methods that are trained, in no time, and those that then fail."""
    methods, failing = [], []

    def train(comparison, backend, method, seed, *_, **__):
        methods.append(method.name)
        return _run(method.name, "once more" if method.name in failing else None)

    monkeypatch.setattr(Comparison, "train", train)
    monkeypatch.setattr(Report, "write", Report.write_texts)  # a picture takes a second
    return methods, failing


@fault(
    "several runs of `compare --out` have failed",
    "`--resume` trains each of them once more; what is said of them stays in the table until then",
)
def test_each_run_that_failed_is_trained_once_more_and_its_failure_kept_until_then(tmp_path, trained):
    methods, failing = trained
    failing.append("local-error=0.2")
    _keep(tmp_path, _run("vanilla", "of old"), _run("local-error=0.2", "of old"), _run("stiffness"))
    ledger = Ledger(RECIPE.comparison(), tmp_path, resume=True)
    assert [run.method for run in ledger.runs] == ["stiffness"]
    ledger.add(_run("stiffness"))
    assert _failures(tmp_path) == [("vanilla", "of old"), ("local-error=0.2", "of old"), ("stiffness", None)]
    assert "vanilla (seed 1) failed: of old" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert train_missing(Job(RECIPE, ledger), Console(quiet=True)) == {}
    assert methods == ["vanilla", "local-error=0.2"]
    now = [("vanilla", None), ("local-error=0.2", "once more"), ("stiffness", None)]
    assert _failures(tmp_path) == now
    # It is done for this command, and tried again by the next.
    assert ledger.missing(tmp_path) == []
    assert [(run.method, run.failure) for run in ledger.runs] == now
    assert len(Ledger(RECIPE.comparison(), tmp_path, resume=True).missing(tmp_path)) == 1


def test_failure_of_a_method_that_is_not_asked_for_stays_on_file(tmp_path, trained, capsys):
    methods, _ = trained
    _keep(tmp_path, _run("stiffness", "of old"), _run("vanilla"))
    compare("spiral", method=["vanilla"], out=tmp_path, resume=True, **OPTIONS)
    assert methods == []
    assert _failures(tmp_path) == [("stiffness", "of old"), ("vanilla", None)]
    assert "stiffness (seed 1) failed: of old" in capsys.readouterr().out


def test_what_another_process_adds_before_the_last_table_stays_on_file(tmp_path, trained, monkeypatch):
    _keep(tmp_path, _run("vanilla"))

    def others_alone(job, console):
        Ledger(RECIPE.comparison(), tmp_path, resume=True).add(_run("stiffness"))
        return {}

    monkeypatch.setattr("solvertap_lab.command.train_missing", others_alone)
    compare("spiral", method=["vanilla"], out=tmp_path, resume=True, **OPTIONS)
    assert sorted(_failures(tmp_path)) == [("stiffness", None), ("vanilla", None)]


@fault(
    "a seed of a method, or of `vanilla`, has failed or was added later",
    "the ratio is that of the seeds that both have ended",
)
def test_ratio_is_that_of_the_seeds_that_both_have_ended():
    plain = [_run("vanilla", seed=seed, evaluations=100 * seed) for seed in (1, 2)]
    both = [_run("local-error=0.2", seed=seed, evaluations=50 * seed) for seed in (1, 2)]

    def cells(*runs):
        headings, *rows = Report(RECIPE.comparison(), runs).rows()
        return {row[1]: row[headings.index("evaluations")] for row in rows}

    assert cells(*plain, *both) == {"vanilla": "150", "local-error=0.2": "75 (0.50)"}
    failed = replace(both[0], failure="it ran out of steps")
    assert cells(*plain, failed, both[1]) == {"vanilla": "150", "local-error=0.2": "100 (0.50)"}
    assert cells(plain[0], *both) == {"vanilla": "100", "local-error=0.2": "75 (0.50)"}
    assert cells(plain[0], both[1]) == {"vanilla": "100", "local-error=0.2": "100"}
    assert "over the seeds that both have ended" in Report(RECIPE.comparison(), plain).footnote()


def test_several_days_are_told_whether_of_several_runs_or_of_one():
    one = replace(_run("vanilla"), day="2026-11-29", timed="2026-11-30")
    failed = _run("stiffness", "it ran out of steps")
    assert times_told([one, replace(failed, day="2026-11-29")]) == ""
    assert "trained on several days" in times_told([one, replace(one, day="2026-11-30")])
    assert "trained on several days" in times_told([replace(one, day="2026-11-29, 2026-11-30")])
    told = times_told([one, replace(one, timed="2026-12-01")])
    assert "trained on several days" not in told
    assert "Milliseconds were measured on several days" in told
