"""The whole way of a step, on a solver of three dozen lines in NumPy: no framework is needed."""

import importlib
import threading
import warnings

import numpy as np
import pytest

import solvertap as tap
from solvertap import errors
from solvertap.plugins import registry
from tests import numpy_solver
from tests.faults import fault
from tests.oracle import reduce_steps, scaled_error

Y0 = np.array([1.0, 0.5])
TERM = 100 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")


def field(t, y):
    return np.array([[-1.0, 30.0], [-30.0, -1.0]]) @ y + np.sin(5 * t)


@pytest.fixture(scope="module", autouse=True)
def _registered():
    if "numpy-loop" not in registry.plugins().adapters:
        tap.register(numpy_solver.NumpyAdapter())


def _solve():
    return numpy_solver.solve(field, Y0, 0.0, 1.0, h=0.5)


@fault(
    "a solve is observed",
    "its solution is bitwise the one it would have been",
)
def test_observed_solve_is_the_solve():
    bare = _solve()
    with tap.observe(TERM, trace=True):
        assert np.array_equal(_solve(), bare)
    assert np.array_equal(_solve(), bare)


def test_values_are_those_of_the_accepted_steps():
    steps = []

    def tap_by_hand(a, b, y, y1, error, slopes, accepted):
        if accepted:
            before = y + (b - a) * sum(c * k for c, k in zip(numpy_solver.A[5], slopes[:5], strict=True))
            steps.append(
                (
                    b - a,
                    scaled_error(error, y, y1, 1e-6, 1e-6),
                    np.linalg.norm(slopes[-1] - slopes[-2]) / np.linalg.norm(y1 - before),
                )
            )

    numpy_solver.solve(field, Y0, 0.0, 1.0, h=0.5, tap=tap_by_hand)
    with tap.observe(TERM) as seen:
        _solve()
    hs, error, stiff = zip(*steps, strict=True)
    assert seen.stats.rejected > 0
    assert seen.stats.accepted == len(steps)
    assert seen.stats.evaluations == 7 * (seen.stats.accepted + seen.stats.rejected)
    assert seen.values["local_error"] == pytest.approx(reduce_steps(error, hs, "sum", True), rel=1e-12)
    assert seen.values["stiffness"] == pytest.approx(max(stiff), rel=1e-9)
    assert seen.penalty == pytest.approx(100 * seen.values["local_error"] + 0.1 * seen.values["stiffness"])


def test_trace_has_every_attempt_and_its_times_join():
    with tap.observe(trace=True) as seen:
        _solve()
    trace = seen.trace.numpy()
    kept = trace["accepted"]
    assert len(kept) == seen.stats.accepted + seen.stats.rejected
    assert (~kept).sum() == seen.stats.rejected > 0
    assert np.allclose(trace["t"][kept][1:], (trace["t"] + trace["h"])[kept][:-1])
    assert np.all(trace["local_error"][kept] <= 1)
    assert np.all(trace["local_error"][~kept] > 1)
    assert np.allclose(trace["stiffness"], np.abs(-1 + 30j), rtol=0.05)


@fault(
    "blocks are nested",
    "each sees every solve inside it, with terms of its own",
)
def test_nested_observations_each_see_the_solves_inside_them():
    with tap.observe(TERM) as outer:
        _solve()
        with tap.observe(tap.LocalError(reduce="mean")) as inner:
            _solve()
    assert (outer.stats.solves, inner.stats.solves) == (2, 1)
    assert set(inner.values) == {"local_error"}
    assert outer.values["local_error"] == pytest.approx(2 * inner.values["local_error"] * inner.stats.accepted)


@fault(
    "a solve fails, and the next one of the block succeeds",
    "the failed one counts for nothing",
)
def test_failed_solve_counts_for_nothing_and_its_exception_passes():
    def failing(t, y):
        if t > 0.2:
            raise ZeroDivisionError("the user's own")
        return field(t, y)

    with tap.observe(TERM) as seen:
        with pytest.raises(ZeroDivisionError, match="the user's own"):
            numpy_solver.solve(failing, Y0, 0.0, 1.0, h=0.05)
        _solve()
    assert seen.stats.solves == 1


