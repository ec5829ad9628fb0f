"""Discovery: by entry point, each in its own try; a broken plugin never takes the others down."""

import os
import subprocess
import sys
from importlib import metadata
from textwrap import dedent

import pytest

import solvertap as tap
from solvertap import errors
from solvertap.plugins import registry
from solvertap.plugins.manager import Plugins
from tests.distribution import install
from tests.faults import fault
from tests.numpy_solver import NumpyAdapter


class FakeDistribution:
    def __init__(self, name):
        self.name = name


def _entry(name, plugin, distribution="somebody"):
    """An entry point that loads an object of this test, or raises what it is."""

    class Entry:
        value = f"{distribution}:{name}"
        dist = FakeDistribution(distribution)

        def load(self):
            if isinstance(plugin, Exception):
                raise plugin
            return plugin

    Entry.name = name
    return Entry()


def _discover(monkeypatch, *entries):
    monkeypatch.setattr(metadata, "entry_points", lambda group: list(entries))
    found = Plugins()
    found.discover()
    return found


class Good:
    @tap.hookimpl
    def solvertap_adapters(self):
        return [NumpyAdapter()]

    @tap.hookimpl
    def solvertap_terms(self):
        return {"kinetic": tap.term(lambda step: step.y1.mean(), name="kinetic")}


class Misspelled:
    @tap.hookimpl
    def solvertap_adapter(self):
        return []


class WrongThing:
    @tap.hookimpl
    def solvertap_adapters(self):
        return ["no adapter"]


class TakenTerm:
    @tap.hookimpl
    def solvertap_terms(self):
        return {"stiffness": tap.Stiffness()}


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (ImportError("no module named gone"), "ImportError: no module named gone"),
        (Misspelled(), "solvertap_adapter"),
        (WrongThing(), "'no adapter'"),
        (TakenTerm(), "'stiffness' is already registered"),
    ],
    ids=["import", "misspelled", "wrong thing", "taken term"],
)
@fault(
    "a plugin raises at import, misspells a hook, brings a thing that is no adapter, or a name that is taken",
    "the others work; `solvertap adapters` names it with the reason",
)
def test_broken_plugin_is_named_and_the_others_work(monkeypatch, plugin, reason):
    found = _discover(monkeypatch, _entry("broken", plugin, "culprit"), _entry("good", Good()))
    assert list(found.adapters) == ["numpy-loop"]
    assert "kinetic" in found.terms
    (failure,) = found.failures
    assert (failure.name, failure.distribution) == ("broken", "culprit")
    assert reason in failure.reason


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        (None, "raised TypeError in `solvertap_commands`: 'NoneType' object is not iterable"),
        ([3], "gave 3 in `solvertap_commands`; give a function"),
    ],
    ids=["no list", "no function"],
)
@fault(
    "a plugin gives no list of commands, or one that is no function",
    "the command line has the others; `solvertap adapters` names the plugin with the reason",
)
def test_plugin_that_fails_to_give_its_commands_harms_nobody(monkeypatch, commands, reason):
    def hello():
        pass

    class Commands:
        def __init__(self, given):
            self.given = given

        @tap.hookimpl
        def solvertap_commands(self):
            return self.given

    found = _discover(monkeypatch, _entry("broken", Commands(commands)), _entry("good", Commands([hello])))
    for _ in range(2):
        assert found.commands() == [hello]
        (failure,) = found.failures
        assert (failure.name, failure.reason) == ("broken", reason)


@fault(
    "two plugins of one name",
    "the second is refused, by name",
)
def test_two_plugins_of_one_name_are_refused_by_name(monkeypatch):
    found = _discover(monkeypatch, _entry("good", Good(), "first"), _entry("good", Good(), "second"))
    assert list(found.adapters) == ["numpy-loop"]
    (failure,) = found.failures
    assert (failure.distribution, failure.reason) == ("second", "the name 'good' is already taken by 'first'")


def test_one_plugin_listed_twice_is_one_plugin(monkeypatch):
    good = Good()
    found = _discover(monkeypatch, _entry("good", good), _entry("good", good))
    assert not found.failures


