"""`solvertap doctor`: it passes where all is well, and finds each kind of damage."""

import re
import subprocess
import sys
from functools import partial, wraps

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

import solvertap as tap
from solvertap import adapting, errors
from solvertap.cli.app import app
from solvertap.plugins import registry
from solvertap.plugins.manager import Plugins
from solvertap.testing import conformance
from tests import numpy_solver
from tests.faults import fault

examine = partial(conformance.examine, promises=conformance.QUICK)


def _adapter(name):
    adapter = registry.plugins().adapters[name]
    pytest.importorskip(adapter.module)
    return adapter


@fault(
    "an adapter brings no trial",
    "its patches are checked, and `solvertap doctor` says that nothing else was examined, with exit code 0",
)
def test_adapter_without_a_trial_is_not_said_to_pass(monkeypatch):
    if "numpy-loop" not in registry.plugins().adapters:
        tap.register(numpy_solver.NumpyAdapter())
    checkup = examine(registry.plugins().adapters["numpy-loop"])
    assert [fact.name for fact in checkup.facts] == ["fits", "restored"]
    assert checkup.failure is None
    assert not checkup.tried
    result = CliRunner().invoke(app, ["doctor", "numpy-loop"])
    assert result.exit_code == 0, result.stdout
    assert result.stdout == "numpy-loop: not examined beyond its patches, it brings no trial\n"


def _own_loop(monkeypatch, **changes):
    """The adapter of `examples/own_solver_torch.py`, with a trial; its name is then known to the command."""
    pytest.importorskip("torch")
    from tests.own_loop import load

    adapter, module = load(monkeypatch, **changes)
    monkeypatch.setitem(registry.plugins().adapters, adapter.name, adapter)
    return adapter, module


def test_example_of_an_own_loop_keeps_every_promise(monkeypatch):
    adapter, _ = _own_loop(monkeypatch)
    checkup = examine(adapter)
    assert checkup.failure is None
    assert checkup.tried
    assert checkup.refused == ()
    assert len(checkup.facts) == 1 + 6 + 1 + 4 + 1


def _without_estimates(self, original):
    """The tap of a loop whose steps nobody describes: it counts, and refuses whatever else is asked."""

    def integrate(field, y, *args):
        solve = adapting.open_solve(self, like=y)
        if solve is None:
            return original(field, y, *args)
        solve.refuse(errors.NoEstimateError("This solver shows nothing of its steps; observe without a term."))
        with solve:
            return original(field, y, *args)

    return integrate


@fault(
    "an adapter refuses the terms that its solver cannot serve",
    "a promise kept: `solvertap doctor` passes it and names them",
)
def test_adapter_that_refuses_terms_keeps_its_promise_and_is_told_so(monkeypatch):
    _own_loop(monkeypatch, tapped_integrate=_without_estimates)
    result = CliRunner().invoke(app, ["doctor", "own-solver-torch", "--verbose"])
    assert result.exit_code == 0, result.stdout
    assert "own-solver-torch: pass, and refuses: local_error, stiffness\n" in result.stdout
    assert "refused: This solver shows" in result.stdout


def test_term_that_is_not_refused_is_examined_beside_one_that_is(monkeypatch):
    adapter, module = _own_loop(monkeypatch)

    class Tapped(module.Tapped):  # that does not offer its field, which the stiffness of such a pair needs
        def settle(self, accepted):
            if self.attempt is not None:
                self.solve.step(tap.Step(**self.attempt, accepted=accepted))
            self.attempt = None

    monkeypatch.setattr(module, "Tapped", Tapped)
    checkup = examine(adapter)
    assert checkup.failure is None
    assert checkup.refused == ("stiffness",)
    named = {fact.name: fact.found for fact in checkup.facts}
    assert named["stiffness"].startswith("refused: `Stiffness` compares")
    assert "accepted steps" in named["local_error"]


def _never_finished(module):
    solve = adapting.Solve
    return solve, "__exit__", lambda *_: None, "finished", "one not finished"


def _unfit_later(module):
    settle, steps = module.Tapped.settle, []

    def unfit(self, accepted):
        steps.append(accepted)
        if self.attempt is not None and len(steps) % 3 == 0:
            self.attempt["error"] = self.attempt["error"][0]
        settle(self, accepted)

    return module.Tapped, "settle", unfit, "runs", r"StepError: .*'own-solver-torch' handed over error of shape \(2,\)"


@pytest.mark.parametrize("damage", [_never_finished, _unfit_later])
def test_damage_of_an_own_loop_is_found_in_later_steps_too(damage, monkeypatch):
    adapter, module = _own_loop(monkeypatch)
    owner, name, broken, fact, found = damage(module)
    monkeypatch.setattr(owner, name, broken)
    failure = examine(adapter).failure
    assert failure.name == fact, failure
    assert re.search(found, failure.found)


