"""The conformance kit: every adapter of the box passes it, and each kind of broken one fails it by name."""

import inspect
import re
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import solvertap as tap
from solvertap import adapting
from solvertap.plugins import registry
from solvertap.testing.conformance import PROMISES, examine
from tests import own_loop

BOX = sorted(name for name, adapter in registry.plugins().adapters.items() if adapter.serves.names)
BOX = [name for name in BOX if registry.plugins().adapters[name].distribution is not None]


@pytest.mark.parametrize("name", BOX)
def test_adapter_of_the_box_conforms(name):
    adapter = registry.plugins().adapters[name]
    pytest.importorskip(adapter.module)
    report = examine(adapter)
    assert not report.failures, report
    assert report.tried
    assert len(report.facts) > len(PROMISES)


# --- A loop of one's own, and what may be wrong with its adapter ------------------------------------------------------
def test_adapter_of_an_own_loop_conforms(monkeypatch):
    adapter, _ = own_loop.load(monkeypatch)
    report = examine(adapter)
    assert not report.failures, report


def test_adapter_of_an_own_traced_loop_conforms(monkeypatch):
    pytest.importorskip("diffrax")
    from tests import own_loop_jax

    adapter, _ = own_loop_jax.load(monkeypatch)
    report = examine(adapter)
    assert not report.failures, report


def _counted_twice(module, patch):
    call = module.Tapped.__call__

    def twice(self, t, y):
        self.solve.counts.evaluations += 1
        return call(self, t, y)

    patch(module.Tapped, "__call__", twice)


def _rejected_summed(module, patch):
    settle = module.Tapped.settle
    patch(module.Tapped, "settle", lambda self, accepted: settle(self, accepted=True))


def _state_shared_by_threads(module, patch):
    begin = module.Tapped.__init__

    def shared(self, field, solve, tolerance):
        begin(self, field, solve, tolerance)
        module.Tapped.solve_of_all = solve

    step = module.Tapped.settle

    def settle(self, accepted):
        self.solve = module.Tapped.solve_of_all
        step(self, accepted)

    patch(module.Tapped, "__init__", shared)
    patch(module.Tapped, "settle", settle)


def _solution_moved(module, patch):
    tapped = module.OwnSolver.tapped_integrate

    def moved(self, original):
        integrate = tapped(self, original)

        def careless(*args):
            y = integrate(*args)
            return y * (1 + 1e-15) if tap.adapting.regularizing() or _observed() else y

        return careless

    patch(module.OwnSolver, "tapped_integrate", moved)


def _observed():
    from solvertap.solves.scope import current

    return current().observers


def _handed_over(**change):
    """A fault in what is handed over of each attempt: functions of the attempt, by the name of what they change."""

    def broken(module, patch):
        settle = module.Tapped.settle

        def changed(self, accepted):
            if self.attempt is not None:
                self.attempt |= {name: function(self.attempt) for name, function in change.items()}
            settle(self, accepted)

        patch(module.Tapped, "settle", changed)

    return broken


def _never_finished(module, patch):
    patch(adapting.Solve, "__exit__", lambda *_: None)


def _inner_solves_observed(module, patch):
    def call(self, t, y):
        self.solve.counts.evaluations += 1
        return self.field(t, y)

    patch(module.Tapped, "__call__", call)


def _exception_exchanged(module, patch):
    call = module.Tapped.__call__

    def exchanged(self, t, y):
        try:
            return call(self, t, y)
        except Exception as error:
            raise RuntimeError("the field failed") from error

    patch(module.Tapped, "__call__", exchanged)


def _not_given_back(module, patch):
    from solvertap.attaching.patches import Patch

    write = Patch.write
    patch(Patch, "write", lambda self, value: None if value is self.original else write(self, value))


def _last_step_lost(module, patch):
    settle = module.Tapped.settle

    def lost(self, accepted):
        if sys._getframe(1).f_code.co_name == "integrate":
            self.attempt = None
        settle(self, accepted)

    patch(module.Tapped, "settle", lost)


def _declares(**served):
    def broken(module, patch):
        patch(module.OwnSolver, "serves", adapting.Serves(regularize=True, **served))

    return broken


def _nothing_let_through(module, patch):
    patch(adapting.Solve, "through", lambda self, solution: solution)