def test_plugin_may_register_while_it_is_imported():
    script = (
        "import sys, types, importlib.metadata as metadata\n"
        "import solvertap as tap\n"
        "from solvertap.plugins import registry\n"
        "class Entry:\n"
        "    name, value, dist = 'eager', 'eager', types.SimpleNamespace(name='eager')\n"
        "    def load(self):\n"
        "        tap.register(types.SimpleNamespace())\n"
        "        return types.SimpleNamespace(solvertap_terms=tap.hookimpl(lambda: {'mine': tap.Stiffness()}))\n"
        "metadata.entry_points = lambda group: [Entry()]\n"
        "assert 'mine' in registry.plugins().terms and not registry.plugins().failures\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_unknown_term_lists_the_known_ones():
    with pytest.raises(errors.UnknownNameError, match="local_error, stiffness") as refusal:
        registry.plugins().term("stifness")
    assert isinstance(refusal.value, LookupError)


@fault(
    "the framework of a plugin is not installed",
    "no failure: listed as not installed",
)
def test_adapter_of_a_framework_that_is_not_there_is_no_failure():
    class Absent(NumpyAdapter):
        name = "absent"
        module = "a_framework_nobody_has"
        distribution = "a-framework-nobody-has"

    adapter = Absent()
    assert adapter.version() is None
    assert adapter.is_tested() is None


@fault(
    "an adapter fails half way through attaching",
    "what it patched is undone, a warning says why",
)
def test_adapter_that_does_not_fit_is_reported_and_nothing_is_half_done():
    import tests.numpy_solver as solver

    class Misfit(NumpyAdapter):
        name = "misfit"

        def attach(self, patches):
            super().attach(patches)
            patches.replace(solver, "no_such_function", lambda original: original)

    tap.register(Misfit())
    original = vars(solver)["solve"]
    try:
        with pytest.warns(RuntimeWarning, match=r"misfit.*no_such_function"), tap.observe():
            pass
    finally:
        del registry.plugins().adapters["misfit"]
    tap.detach()
    assert vars(solver)["solve"] is original


def test_two_adapters_of_one_function_are_detached_from_it():
    import tests.numpy_solver as solver

    class Other(NumpyAdapter):
        name = "other-loop"

    original = vars(solver)["solve"]
    both = Other(), type("Third", (NumpyAdapter,), {"name": "third-loop"})()
    try:
        for adapter in both:
            tap.register(adapter)
        with tap.observe():
            assert {"other-loop", "third-loop"} <= tap.attached()
            assert vars(solver)["solve"] is not original
        tap.detach()
        assert vars(solver)["solve"] is original
    finally:
        for adapter in both:
            registry.plugins().adapters.pop(adapter.name, None)


@pytest.mark.slow
def test_plugin_of_another_distribution_is_found_through_its_entry_point(tmp_path):
    """A tiny distribution, built and installed into an environment of its own beside this one's packages."""
    solver = "def solve(y):\n    return euler(y)\n\n\ndef euler(y):\n    return y + 1\n"
    plugin = dedent("""
        import numpy as np
        import solvertap as tap
        from solvertap import adapting

        class Tiny(adapting.Adapter):
            name, module, distribution, tested = "tiny", "tiny_solver", "solvertap-tiny", ">=1,<2"

            def attach(self, patches):
                import tiny_solver
                patches.replace(tiny_solver, "euler", self.tapped)

            def tapped(self, euler):
                def tapped_euler(y):
                    with adapting.open_solve(self, like=y) as solve:
                        y1 = euler(y)
                        solve.step(tap.Step(t0=0.0, t1=1.0, y0=y, y1=y1))
                    return y1
                return tapped_euler

        @tap.hookimpl
        def solvertap_adapters():
            return [Tiny()]

        @tap.hookimpl
        def solvertap_terms():
            return {"travel": tap.term(lambda step: (step.y1 - step.y0).mean(), name="travel")}
    """)
    files = {"tiny_solver.py": solver, "solvertap_tiny.py": plugin}
    python = install(tmp_path, "solvertap-tiny", "1.2.3", "solvertap_tiny", files)
    script = (
        "import numpy as np, solvertap as tap, tiny_solver\n"
        "from solvertap.plugins import registry\n"
        "found = registry.plugins()\n"
        "assert not found.failures, found.failures\n"
        "assert found.adapters['tiny'].version() == '1.2.3' and found.adapters['tiny'].is_tested()\n"
        "with tap.observe(3 * found.term('travel')) as seen:\n"
        "    tiny_solver.solve(np.zeros(2))\n"
        "print(float(seen.penalty))\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([python, "-c", script], check=True, capture_output=True, text=True, env=clean)
    assert done.stdout == "3.0\n"
