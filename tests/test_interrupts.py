"""Interrupts at every place where Python may deliver one, and exceptions while attaching: nothing is left behind."""

import io
import random
import sys
import traceback
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from solvertap import adapting
from solvertap.cli.live import LiveLine
from solvertap.loggers.log import Log
from solvertap.observing import regularize as regularization
from solvertap.plugins import attachment, registry
from solvertap.plugins.manager import Plugins
from solvertap.solves.scope import NOBODY, current, scope
from tests.faults import fault
from tests.interrupting import after, interrupted_anywhere

# In these two places CPython has called `__exit__`, which has done nothing yet: no `with` block is safe there.
UNSAFE = {("observe.__exit__", "RESUME"), ("regularize.__exit__", "RESUME")}
Y0 = torch.tensor([1.0, 2.0], dtype=torch.float64)
TIMES = torch.tensor([0.0, 0.5], dtype=torch.float64)
RATE = torch.ones((), dtype=torch.float64, requires_grad=True)


def _torchdiffeq(function=odeint):
    class Field(torch.nn.Module):
        def forward(self, t, y):
            return -RATE * y

    adjoint = {} if function is odeint else {"adjoint_params": (RATE,)}
    y = function(Field(), Y0, TIMES, rtol=1e-2, atol=1e-2, options={"first_step": 0.5}, **adjoint)
    return y[-1].sum()


def _torchsde():
    torchsde = pytest.importorskip("torchsde")

    class Sde(torch.nn.Module):
        noise_type, sde_type = "diagonal", "stratonovich"

        def f(self, t, y):
            return -RATE * y

        def g(self, t, y):
            return 0.1 * torch.ones_like(y)

    noise = torchsde.BrownianInterval(0.0, 0.5, size=(1, 2), dtype=torch.float64, entropy=1)
    options = {"adaptive": True, "dt": 0.5, "rtol": 1.0, "atol": 1.0, "method": "heun"}
    return torchsde.sdeint(Sde(), Y0[None], TIMES, bm=noise, **options)[-1].sum()


def _diffrax():
    diffrax = pytest.importorskip("diffrax")
    jnp = pytest.importorskip("jax.numpy")
    controller = diffrax.PIDController(rtol=1e-2, atol=1e-2)
    call = {"stepsize_controller": controller, "max_steps": 16}
    return diffrax.diffeqsolve(diffrax.ODETerm(_decay), diffrax.Dopri5(), 0.0, 0.5, 0.5, jnp.ones(2), **call).ys.sum()


def _decay(t, y, args):  # one field: what is compiled stays compiled
    return -y


def _number(x):
    return x.item() if hasattr(x, "item") else float(x)


def _observed(solve):
    with tap.observe(tap.LocalError()) as seen:
        y = solve()
    return _number(seen.penalty), _number(y), seen.stats


def _regularized(solve):
    with tap.regularize("local_error") as regularizer:
        y = solve()
        gradient = torch.autograd.grad(y, RATE)[0].item()
    return y.item(), gradient, regularizer.stats


def _under_an_adjoint(solve):
    with tap.observe() as seen:
        gradient = torch.autograd.grad(_torchdiffeq(odeint_adjoint), RATE)[0].item()
    return gradient, seen.phases


def _is_clean():
    assert current() == NOBODY
    assert adapting.regularizing() is None
    backward = sys.modules.get("solvertap_torch.backward")
    assert backward is None or backward._inside.get() is None
    for name in attachment._patches:  # every patch in place, or none
        placed = attachment.patches_of(name)
        assert (attachment._patches[name].stand() and name in tap.attached()) or not any(p.is_on_top() for p in placed)


CASES = [
    pytest.param(_observed, _torchdiffeq, 7, id="torchdiffeq"),
    pytest.param(_regularized, _torchdiffeq, 11, id="torchdiffeq-regularize"),
    pytest.param(_under_an_adjoint, _torchdiffeq, 7, id="torchdiffeq-adjoint"),
    pytest.param(_observed, _torchsde, 7, id="torchsde"),
    pytest.param(_observed, _diffrax, 13, id="diffrax"),
]


def _interrupt(block, solve, every):
    solve()  # which imports what it solves with
    block(solve)
    right = block(solve)
    unsafe = set()
    for n, place in enumerate(interrupted_anywhere(lambda: block(solve), every)):
        if place in UNSAFE:
            unsafe.add(place)
            scope.set(NOBODY)
            regularization._active = None
        _is_clean()
        if n % 10 == 0:
            assert block(solve) == right
    assert n > 20
    assert block(solve) == right
    return unsafe


@fault(
    "Ctrl-C in the middle of an observed solve",
    "no observer stays open, no thread stays unseen, `regularize` is over, the next solve is observed right",
)
@pytest.mark.parametrize(("block", "solve", "every"), CASES)
def test_interrupt_anywhere_leaves_nothing_behind(block, solve, every):
    _interrupt(block, solve, every)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "solve", "every"), CASES)
