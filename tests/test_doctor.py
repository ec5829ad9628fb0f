"""`solvertap doctor`: it passes where all is well, and finds each kind of damage."""

import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

import solvertap as tap
from solvertap.cli.app import app
from solvertap.doctor import examine
from solvertap.plugins import Plugins
from tests import numpy_solver
from tests.faults import fault


def _adapter(name):
    adapter = tap.plugins().adapters[name]
    pytest.importorskip(adapter.module)
    return adapter


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchdiffeq", "torchsde", "diffrax"])
def test_every_promise_is_kept_by_what_is_installed_here(name):
    checkup = examine(_adapter(name))
    assert checkup.failure is None
    assert [fact.name for fact in checkup.facts[-5:]] == [
        "local_error",
        "gradient of local_error",
        "stiffness",
        "gradient of stiffness",
        "restored",
    ]
    assert re.search("[1-9] steps kept, [1-9]", checkup.facts[-5].found)
    assert not tap.attached()


def test_adapter_without_a_trial_has_its_patches_checked(monkeypatch):
    if "numpy-loop" not in tap.plugins().adapters:
        tap.register(numpy_solver.NumpyAdapter())
    checkup = examine(tap.plugins().adapters["numpy-loop"])
    assert [fact.name for fact in checkup.facts] == ["fits", "restored"]
    assert checkup.failure is None


def _changed_step(monkeypatch):
    """A tap that moves the solution by a rounding, as a careless one would."""
    from solvertap.phases import current
    from solvertap_torchdiffeq import _recording

    original = _recording.tapped_loop

    def careless(adapter, patches, integrate):
        tapped = original(adapter, patches, integrate)

        def end(self, *args):
            result = tapped(self, *args)
            return result * (1 + 1e-15) if current().observers else result

        return end

    monkeypatch.setattr(_recording, "tapped_loop", careless)


def _attached_gradient(monkeypatch):
    """A measure whose gradient is not that of its value."""
    from solvertap import builtin_terms

    original = builtin_terms.local_error_gradient
    monkeypatch.setattr(
        builtin_terms, "local_error_gradient", lambda step, by, *others: original(step, 0.5 * by, *others)
    )


def _all_steps_folded(monkeypatch):
    """A fold that does not leave rejected steps out."""
    from dataclasses import replace

    from solvertap.fold import Fold

    original = Fold.update
    folded = lambda self, carry, step, draws: original(self, carry, replace(step, accepted=True), draws)  # noqa: E731
    monkeypatch.setattr(Fold, "update", folded)


def _kept_patch(monkeypatch):
    from solvertap.patching import Patch

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
    assert len(re.findall("^torch.*: pass$", result.stdout, re.MULTILINE)) == 2
    assert "gradient of stiffness" in result.stdout


def test_unknown_adapter_is_one_sentence_with_the_choices():
    done = subprocess.run(
        [sys.executable, "-c", "from solvertap.cli import main; main()", "doctor", "torchdifeq"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: No adapter is named 'torchdifeq'; the choices are: ")


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
            heard.append(float(np.asarray(step.accepted)))

    fresh = Plugins()
    fresh.discover()
    monkeypatch.setattr(sys.modules["solvertap.plugins"], "_plugins", fresh)
    fresh.register(Broken(), "broken")
    fresh.register(Sound(), "sound")
    result = CliRunner().invoke(app, ["adapters"])
    assert result.exit_code == 0
    assert result.stdout.count("Failed: ") == 1
    assert (
        "Failed: the plugin 'broken' of 'this process': raised OSError in `solvertap_step`: disk full" in result.stdout
    )
    assert heard
