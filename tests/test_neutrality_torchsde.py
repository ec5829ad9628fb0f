"""Random problems through torchsde, observed and bare: the same bits, calls, warnings and exceptions."""

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchsde")

from hypothesis import given, settings
from torchsde import sdeint  # by name, before any tap

import solvertap as tap
from tests.faults import fault
from tests.neutrality import SETTINGS, Originals, Outcome, bits, draw, leaves, observations, observe

WEIGHT = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
STRATONOVICH = ["heun", "midpoint", "euler_heun", "reversible_heun", "milstein", "log_ode"]
PROBLEMS = draw(
    method=[*(("stratonovich", x) for x in STRATONOVICH), ("ito", "euler"), ("ito", "milstein"), ("ito", "srk")],
    noise_type=["diagonal", "additive", "scalar", "general"],
    shape=[(1, 1), (2, 3), (3, 2), (1, 4), (4, 1), (0, 2)],
    dtype=["float64", "float32", "float64", "float16"],
    scale=[1, 0, 30],
    times=[(0.0, 1.0), (-0.2, 0.1, 0.3, 0.8), (0.0, 0.5), (0.1, 0.2, 0.9), (0.5,), (1.0, 0.0)],
    times_as=["float64", "float32", "list"],
    returned=[{}, {"extra": True}, {"logqp": True}],
    dt=[0.3, 0.1],
    dt_min=[0.08, 0.03],  # below it every step is kept, so that no tolerance takes long
    rtol=[1e-1, 1e-2, 1e-3],
    atol=[1e-2, 1e-3],
)


class SDE:
    """An SDE which keeps what its drift and its diffusion are called with."""

    def __init__(self, sde_type, noise_type):
        self.sde_type, self.noise_type, self.calls = sde_type, noise_type, []

    def f(self, t, y):
        self.calls.append(("f", bits((t, y))))
        return 3 * torch.tanh(WEIGHT.to(y.dtype) * y) + torch.sin(20 * t).to(y.dtype)

    def g(self, t, y):
        self.calls.append(("g", bits((t, y))))
        noise = 0.1 * WEIGHT.to(y.dtype) * (torch.ones_like(y) if self.noise_type == "additive" else 2 + torch.sin(y))
        if self.noise_type == "diagonal":
            return noise
        return noise[..., None].expand(*y.shape, 1 if self.noise_type == "scalar" else 2)

    def h(self, t, y):
        return -y

    def count(self, name):
        return sum(call[0] == name for call in self.calls)


def solve(sde, shape, dtype, scale, times, times_as, returned, **options):
    """The solution of a problem that makes sense or not, and its gradient."""
    np.random.seed(7)  # from which torchsde draws a path
    numbers = scale * torch.cos(torch.arange(torch.Size(shape).numel()).reshape(shape))
    y0 = numbers.to(getattr(torch, dtype)).requires_grad_()
    ts = list(times) if times_as == "list" else torch.tensor(times, dtype=getattr(torch, times_as))
    solution = sdeint(sde, y0, ts, adaptive=True, **(returned if len(times) > 1 else {}), **options)
    ends = [x for x in leaves(solution) if x.requires_grad]
    gradient = torch.autograd.grad(ends, [WEIGHT, y0], [torch.ones_like(x) for x in ends], allow_unused=True)
    return bits(solution), bits(gradient)


@settings(SETTINGS, max_examples=32)
@given(problem=PROBLEMS, observation=observations())
def check(met, originals, problem, observation):
    names, trace = observation["names"], observation["trace"]
    sde_type, method = problem["method"]
    noise_type = problem["noise_type"]
    inputs = {name: x for name, x in problem.items() if name != "noise_type"} | {"method": method}
    bare_sde, sde = SDE(sde_type, noise_type), SDE(sde_type, noise_type)
    tap.detach()
    bare = Outcome.of(solve, bare_sde, **inputs)
    with observe(names, trace) as seen:
        assert originals.changed()
        observed = Outcome.of(solve, sde, **inputs)
    tap.detach()
    assert not originals.changed()
    calls = iter(sde.calls)
    assert all(call in calls for call in bare_sde.calls)  # in the same order
    assert observed == bare
    if bare.error:
        assert seen.stats.solves == 0
        met.update(raised=1)
        return

    _, accepted, rejected, evaluations, diffusion_evaluations, measuring, _ = seen.stats
    measured = accepted * ("stiffness" in names) + (accepted + rejected) * trace
    assert sde.count("f") - bare_sde.count("f") == 2 * measured == measuring
    if "logqp" not in problem["returned"]:
        assert sde.count("g") == bare_sde.count("g")
        # sdeint.py::check_contract evaluates each once, to learn the shapes, before the solve begins.
        assert (evaluations + measuring + 1, diffusion_evaluations + 1) == (sde.count("f"), sde.count("g"))
    met.update(rejected=rejected, measured=measured)
    if trace:
        t, h, _, _, kept = seen.trace.numpy().values()
        assert len(t) == accepted + rejected
        assert np.allclose((t + h)[kept], [*t[kept][1:], *problem["times"][1:][-1:]], atol=2e-3)  # of float16
    if names:
        assert seen.penalty.dtype == (torch.float64 if problem["dtype"] == "float64" else torch.float32)
        assert torch.isfinite(seen.penalty)
        assert seen.penalty >= 0


@pytest.mark.slow
@fault(
    "random shapes, dtypes, tolerances, times, methods and kinds of noise through `sdeint`",
    "bitwise the bare solution and gradient, the same exceptions, the field called with the same numbers",
)
def test_random_problem_is_solved_observed_as_it_is_bare():
    met = Counter()
    tap.detach()
    check(met, Originals("torchsde", "torch.utils.checkpoint"))
    assert all(met[premise] for premise in ("measured", "raised", "rejected"))
