"""What an observed training step does beyond a bare one in a solve of two steps: counted, since time is no test."""

import gc
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import solvertap as tap

from .faults import fault

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torch.utils._python_dispatch import TorchDispatchMode
from torchdiffeq import odeint

ROOT = Path(__file__).resolve().parents[1]

# So many operations of torch more than a bare step, and so many calls of functions of solvertap: measured, and a tenth
# at most.
# What observing saves is the interpolation of the first step, 37 operations.
LIMITS = {
    "counts": (None, -35, 168),
    "local error": (tap.LocalError(), 42, 413),
    "both": (tap.LocalError() + tap.Stiffness(), 124, 598),
}


class Operations(TorchDispatchMode):
    """Counts the operations of torch, those of its backward pass included."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def _step(term, observed=True):
    """A training step, and what its solve was seen to do."""
    torch.manual_seed(0)
    field = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    y0, times = torch.randn(64, 2), torch.tensor([0.0, 1.0])

    def solve():
        return odeint(lambda t, y: field(y), y0, times, rtol=1e-6, atol=1e-6, options={"first_step": 0.25})[-1]

    def step():
        if not observed:
            return solve().pow(2).mean().backward()
        with tap.observe(term) as seen:
            y = solve()
        loss = y.pow(2).mean() + (0 if term is None else seen.penalty)
        assert seen.stats[1:3] == (2, 0)
        return loss.backward()

    step()  # what is made once is of no step
    return step


def _operations(step):
    with Operations() as operations:
        step()
    return operations.count


def _calls(step):
    """Counted without the garbage collector, which calls into solvertap when it finds an old solve during a step."""
    calls = 0
    # Not all that lies under a folder of that name: a clone is in one, and so may the environment be.
    names = [name for name in sys.modules if name.startswith("solvertap") and "." not in name]
    packages = tuple(str(Path(sys.modules[name].__file__).parent) for name in names)

    def hear(frame, event, _):
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(packages)

    before = sys.getprofile()
    gc.collect()
    gc.disable()
    sys.setprofile(hear)
    try:
        step()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


@pytest.fixture(scope="module")
def calls():
    """The calls of each setting, in a process of its own: every adapter that other tests have attached adds some."""
    script = (
        "from tests.test_short_solves import LIMITS, _calls, _step\n"
        "print([_calls(_step(term)) for term, *_ in LIMITS.values()])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    return dict(zip(LIMITS, json.loads(done.stdout), strict=True))


@fault(
    "A regularized model takes two steps, where what a solve costs once is no longer small",
    "an observed training step does at most an eighth of the operations of a bare one more",
)
@pytest.mark.parametrize("setting", LIMITS)
def test_observed_step_of_a_short_solve_does_little_more_than_a_bare_one(setting, calls):
    term, operations, limit = LIMITS[setting]
    step = _step(term)
    bare = _operations(_step(None, observed=False))
    assert operations < bare / 8
    assert _operations(step) - bare <= operations
    assert calls[setting] <= limit


def test_what_the_solver_compares_with_one_is_not_recorded():
    sizes = []

    class Heard(tap.LocalError):
        def known(self, step):
            sizes.append(step.error_ratio)
            return super().known(step)

    _step(Heard())()
    assert sizes
    assert not any(size.requires_grad for size in sizes)


@dataclass(frozen=True, kw_only=True)
class Product(tap.LocalError):
    """A fold of its own: the product of 1 + E over the steps."""

    def start(self, zero):
        return zero + 1

    def update(self, total, value, h):
        return total * (1 + value).prod()


def test_fold_of_its_own_begins_with_its_own_start():
    y0, times = torch.ones(3), torch.tensor([0.0, 1.0])
    with tap.observe(Product()) as seen, tap.observe(trace=True) as traced:
        odeint(lambda t, y: torch.sin(9 * t) * y, y0, times, rtol=1e-4, atol=1e-4, options={"first_step": 0.1})
    errors = traced.trace.local_error[traced.trace.accepted]
    assert len(errors) > 1
    assert seen.penalty.item() == pytest.approx((1 + errors).prod(), rel=1e-5)


def test_penalty_may_be_changed_in_place():
    y0, times = torch.ones(3, requires_grad=True), torch.tensor([0.0, 1.0])
    with tap.observe(tap.LocalError()) as seen:
        odeint(lambda t, y: -(y**2), y0, times)
    before = seen.values["local_error"].item()
    loss = seen.penalty
    loss += 1
    assert seen.values["local_error"].item() == before
    loss.backward()