def test_interrupt_in_every_single_place_leaves_nothing_behind(block, solve, every):
    assert len(_interrupt(block, solve, 1)) == 1  # the place that nobody can make safe


@fault("Ctrl-C comes by a signal, at any time of many solves", "likewise")
def test_signals_leave_nothing_behind():
    right = _observed(_torchdiffeq)
    draw, interrupted = random.Random(0), 0
    for _ in range(200):
        try:
            with after(draw.uniform(1e-4, 8e-3)):
                for _ in range(5):  # a signal may come where Python can only print it
                    _regularized(_torchdiffeq)
        except KeyboardInterrupt as interrupt:
            interrupted += 1
            *_, (frame, _) = traceback.walk_tb(interrupt.__traceback__)
            if (frame.f_code.co_qualname, "RESUME") in UNSAFE:
                scope.set(NOBODY)
                regularization._active = None
        torch.set_grad_enabled(True)  # torch's own blocks are as unsafe as any
        _is_clean()
    assert interrupted > 100
    assert _observed(_torchdiffeq) == right


def test_block_repairs_what_an_interrupted_block_inside_left_open():
    def nested():
        with tap.observe() as outer:
            assert current().observers == (outer,)
            with tap.observe(), tap.unobserved():
                pass

    struck = set()
    for place in interrupted_anywhere(nested):
        struck.add(place)
        if current() != NOBODY:
            assert place == ("observe.__exit__", "RESUME")  # of the outer one, around which there is none
            scope.set(NOBODY)
    assert {("Within.__exit__", "RESUME"), *UNSAFE} - {("regularize.__exit__", "RESUME")} <= struck


def test_interrupt_of_one_block_leaves_those_alone_that_began_elsewhere():
    def generated():
        with tap.observe() as seen:
            yield seen
            yield seen

    steps = generated()
    first = next(steps)
    with tap.observe() as second:
        with pytest.raises(ValueError, match="mine"):
            steps.throw(ValueError("mine"))
        assert current().observers == (second,)
        _torchdiffeq()
    assert (first.stats.solves, second.stats.solves) == (0, 1)
    assert current() == NOBODY


@fault("warnings are errors, and attaching warns", "the error passes, and nothing is half begun")
@pytest.mark.parametrize("begin", [tap.observe, tap.regularize, lambda: tap.regularize("local_error")])
def test_warning_that_is_an_error_leaves_nothing_begun(begin, monkeypatch):
    adapter = registry.plugins().adapters["torchdiffeq"]
    monkeypatch.setattr(type(adapter), "tested", ">=9")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(RuntimeWarning, match="outside the versions"), begin():
                raise AssertionError("begun")
            _is_clean()
            assert "torchdiffeq" not in tap.attached()
    monkeypatch.undo()
    with tap.observe() as seen:
        _torchdiffeq()
    assert seen.stats.solves == 1


def test_interrupted_detaching_gives_the_rest_back_when_it_is_asked_again():
    def attached():
        attachment.attach()
        tap.detach()

    for _ in interrupted_anywhere(attached, every=7):
        tap.detach()
        assert not any(attachment.patches_of(name) for name in attachment._patches)
    assert _observed(_torchdiffeq)[-1].solves == 1


def test_interrupted_discovery_goes_on(monkeypatch):
    def found():
        _Fresh.plugins = Plugins()
        _Fresh.plugins.discover()

    found()
    undisturbed = set(_Fresh.plugins.adapters)
    assert {"diffrax", "torchdiffeq", "torchsde"} <= undisturbed
    for _ in interrupted_anywhere(found, every=3):
        fresh = _Fresh.plugins
        fresh.discover()
        assert set(fresh.adapters) == undisturbed
        assert not fresh.failures
        assert not fresh.discovering


class _Fresh:
    plugins = None


def test_log_that_is_interrupted_while_it_begins_is_no_plugin():
    class Heard(Log):
        def write(self, solved):
            pass

    def logged():
        with Heard() as log:
            assert registry.plugins().manager.is_registered(log)

    for place in interrupted_anywhere(logged, every=2):
        left = [plugin for plugin in registry.plugins().manager.get_plugins() if isinstance(plugin, Log)]
        for log in left:
            assert place == ("Log.__exit__", "RESUME")
            registry.plugins().unregister(log)


def test_live_line_gives_the_streams_back_though_it_cannot_write(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            raise OSError("gone")

    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with tap.regularize() as regularizer:
        line = LiveLine(regularizer)
    line._shown = True
    with line:
        assert sys.stdout is not out
    assert (sys.stdout, sys.stderr) == (out, err)
