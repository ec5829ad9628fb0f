"""What is patched, for how long, and what happens where a library is not the one an adapter knows."""

import importlib
import subprocess
import sys
import warnings
from textwrap import dedent

import pytest

import solvertap as tap
from solvertap import errors
from solvertap.plugins import registry
from tests.faults import fault

pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

import torch
from torchdiffeq import odeint
from torchdiffeq._impl import misc, rk_common

from tests.test_torchdiffeq import TERM, TIMES, Field, _y0

LIBRARIES = {
    "torch": "torch.utils.checkpoint",
    "torchdiffeq": "torchdiffeq",
    "torchsde": "torchsde",
    "diffrax": "diffrax",
    "torchdyn": "torchdyn.numerics",
}


def _everything(library):
    """Every attribute of every module and class of a library, and the class of every module's attribute."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name == library or name.startswith(f"{library}."):
            for key, value in vars(module).items():
                found[name, key] = value
                found[name, key, "class"] = type(value)
                found[name, key, "code"] = getattr(value, "__code__", None)
                if isinstance(value, type):
                    found |= {(name, key, member): inner for member, inner in vars(value).items()}
    return found


def _differences(before, after):
    return {key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)}


def _solve(field=None):
    return odeint(Field() if field is None else field, _y0(), TIMES, rtol=1e-4, atol=1e-4)


@fault("`tap.detach()` is called, once or twice", "every attribute of every framework is the very object it was")
@pytest.mark.parametrize("name", LIBRARIES)
def test_detaching_gives_every_attribute_of_the_library_back(name):
    library = LIBRARIES[name]
    pytest.importorskip(library)
    tap.attach()  # which may import more of the library
    tap.detach()
    before = _everything(library)
    tap.attach()
    patched = _everything(library)
    assert name in tap.attached()
    assert _differences(before, patched)
    with tap.observe(), tap.observe():
        tap.attach()
    assert not _differences(patched, _everything(library))
    tap.detach()
    tap.detach()
    assert not _differences(before, _everything(library))


@fault("somebody else patches what is patched", "theirs stays; ours beneath it is neither lost nor doubled")
def test_patch_of_somebody_else_over_ours_stays_and_every_step_is_seen_once(monkeypatch):
    tap.detach()
    original = rk_common._runge_kutta_step
    with tap.observe(TERM) as expected:
        _solve()
    ours, called = rk_common._runge_kutta_step, []

    def theirs(*args, **kwargs):
        called.append(args)
        return ours(*args, **kwargs)

    rk_common._runge_kutta_step = theirs
    tap.detach()
    assert rk_common._runge_kutta_step is theirs
    with tap.observe(TERM) as seen:
        _solve()
    assert seen.stats == expected.stats
    assert torch.equal(seen.penalty, expected.penalty)
    assert len(called) == seen.stats.accepted + seen.stats.rejected
    rk_common._runge_kutta_step = ours
    tap.detach()
    assert rk_common._runge_kutta_step is original


@fault("somebody else puts the original back in the place of a patch", "the next block attaches again")
def test_patch_that_somebody_took_out_is_placed_anew():
    tap.detach()
    original = rk_common._runge_kutta_step
    with tap.observe(TERM) as expected:
        _solve()
    rk_common._runge_kutta_step = original
    with tap.observe(TERM) as seen:
        _solve()
    assert torch.equal(seen.penalty, expected.penalty)
    tap.detach()
    assert rk_common._runge_kutta_step is original


@fault("the field raises in the middle of a solve", "its exception passes unchanged; the solve counts for nothing")
def test_exception_of_the_field_passes_and_leaves_nothing_behind():
    error = ZeroDivisionError("the user's own")

    def failing(t, y):
        if t > 0.5:
            raise error
        return -y

    bare = _solve()
    with tap.observe(TERM, trace=True) as seen:
        with pytest.raises(ZeroDivisionError) as raised:
            _solve(failing)
        assert raised.value is error
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None
        assert seen.stats == tap.Stats()
        assert torch.equal(_solve(), bare)
    assert seen.stats.solves == 1


@fault("a framework of another version", "a warning that names the tested range; it is tried all the same")
def test_version_outside_the_tested_range_is_a_warning(monkeypatch):
    tap.detach()
    adapter = registry.plugins().adapters["torchdiffeq"]
    monkeypatch.setattr(type(adapter), "tested", ">=9,<10")
    with pytest.warns(RuntimeWarning, match=r"outside .* \(>=9,<10\); `solvertap doctor`"), tap.observe(TERM) as seen:
        _solve()
    assert seen.stats.solves == 1


def _without(owner, name):
    return lambda monkeypatch: monkeypatch.delattr(owner, name)


def _with_other_parameters(owner, name):
    return lambda monkeypatch: monkeypatch.setattr(owner, name, lambda something, else_: None)


def _diffrax_steps_otherwise(monkeypatch):
    import diffrax

    monkeypatch.setattr(diffrax.AbstractSolver, "step", lambda self, terms, t0, t1: None)


def _torchsde_has_no_base(monkeypatch):
    from torchsde._core import adaptive_stepping

    monkeypatch.delattr(adaptive_stepping, "compute_error")


def _torch_has_no_generator(monkeypatch):
    from torch.utils import checkpoint

    monkeypatch.delattr(checkpoint, "_checkpoint_without_reentrant_generator")


@fault(
    "a framework lacks an attribute or a parameter that its adapter needs",
    "nothing of it is patched, a warning names what is missing, and the other frameworks are observed",
)
@pytest.mark.parametrize(
    ("name", "change", "missing"),
    [
        ("torchdiffeq", _without(misc, "_rms_norm"), "'_rms_norm'"),
        ("torchdiffeq", _without(rk_common, "_runge_kutta_step"), "_runge_kutta_step"),
        ("torchdiffeq", _with_other_parameters(rk_common, "_runge_kutta_step"), "takes no 'func', 'y0'"),
        ("torchdiffeq", _without(rk_common.RKAdaptiveStepsizeODESolver, "__init__"), "'rtol', 'atol'"),
        ("torchsde", _torchsde_has_no_base, "'compute_error'"),
        ("torch", _torch_has_no_generator, "_checkpoint_without_reentrant_generator"),
        ("diffrax", _diffrax_steps_otherwise, "takes no 'y0'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_library_without_what_its_adapter_needs_is_refused_whole(name, change, missing, monkeypatch):
    pytest.importorskip(LIBRARIES[name])
    tap.detach()
    with monkeypatch.context() as patched:
        change(patched)
        before = _everything(LIBRARIES[name])
        with pytest.warns(RuntimeWarning) as warned, tap.observe() as seen:
            pass
        assert name not in tap.attached()
        assert tap.attached() >= {"torch", "torchdiffeq"} - {name}
        assert not _differences(before, _everything(LIBRARIES[name]))
        assert missing in tap.misfits()[name]
        assert [str(warning.message) for warning in warned] == [tap.misfits()[name]]
        with pytest.raises(errors.NothingObservedError, match=f"The adapter {name!r} does not fit"):
            _ = seen.solves or seen._seen()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # once is enough
            tap.attach()


@fault(
    "a library imports the library of another adapter before it is complete itself",
    "its own adapter is attached when its import has ended",
)
def test_library_that_is_being_imported_is_attached_when_it_is_complete(tmp_path):
    (tmp_path / "outer_solver.py").write_text("import inner_solver\n\ndef solve():\n    pass\n")
    (tmp_path / "inner_solver.py").write_text("def solve():\n    pass\n")
    _run(f"""
        import sys
        import solvertap as tap
        from solvertap import adapting

        class Outer(adapting.Adapter):
            name = module = "outer_solver"

            def attach(self, patches):
                patches.replace(sys.modules[self.module], "solve", lambda original: lambda: original())

        class Inner(Outer):
            name = module = "inner_solver"

        sys.path.insert(0, {str(tmp_path)!r})
        for adapter in (Outer(), Inner()):
            tap.register(adapter)
        with tap.regularize(tap.LocalError()):
            import outer_solver
            assert not tap.misfits(), tap.misfits()
            assert {{"outer_solver", "inner_solver"}} <= tap.attached()
    """)


def _run(script):
    subprocess.run([sys.executable, "-c", dedent(script)], check=True, timeout=300)


@fault(
    "a framework is reloaded, in place or imported anew",
    "the next block observes what is there now, and all is given back",
)
@pytest.mark.slow
def test_reloaded_torchdiffeq_is_observed_and_given_back():
    _run("""
        import importlib, sys, torch, torchdiffeq
        import solvertap as tap
        from torchdiffeq import odeint as held

        def solve(odeint):
            with tap.observe(tap.LocalError()) as seen:
                y = odeint(lambda t, y: torch.sin(9 * t) - y, torch.ones(3), torch.linspace(0, 1, 3))
            return y, seen.stats, seen.penalty

        def check(odeint, *originals):
            y, stats, penalty = solve(odeint)
            assert torch.equal(y, expected[0]) and stats == expected[1] and torch.equal(penalty, expected[2])
            tap.detach()
            for owner, name, original in originals:
                assert vars(owner)[name] is original, name

        expected = solve(held)
        rk_common = sys.modules["torchdiffeq._impl.rk_common"]
        tap.detach()
        original = rk_common._runge_kutta_step
        importlib.reload(torchdiffeq)
        check(torchdiffeq.odeint, (rk_common, "_runge_kutta_step", original))
        tap.attach()
        for name in [name for name in sys.modules if name.split(".")[0] == "torchdiffeq"]:
            del sys.modules[name]
        import torchdiffeq as anew
        assert anew.odeint is not held
        own = anew._impl.rk_common._runge_kutta_step
        check(anew.odeint, (anew._impl.rk_common, "_runge_kutta_step", own), (rk_common, "_runge_kutta_step", original))
    """)


@pytest.mark.slow
def test_reloaded_torchdyn_is_observed_and_given_back():
    pytest.importorskip("torchdyn.numerics")
    _run("""
        import importlib, sys, torch, torchdyn.numerics
        import solvertap as tap
        from torchdyn.numerics import odeint as held

        def solve(odeint):
            with tap.observe(tap.LocalError()) as seen:
                y = odeint(lambda t, y: torch.sin(9 * t) - y, torch.ones(3), torch.linspace(0, 1, 3), "dopri5")[1]
            return y, seen.stats, seen.penalty

        def check(odeint, module, functions):
            y, stats, penalty = solve(odeint)
            assert torch.equal(y, expected[0]) and stats == expected[1] and torch.equal(penalty, expected[2])
            tap.detach()
            for function, code in functions:
                assert function.__code__ is code
            assert module._adaptive_odeint.__module__ == module._adaptive_odeint.__globals__["__name__"]

        module = sys.modules["torchdyn.numerics.odeint"]
        first = held, held.__code__
        expected = solve(held)
        assert held.__code__ is not first[1]
        importlib.reload(module)
        anew = module.odeint, module.odeint.__code__
        check(module.odeint, module, [first, anew])
    """)


@pytest.mark.slow
def test_reloaded_diffrax_is_observed_and_given_back():
    pytest.importorskip("diffrax")
    _run("""
        import importlib, sys, diffrax, jax.numpy as jnp
        import solvertap as tap
        held = diffrax.diffeqsolve

        def solve(diffrax, diffeqsolve):
            with tap.observe(tap.LocalError()) as seen:
                diffeqsolve(diffrax.ODETerm(lambda t, y, _: jnp.sin(9 * t) - y), diffrax.Heun(), 0.0, 1.0, 0.1,
                    jnp.ones(3), stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3))
            return seen.stats.accepted, float(seen.penalty)

        expected = solve(diffrax, held)
        integrate = sys.modules["diffrax._integrate"]
        importlib.reload(integrate)
        importlib.reload(diffrax)
        new = diffrax.diffeqsolve
        assert new is not held
        own = type(new)
        assert solve(diffrax, new) == expected
        tap.detach()
        assert type(new) is own and type(held).__name__ == own.__name__ and type(held).__module__ == own.__module__
        for name in [name for name in sys.modules if name.split(".")[0] == "diffrax"]:
            del sys.modules[name]
        import diffrax as anew
        assert anew.diffeqsolve is not new
        assert solve(anew, anew.diffeqsolve) == expected
    """)


def test_library_imported_inside_a_block_is_said_to_be_unseen_and_is_seen_by_the_next(monkeypatch):
    adapter = registry.plugins().adapters["torchdiffeq"]
    tap.detach()
    module = sys.modules[adapter.module]
    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, adapter.module)
        with tap.observe(TERM) as seen:
            sys.modules[adapter.module] = module
            _solve()
        with pytest.raises(errors.NothingObservedError, match="first imported inside the block"):
            _ = seen.penalty
    with tap.observe(TERM) as seen:
        _solve()
    assert seen.stats.solves == 1


def test_unknown_adapter_cannot_be_detached():
    with pytest.raises(errors.UnknownNameError, match=r"the choices are: .*torchdiffeq"):
        tap.detach("torchdifeq")


def test_one_adapter_is_detached_alone():
    tap.attach()
    tap.detach("torchdiffeq")
    assert "torchdiffeq" not in tap.attached()
    assert "torch" in tap.attached()
    assert importlib.import_module("torchdiffeq._impl.rk_common") is rk_common