def _step_sizes_not_held(module, patch):
    """The loop differentiates its step sizes, and the adapter leaves their gradient in what it hands over."""

    def is_accepted(error, y0, y1, tolerance):
        ratio = torch.sqrt(torch.mean((error / (tolerance + tolerance * torch.maximum(y0.abs(), y1.abs()))) ** 2))
        return bool(ratio <= 1), ratio

    source = inspect.getsource(module.integrate).replace("h *= ", "h = h * ")  # not in place, which torch refuses
    exec(source, vars(module))
    patch(module, "is_accepted", is_accepted)
    patch(own_loop.OwnTrial, "differentiates_steps", True)


def _evaluations_not_told_apart(module, patch):
    from solvertap.solves.stats import Counts

    patch(Counts, "move", lambda self, other, evaluations, diffusion_evaluations: None)


def _imported_by_name(module, patch):
    """The taps are on an attribute that the user's own import does not look up."""
    bare = module.integrate

    def solve(self, field, parameters, y0, t0, t1, *, rtol, atol, first):
        return bare(lambda t, y: field(t, y, parameters), y0, float(t0), float(t1), rtol, first)

    patch(own_loop.OwnTrial, "solve", solve)


_error_doubled = _handed_over(error=lambda attempt: 2 * attempt["error"])
_other_state = _handed_over(y0=lambda attempt: attempt["y1"])
_other_time = _handed_over(t0=lambda attempt: attempt["t0"] + 1e-3)

BROKEN = {
    "evaluations counted twice": (_counted_twice, "counts", "evaluations"),
    "rejected steps summed": (_rejected_summed, "steps", "steps, accepted where E <= 1"),
    "state shared by threads": (_state_shared_by_threads, "threads", "threads"),
    "solution moved by a rounding": (_solution_moved, "neutral", "solution, counted"),
    "error twice too large": (_error_doubled, "steps", "steps, accepted where E <= 1"),
    "state without gradient": (_handed_over(y1=lambda a: a["y1"].detach()), "terms", "gradient of local_error sum"),
    "state of another step": (_other_state, "steps", "steps, each from the state of the last one"),
    "times of another step": (_other_time, "steps", "steps, each from where the last one ended"),
    "never finished": (_never_finished, "neutral", "finished"),
    "solves of a field observed": (_inner_solves_observed, "fields that solve", "field that solves"),
    "exception exchanged": (_exception_exchanged, "fields that raise", "field that raises"),
    "patches not given back": (_not_given_back, "detaching", "restored"),
    "last step lost": (_last_step_lost, "steps", "steps, up to the end"),
    "align declared, not served": (_declares(align=True), "alignment", "aligned, parity"),
    "samples declared, not served": (_declares(samples=True), "samples", "samples"),
    "checkpoint declared, not served": (_declares(checkpoint=True), "neutral under checkpoint", "checkpoint"),
    "nothing let through": (_nothing_let_through, "regularized", "gradient, regularized"),
    "gradient left in step sizes": (_step_sizes_not_held, "terms", "gradient of local_error sum"),
    "evaluations of terms counted as its own": (_evaluations_not_told_apart, "counts", "evaluations, penalized"),
    "taps that an early import escapes": (_imported_by_name, "early import", "early import"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_adapter_fails_by_the_name_of_the_promise(kind, monkeypatch):
    damage, promise, name = BROKEN[kind]
    adapter, module = own_loop.load(monkeypatch)
    damage(module, monkeypatch.setattr)
    report = examine(adapter, promises={promise: PROMISES[promise]})
    monkeypatch.undo()
    tap.detach()
    assert name in {fact.name for fact in report.failures}, report


def test_adapter_without_a_trial_is_not_said_to_be_tried(monkeypatch):
    adapter, _ = own_loop.load(monkeypatch, trial=lambda self, device=None: None)
    report = examine(adapter)
    assert not report.tried
    assert [fact.name for fact in report.facts] == ["fits", "restored"]


def test_plugin_of_pytest_runs_each_promise_as_a_test(tmp_path):
    pytest.importorskip("torchdiffeq")
    command = [sys.executable, "-m", "pytest", "-p", "solvertap.testing.conformance.plugin", "-q", "--no-header"]
    done = subprocess.run(
        [*command, "--conform", "torchdiffeq", "-k", "counts or steps"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert re.search("2 passed", done.stdout), done.stdout


def test_plugin_of_pytest_names_what_it_does_not_find(tmp_path):
    command = [sys.executable, "-m", "pytest", "-p", "solvertap.testing.conformance.plugin", "--conform", "torchdifeq"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "No adapter is named 'torchdifeq' (did you mean 'torchdiffeq'?)" in done.stdout + done.stderr
