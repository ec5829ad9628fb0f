"""Runs that are trained side by side: the same results, and nothing lost but what was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from rich.console import Console

from solvertap import errors
from solvertap_lab.command import compare
from solvertap_lab.progress import Job, train_missing
from solvertap_lab.results.ledger import Ledger
from solvertap_lab.results.lock import Lock, holder, is_here
from solvertap_lab.running.last_pass import measure_times
from solvertap_lab.running.threads import for_children, share_of_cores
from solvertap_lab.running.unit import Taken, train_in
from solvertap_lab.training.recipe import Recipe
from tests.faults import fault
from tests.running import environment

SOLVERTAP = [sys.executable, "-m", "solvertap"]
SPIRAL = ["spiral", "--backend", "torchdiffeq", "--tolerance", "1e-2"]
FILES = ["comparison-dark.png", "comparison.png", "results.json", "table.md"]
TIMES = {
    "train_seconds",
    "step_milliseconds",
    "predict_milliseconds",
    "compile_seconds",
    "beside",
    "day",
    "timed",
    "timed_after",
}
TWO = Recipe("spiral", ("vanilla", "local-error=0.2"), ("torchdiffeq",), (1,), epochs=2, tolerance=1e-2)
TINY = Recipe("spiral", ("vanilla",), ("torchdiffeq",), (1,), epochs=2, tolerance=1e-2)


def _start(*arguments):
    return subprocess.Popen(
        [*SOLVERTAP, "compare", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | {"COLUMNS": "400", "NO_COLOR": "1"},
        # A job in the background of a shell ignores interrupts, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _end(process, timeout=150):
    try:
        output, error = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output, error


def _runs(folder):
    return {
        (run["method"], run["seed"]): run
        for run in json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]
    }


def _untimed(run):
    return {name: value for name, value in asdict(run).items() if name not in TIMES}


def _wait_for(condition, process, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def _trainers(folder):
    """The process that trains each run now."""
    found = {path: holder(path) for path in folder.glob("checkpoint-*.lock")}
    return {path.stem: int(each.split()[1]) for path, each in found.items() if each is not None}


@fault("a process of `compare --workers` is killed", "its run alone is lost, and told; `--resume` completes the table")
def test_killed_worker_loses_one_run_and_resume_ends_with_the_table_of_one_worker(tmp_path):
    process = _start(*SPIRAL, "--epochs", 40, "--seed", 1, "--out", tmp_path, "--workers", 2)
    _wait_for(lambda: len(list(tmp_path.glob("*.npz"))) == 2 and _trainers(tmp_path), process)
    (killed, worker), *_ = _trainers(tmp_path).items()
    assert worker != process.pid
    os.kill(worker, signal.SIGKILL)
    code, output, error = _end(process)
    assert code == 1, error
    assert "is lost: its process was killed by SIGKILL" in output
    assert "1 runs are lost" in output
    assert len(_runs(tmp_path)) == 1
    assert [path.stem for path in tmp_path.glob("*.npz")] == [killed]
    recipe = replace(TWO, epochs=40)
    one = [recipe.comparison().train(*each) for each in recipe.comparison().runs()]
    ledger = Ledger(recipe.comparison(), tmp_path, resume=True)
    assert train_missing(Job(recipe, ledger), Console(quiet=True)) == {}
    two = ledger.runs
    assert [run.place for run in two] == [run.place for run in one]
    assert [_untimed(run) for run in two] == [_untimed(run) for run in one]
    assert all(run.timed_after and run.step_milliseconds > 0 < run.predict_milliseconds for run in two)
    assert not any(run.timed_after or run.beside for run in one)
    assert max(run.beside for run in two) == 1
    assert "trained beside others, up to 1" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@fault("two processes of `compare --resume` work in one folder", "each run is trained once, and both end with all")
def test_two_processes_share_a_folder_without_harm(tmp_path):
    arguments = [*SPIRAL, "--epochs", 60, "--seed", 1, "--out", tmp_path, "--resume"]
    processes = [_start(*arguments), _start(*arguments)]
    seen = {}
    while any(process.poll() is None for process in processes):
        for run, worker in _trainers(tmp_path).items():
            seen.setdefault(run, set()).add(worker)
        time.sleep(0.02)
    for process in processes:
        code, output, error = _end(process)
        assert code == 0, error
        assert "local-error=0.2" in output
    assert len(_runs(tmp_path)) == 2
    assert not any(run["failure"] for run in _runs(tmp_path).values())
    # The premise: both worked. Each run was one process's.
    assert set().union(*seen.values()) == {process.pid for process in processes}
    assert all(len(workers) == 1 for workers in seen.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_interrupt_ends_the_workers_and_keeps_their_checkpoints(tmp_path):
    process = _start(*SPIRAL, "--epochs", 100_000, "--out", tmp_path, "--workers", 2)
    _wait_for(lambda: len(list(tmp_path.glob("*.npz"))) == 2, process)
    workers = _trainers(tmp_path).values()
    process.send_signal(signal.SIGINT)
    code, output, error = _end(process)
    assert code != 0
    assert "Traceback" not in output + error
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz"}
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_lock_of_a_process_that_was_killed_is_none(tmp_path):
    path = tmp_path / "run.lock"
    hold = "import sys, time; from pathlib import Path; from solvertap_lab.results.lock import Lock"
    hold += "; Lock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE, env=environment())
    try:
        assert process.stdout.readline() == b"held\n"
        lock = Lock(path)
        assert not lock.acquire()
        assert holder(path).startswith(f"process {process.pid} on ")
        assert is_here(holder(path))
    finally:
        process.kill()
        process.communicate()
    assert path.exists()
    assert holder(path) is None
    assert lock.acquire()
    assert f"process {os.getpid()} on " in holder(path)
    lock.release()
    assert not path.exists()


def test_shared_lock_is_shared_and_keeps_an_exclusive_one_out(tmp_path):
    locks = [Lock(tmp_path / "lock") for _ in range(3)]
    assert locks[0].acquire(shared=True)
    assert locks[1].acquire(shared=True)
    assert not locks[2].acquire()
    locks[0].release()
    assert (tmp_path / "lock").exists()
    locks[1].release()
    assert locks[2].acquire()
    assert not locks[0].acquire(shared=True)
    locks[2].release()
    assert list(tmp_path.iterdir()) == []


def test_run_that_another_process_trains_is_left_to_it_and_one_that_has_ended_is_not_trained(tmp_path):
    ledger = Ledger(TINY.comparison(), tmp_path, resume=True)
    ((place, _),) = ledger.combinations.items()
    lock = ledger.checkpoint(tmp_path, ledger.fresh(place)).lock()
    assert lock.acquire()
    epochs = []
    half_written = tmp_path / ".checkpoint-torchdiffeq-vanilla-1.npz.123"
    half_written.touch()
    outcome = train_in(tmp_path, ledger, place, lambda *each: epochs.append(each))
    assert isinstance(outcome, Taken)
    assert half_written.exists()
    assert f"process {os.getpid()} " in outcome.by
    lock.release()
    other = Ledger(TINY.comparison(), tmp_path, resume=True)
    train_in(tmp_path, other, place, lambda *each: epochs.append(each), keep=other.add)
    assert len(epochs) == 2
    assert not half_written.exists()
    assert train_in(tmp_path, ledger, place, lambda *each: epochs.append(each)) == other.runs[0]
    assert len(epochs) == 2


def test_times_are_measured_from_the_trained_weights_and_change_nothing_else(tmp_path, monkeypatch):
    whole = TINY.comparison()
    (combination,) = whole.runs()
    plain = whole.train(*combination)
    ledger = Ledger(TINY.comparison(), tmp_path, resume=True)
    ((place, _),) = ledger.combinations.items()
    run = train_in(tmp_path, ledger, place, lambda *_: None, keep=ledger.add, times_later=True)
    assert run.waits_for_times
    assert (run.day, run.timed) == (plain.day, "")
    assert json.loads((tmp_path / "results.json").read_text())["runs"][0]["step_milliseconds"] is None
    # Who goes on with the folder knows that all is trained, and what is still to be done.
    resumed = Ledger(TINY.comparison(), tmp_path, resume=True)
    assert resumed.missing(tmp_path) == []
    told = []
    monkeypatch.setattr("time.strftime", lambda _: "2099-01-01")
    measure_times(resumed, tmp_path, told.append)
    assert told == ["measuring the times of torchdiffeq vanilla (seed 1)"]
    (measured,) = resumed.runs
    assert measured.timed_after
    assert (measured.day, measured.timed) == (plain.day, "2099-01-01")
    assert measured.step_milliseconds > 0
    assert measured.predict_milliseconds > 0
    names = ("losses", "metric", "validation", "evaluations", "trace", "evaluations_by_epoch")
    assert [getattr(measured, name) for name in names] == [getattr(plain, name) for name in names]
    assert list(tmp_path.glob("*.npz")) == []
    assert Ledger(TINY.comparison(), tmp_path, resume=True).missing(tmp_path) == []


def test_times_without_the_weights_to_measure_them_from_are_trained_for_anew(tmp_path):
    ledger = Ledger(TINY.comparison(), tmp_path, resume=True)
    ((place, _),) = ledger.combinations.items()
    train_in(tmp_path, ledger, place, lambda *_: None, keep=ledger.add, times_later=True)
    (checkpoint,) = tmp_path.glob("*.npz")
    checkpoint.unlink()
    assert Ledger(TINY.comparison(), tmp_path, resume=True).missing(tmp_path) == [place]


def test_folder_of_a_process_without_resume_is_its_own(tmp_path):
    lock = Lock(tmp_path / ".session.lock")
    assert lock.acquire()
    code, output, error = _end(_start(*SPIRAL, "--epochs", 1, "--out", tmp_path, "--resume"))
    lock.release()
    assert (code, output) == (2, "")
    (line,) = error.splitlines()
    assert f"process {os.getpid()} on " in line
    assert "share a folder where all of them have `--resume`" in line


def test_workers_share_the_cores_and_nobody_gets_more_than_was_allowed(monkeypatch):
    monkeypatch.setattr("solvertap_lab.running.threads.usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share_of_cores(3)["OMP_NUM_THREADS"] == share_of_cores(3)["NPROC"] == "2"
    assert share_of_cores(20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share_of_cores(2)["OMP_NUM_THREADS"] == "1"
    before, handler = dict(os.environ), signal.getsignal(signal.SIGINT)
    with for_children(share_of_cores(2)):
        assert os.environ["NPROC"] == "4"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert dict(os.environ) == before
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "`--workers` is 0; give 1 or more"),
        ({"ray": "auto"}, "`--ray` needs a folder"),
        ({"ray": "auto", "workers": 2, "out": "x"}, "`--workers 2`"),
        ({"ray": "nowhere", "out": "x"}, "'nowhere'.*no HOST:PORT.*`local`"),
        ({"ray": "127.0.0.1:1", "out": "x"}, "'127.0.0.1:1'.*Connection refused"),
    ],
    ids=str,
)
def test_workers_and_clusters_that_are_none_are_refused_before_any_work(options, words, tmp_path, monkeypatch, capsys):
    if "HOST" in words or "refused" in words:
        pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    options = {name: tmp_path / value if name == "out" else value for name, value in options.items()}
    with pytest.raises(errors.InvalidInputError, match=words):
        compare("spiral", backend=["torchdiffeq"], **options)
    assert capsys.readouterr().out == ""


def test_ray_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'solvertap\[ray\]'"):
        compare("spiral", backend=["torchdiffeq"], ray="local", out=tmp_path)


def test_ray_trains_what_one_process_trains(tmp_path):
    pytest.importorskip("ray", reason="Ray, of the extra `ray`, is not installed")
    arguments = [*SPIRAL, "--epochs", 2, "--seed", 1, "--out", tmp_path, "--ray", "local"]
    code, _, error = _end(_start(*arguments), timeout=200)
    assert code == 0, error
    ledger = Ledger(TWO.comparison(), tmp_path, resume=True)
    one = [TWO.comparison().train(*each) for each in TWO.comparison().runs()]
    assert [_untimed(run) for run in ledger.runs] == [_untimed(run) for run in one]
    assert all(run.timed_after for run in ledger.runs)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
