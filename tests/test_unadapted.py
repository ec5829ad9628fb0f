"""A library that solves without an adapter is named where nothing was seen."""

import sys
import warnings
from types import ModuleType

import pytest

import solvertap as tap
from solvertap import adapting, errors
from solvertap.observing import unadapted
from solvertap.plugins import registry
from tests.faults import fault


@pytest.fixture
def torchdde(monkeypatch):
    monkeypatch.setattr(unadapted, "_said", set())
    monkeypatch.setitem(sys.modules, "torchdde", ModuleType("torchdde"))


def _warned():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with tap.regularize():
            pass
    return [str(each.message) for each in caught if "adapter is written" in str(each.message)]


@fault(
    "a block of `regularize` ends without a solve, and a solver library without an adapter is in use",
    "one warning in a process names the library and says what to do",
)
def test_block_without_a_solve_names_the_library_once(torchdde):
    warned = [each for each in _warned() if "`torchdde`" in each]
    assert len(warned) == 1
    assert "docs/plugins.md" in warned[0]
    assert not _warned()


def test_penalty_of_a_block_without_a_solve_names_the_library(torchdde):
    with tap.observe(tap.LocalError()) as seen:
        pass
    with pytest.raises(errors.NothingObservedError, match="`torchdde` has been imported"):
        _ = seen.penalty


@fault(
    "code brings a copy of torchdiffeq under a name of its own",
    "where nothing was seen, the copy is named",
)
def test_copy_of_a_library_is_named_and_a_module_of_the_same_name_is_not(monkeypatch, torchdde):
    copy, other = ModuleType("lib.torchdiffeq"), ModuleType("backends.torchdiffeq")
    exec("def odeint(): pass", vars(copy))
    other.odeint = copy.odeint  # imported, not its own
    monkeypatch.setitem(sys.modules, "lib.torchdiffeq", copy)
    monkeypatch.setitem(sys.modules, "backends.torchdiffeq", other)
    assert {"torchdde", "lib.torchdiffeq"} <= set(unadapted.imported())
    assert "backends.torchdiffeq" not in unadapted.imported()


def test_adapter_of_somebody_takes_the_library_off_the_list(monkeypatch, torchdde):
    class Mine(adapting.Adapter):
        name, module = "mine", "torchdde"

        def attach(self, patches):
            pass

    assert "torchdde" in {library.module for library in unadapted.unadapted()}
    monkeypatch.setitem(registry.plugins().adapters, "mine", Mine())
    assert "torchdde" not in {library.module for library in unadapted.unadapted()}
    assert "torchdde" not in unadapted.imported()


def test_what_a_torch_user_cannot_have_done_is_not_said(monkeypatch):
    with tap.observe() as seen:
        pass
    monkeypatch.setitem(sys.modules, "jax", ModuleType("jax"))
    with pytest.raises(errors.NothingObservedError, match=r"nothing was solved.*no adapter.*jit"):
        seen._seen()
    monkeypatch.delitem(sys.modules, "jax")
    with pytest.raises(errors.NothingObservedError, match="no adapter") as caught:
        seen._seen()
    assert "jit" not in str(caught.value)


def test_command_lists_what_is_installed_without_an_adapter(monkeypatch):
    pytest.importorskip("typer")
    pytest.importorskip("jax")
    from rich.console import Console

    from solvertap.cli.adapters import print_unadapted
    from solvertap.plugins.registry import plugins

    monkeypatch.delitem(plugins().adapters, "jax_ode", raising=False)
    console = Console(width=200)
    with console.capture() as captured:
        print_unadapted(console)
    assert "jax.experimental.ode (jax " in captured.get()