@fault(
    "threads observe at the same time",
    "each sees its own solves alone",
)
def test_threads_see_only_their_own_solves():
    seen = {}

    def work(name, count):
        with tap.observe(TERM) as mine:
            for _ in range(count):
                _solve()
        seen[name] = mine.stats.solves

    with tap.observe() as main:
        threads = [threading.Thread(target=work, args=(n, n)) for n in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {1: 1, 2: 2, 3: 3}
    assert main.stats.solves == 0


@fault(
    "a block in which nothing was solved is asked for its penalty",
    "`NothingObservedError`, with the reasons there can be",
)
def test_nothing_solved_is_said():
    with tap.observe(TERM) as seen:
        pass
    with pytest.raises(errors.NothingObservedError, match="No solve was seen"):
        _ = seen.penalty
    assert seen.stats == tap.Stats()


@fault(
    "a penalty or a trace is read that was not asked for",
    "one sentence that says how to ask",
)
def test_values_without_a_term_and_traces_without_asking_are_refused():
    with tap.observe() as seen:
        _solve()
    with pytest.raises(errors.NothingObservedError, match="No term"):
        _ = seen.penalty
    with pytest.raises(errors.InvalidInputError, match="trace=True"):
        _ = seen.trace


@fault(
    "a block of several solves is asked for its trace",
    "one sentence: each solve has its own",
)
def test_trace_of_several_solves_is_asked_of_each():
    with tap.observe(trace=True) as seen:
        _solve()
        _solve()
    with pytest.raises(errors.InvalidInputError, match="2 solves"):
        _ = seen.trace
    assert all(solve.trace.length > 0 for solve in seen.solves)


def test_functional_form_returns_result_and_observation():
    result, seen = tap.tapped(_solve, TERM)()
    assert np.array_equal(result, _solve())
    assert seen.penalty > 0


@fault(
    "a solve follows `tap.detach()`",
    "it is not observed; the next block attaches again",
)
def test_everything_is_given_back():
    with tap.observe():
        pass
    assert vars(numpy_solver)["solve"].__name__ == "tapped_solve"
    assert "numpy-loop" in tap.attached()
    tap.detach()
    assert vars(numpy_solver)["solve"].__name__ == "solve"
    assert not tap.attached()
    with tap.observe() as seen:
        _solve()
    assert seen.stats.solves == 1


@fault("a library is reloaded in place", "the next block patches what is there now")
def test_reloaded_library_is_attached_anew():
    with tap.observe():
        pass
    importlib.reload(numpy_solver)
    own = vars(numpy_solver)["solve"]
    with tap.observe() as seen:
        _solve()
    assert seen.stats.solves == 1
    tap.detach()
    assert vars(numpy_solver)["solve"] is own


def test_observers_hear_of_a_solve_and_cannot_stop_it(monkeypatch):
    monkeypatch.setattr(registry.plugins(), "failures", [])  # so that no other test hears of this one's
    heard = []

    class Observer:
        @tap.hookimpl
        def solvertap_solve_started(self, solve):
            heard.append(solve.adapter.name)

        @tap.hookimpl
        def solvertap_step(self, step):
            heard.append(step.accepted)
            raise OSError("disk full")

        @tap.hookimpl
        def solvertap_solve_finished(self, adapter, stats):
            heard.append((adapter, stats.accepted))

    observer = Observer()
    tap.register(observer)
    try:
        with pytest.warns(RuntimeWarning, match="disk full") as warned, tap.observe() as seen:
            _solve()
    finally:
        registry.plugins().manager.unregister(observer)
    assert len(warned) == 1
    assert heard[0] == "numpy-loop"
    assert heard[1:-1].count(True) == seen.stats.accepted
    assert heard[-1] == ("numpy-loop", seen.stats.accepted)


@fault(
    "a term raises",
    "the exception passes: a penalty that silently went missing would be worse than a crash",
)
def test_exception_of_a_term_is_raised():
    def wrong(step):
        raise ArithmeticError("in the term")

    with pytest.raises(ArithmeticError, match="in the term"), tap.observe(tap.term(wrong, name="wrong")):
        _solve()


def test_idle_solves_are_not_looked_at():
    with tap.observe():
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _solve()