def _changed_step(monkeypatch):
    """A tap that moves the solution by a rounding, as a careless one would."""
    from solvertap.solves.scope import current
    from solvertap_torchdiffeq import _taps

    original = _taps.tapped_loop

    def careless(adapter, patches, integrate):
        tapped = original(adapter, patches, integrate)

        @wraps(integrate)  # else its class would be remembered as one whose steps cannot be seen
        def end(self, *args):
            result = tapped(self, *args)
            return result * (1 + 1e-15) if current().observers else result

        return end

    monkeypatch.setattr(_taps, "tapped_loop", careless)


def _attached_gradient(monkeypatch):
    """A measure whose gradient is not that of its value."""
    from solvertap.terms import error_and_stiffness as builtin_terms

    original = builtin_terms.local_error_gradient
    monkeypatch.setattr(
        builtin_terms, "local_error_gradient", lambda step, by, *others: original(step, 0.5 * by, *others)
    )


def _all_steps_folded(monkeypatch):
    """A tap that does not leave rejected steps out."""
    from solvertap_torchdiffeq._field import TappedField

    original = TappedField.settle
    monkeypatch.setattr(TappedField, "settle", lambda self, accepted: original(self, accepted=True))


def _kept_patch(monkeypatch):
    from solvertap.attaching.patch import Patch

    original = Patch.write

    def write(self, value):
        if not (self.name == "_runge_kutta_step" and value is self.original):
            original(self, value)

    monkeypatch.setattr(Patch, "write", write)


@pytest.mark.parametrize(
    ("damage", "name", "found"),
    [
        (_changed_step, "solution, counted", "off by .* from the bare one"),
        (_all_steps_folded, "local_error", "from a replay"),
        (_attached_gradient, "gradient of local_error", "from difference quotients"),
        (_kept_patch, "restored", "not given back: .*_runge_kutta_step"),
    ],
    ids=["solution", "fold", "gradient", "restoration"],
)
def test_damage_is_found_and_named(damage, name, found, monkeypatch):
    adapter = _adapter("torchdiffeq")
    tap.detach()
    damage(monkeypatch)
    failure = examine(adapter).failure
    assert failure.name == name, failure
    assert re.search(found, failure.found)
    monkeypatch.undo()
    tap.detach()


@fault(
    "a framework was upgraded to one that an adapter does not fit",
    "`solvertap doctor` names the first promise that is broken, with exit code 1",
)
def test_command_prints_the_first_failing_fact_and_exits_with_1(monkeypatch):
    adapter = _adapter("torchdiffeq")
    from torchdiffeq._impl import misc

    tap.detach()
    with monkeypatch.context() as patched:
        patched.delattr(misc, "_rms_norm")
        with pytest.warns(RuntimeWarning, match="_rms_norm"):
            result = CliRunner().invoke(app, ["doctor", "torchdiffeq"])
    assert result.exit_code == 1
    assert f"torchdiffeq {adapter.version()}: FAIL, fits: " in result.stdout
    assert "has no '_rms_norm'" in result.stdout


def test_command_passes_with_exit_code_0_and_lists_every_fact_when_asked():
    _adapter("torchdiffeq")
    result = CliRunner().invoke(app, ["doctor", "torch", "torchdiffeq", "--verbose"])
    assert result.exit_code == 0, result.stdout
    assert len(re.findall("^torchdiffeq .*: pass$", result.stdout, re.MULTILINE)) == 1
    assert len(re.findall("^torch .*: not examined beyond its patches", result.stdout, re.MULTILINE)) == 1
    assert "gradient of stiffness" in result.stdout


def test_unknown_adapter_is_one_sentence_with_the_choices():
    done = subprocess.run(
        [sys.executable, "-c", "from solvertap.cli import main; main()", "doctor", "torchdifeq"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "Error: No adapter is named 'torchdifeq' (did you mean 'torchdiffeq'?); the choices are: "
    )


def test_exception_of_the_trial_is_the_fact_that_failed(monkeypatch):
    adapter = _adapter("torchdiffeq")
    checkup = examine(adapter, device="no-such-device")
    assert checkup.failure.name == "runs"
    assert "no-such-device" in checkup.failure.found


@fault("an observer raises", "the solve goes on, the others hear it, and `solvertap adapters` names the culprit")
def test_adapters_lets_observers_hear_a_solve_and_names_the_one_that_raises(monkeypatch):
    _adapter("torchdiffeq")

    class Broken:
        @tap.hookimpl
        def solvertap_step(self, step):
            raise OSError("disk full")

    heard = []

    class Sound:
        @tap.hookimpl
        def solvertap_step(self, step):
            heard.append(type(step).__name__)  # a step of JAX is traced

    fresh = Plugins()
    fresh.discover()
    monkeypatch.setattr(sys.modules["solvertap.plugins.registry"], "_plugins", fresh)
    fresh.register(Broken(), "broken")
    fresh.register(Sound(), "sound")
    result = CliRunner().invoke(app, ["adapters"])
    assert result.exit_code == 0
    assert result.stdout.count("Failed: ") == 1
    assert (
        "Failed: the plugin 'broken' of 'this process': raised OSError in `solvertap_step`: disk full" in result.stdout
    )
    assert heard
