"""What `solvertap run` keeps of solves is bounded, and nobody waits for it."""

import json
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest

pytest.importorskip("typer")

import solvertap as tap
from solvertap.cli.recorder import Recorder
from solvertap.cli.totals import POINTS, Group, Series, Totals
from solvertap.plugins import registry
from solvertap.solves.injection import Record
from solvertap.solves.stats import Stats
from tests import numpy_solver
from tests.faults import fault


class Late(numpy_solver.NumpyAdapter):
    """Its numbers come from a device that takes its time."""

    name = "late-loop"
    there = threading.Event()

    def soon(self, values):
        return lambda: [float(x) for x in values] if self.there.is_set() else None


@pytest.fixture(scope="module", autouse=True)
def _registered():
    for adapter in (Late(), numpy_solver.NumpyAdapter()):
        if adapter.name not in registry.plugins().adapters:
            tap.register(adapter)


def _record(k=0, kind="training", adapter="numpy-loop", evaluations=6, method="", measuring=0):
    values = {"local_error": np.asarray(0.5)}
    return Record(kind, adapter, k, Stats(1, 3, 0, evaluations, 0, measuring), values, np.asarray(1.0 + k), method)


@fault(
    "a script under `solvertap run` solves millions of times",
    "what is kept of its solves does not grow with their number",
)
@pytest.mark.parametrize("series", [False, True])
def test_memory_does_not_grow_with_the_solves(series):
    recorder = Recorder(None, series=series)
    for k in range(POINTS + 200):
        recorder(_record(k))
    tracemalloc.start()
    for k in range(3000):
        recorder(_record(k))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < (400_000 if series else 20_000)  # 2 KB a solve would be 6 MB
    assert recorder.totals.stats[Group("training", "numpy-loop", "")].solves == POINTS + 3200


def test_series_keeps_every_kind_from_the_first_solve_to_the_last():
    series = Series()
    for k in range(6 * POINTS):
        series.add(_record(k, kind=("training", "evaluation")[k % 2]), 1.0)
    for points in series.kinds.values():
        assert POINTS // 2 <= len(points) < POINTS
        assert points[0].n < 2
        assert points[-1].n > 6 * POINTS - 20
        assert len(set(np.diff([point.n for point in points]))) == 1


def test_few_solves_are_not_hidden_by_many_of_another_method():
    totals = Totals()
    for _ in range(500):
        totals.add(_record(method="euler", evaluations=1), 1.0)
    for _ in range(12):
        totals.add(_record(method="dopri5", evaluations=40, measuring=14), 3.0)
    assert {group.method: stats.evaluations for group, stats in totals.stats.items()} == {"euler": 500, "dopri5": 480}
    assert sum(stats.measuring for stats in totals.stats.values()) == 12 * 14
    assert totals.penalty / totals.known == pytest.approx((500 + 36) / 512)


@fault(
    "numbers of a penalty are still computed on a device when their solve ends",
    "the script does not wait for them; they are written when they are there",
)
def test_numbers_on_a_device_are_not_waited_for(tmp_path):
    Late.there.clear()
    path = tmp_path / "stats.jsonl"
    recorder = Recorder(path)
    began = time.monotonic()
    for k in range(3):
        recorder(_record(k, adapter="late-loop"))
    assert time.monotonic() - began < 0.2
    time.sleep(0.4)
    assert path.read_text() == ""
    Late.there.set()
    recorder.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["penalty"] for line in lines] == [1.0, 2.0, 3.0]
    assert not [thread for thread in threading.enumerate() if thread.name == "solvertap"]


def test_value_that_is_no_number_is_written_as_missing(tmp_path):
    path = tmp_path / "stats.jsonl"
    recorder = Recorder(path)
    recorder(_record()._replace(penalty=np.ones(3)))
    recorder.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["penalty"] is None


@fault(
    "a listener of `regularize` raises",
    "it is reported once and not called again; the solve goes on",
)
def test_listener_that_raises_stops_no_solve():
    heard = []

    def listen(record):
        heard.append(record)
        raise OSError("disk full")

    with tap.regularize(listener=listen) as regularizer, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(3):
            regularizer.record(_record(k))
    assert [str(each.message).count("disk full") for each in caught] == [1]
    assert len(heard) == 1
    assert regularizer.stats["training"].solves == 3


def test_frameworks_give_their_scalars_as_numbers():
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    adapters = registry.plugins().adapters
    assert adapters["torchdiffeq"].soon([torch.tensor(1.5, requires_grad=True), torch.tensor(2.0)])() == [1.5, 2.0]
    assert adapters["diffrax"].soon([jnp.asarray(1.5), np.asarray(2.0)])() == [1.5, 2.0]
