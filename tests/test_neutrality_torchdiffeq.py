"""Random problems through torchdiffeq, observed and bare: the same bits, calls, warnings and exceptions."""

from collections import Counter
from itertools import cycle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from hypothesis import given, settings
from torchdiffeq import odeint  # by name, before any tap

import solvertap as tap
from tests.faults import fault
from tests.neutrality import SETTINGS, Originals, Outcome, bits, draw, leaves, observations, observe

WEIGHT = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
WIDE = (torch.float64, torch.complex128)
# With the evaluations that it takes to measure the stiffness once: docs/mathematics.md.
METHODS = {"dopri5": 0, "dopri8": 0, "bosh3": 1, "fehlberg2": 1, "adaptive_heun": 1}
OPTIONS = {
    "none": {},
    "stops": {"jump_t": torch.tensor([0.3, 0.2]), "step_t": torch.tensor([0.25])},
    "bounds": {"min_step": 1e-2, "max_step": 0.2},
    "norm": {"norm": lambda y: max(x.abs().max() for x in leaves(y))},
    "narrow times": {"dtype": torch.float32},
    "few steps": {"max_num_steps": 3},
}
PROBLEMS = draw(
    # A list stands for a tuple of states; dtypes and scales are taken in turn.
    shapes=[(3,), (), (2, 3), (1, 2, 2), (0, 3), [()], [(2,), ()], [(1, 2), (3,), ()], [(2,), (0, 3)]],
    dtypes=[
        *(["float64"], ["float32"], ["float16"], ["bfloat16"], ["complex64"], ["complex128"]),
        *(["float32", "float64"], ["float16", "complex64"]),
    ],
    scales=[[1], [0], [30, 1e-3]],
    times=[(-0.2, 1.0), (-0.2, 0.1, 0.3, 1.1), (0.2, -1.0), (0.5, 0.2, -0.7), (0.5,), (0.0, 0.0)],
    time_dtype=["float64", "float32"],
    rtol=[1e-2, 1e-4, 0.0, [1e-2, 1e-3, 1e-4]],
    atol=[1e-3, 1e-5, [1e-4, 1e-3, 1e-2]],
    method=METHODS,
    options=OPTIONS,
    first_step=[0.5, 0.01, None],
    event=[False, False, True],
)


class Field:
    """A field with a kink in its forcing, which keeps what it and torchdiffeq's callbacks are called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, t, y):
        self.calls.append(("field", bits((t, y))))
        return tuple(self.slope(t, x) for x in y) if isinstance(y, tuple) else self.slope(t, y)

    def slope(self, t, y):
        return 4 * torch.tanh(WEIGHT.to(y.dtype) * y) + 20 * torch.relu(t - 0.3).to(y.dtype) - y

    def callback_accept_step(self, *args):
        self.calls.append(("accepted", bits(args)))

    def callback_reject_step(self, *args):
        self.calls.append(("rejected", bits(args)))

    def count(self, name):
        return sum(call[0] == name for call in self.calls)


def arguments(shapes, dtypes, scales, times, time_dtype, rtol, atol, options, first_step, event, method):
    """What `odeint` is given, whether it makes sense together or not. All that may carry gradient does."""
    several = isinstance(shapes, list)
    y0 = tuple(map(part, shapes if several else [shapes], cycle(dtypes), cycle(scales)))
    rtol, atol = ((x[: len(y0)] if several else x[0]) if isinstance(x, list) else x for x in (rtol, atol))
    return {
        "y0": y0 if several else y0[0],
        "t": leaf(times, time_dtype),
        "rtol": rtol,
        "atol": atol,
        "method": method,
        "options": {"max_num_steps": 60, "first_step": first_step and leaf(first_step)} | OPTIONS[options],
        "event_fn": (lambda t, y: abs(t) - 0.5) if event and len(times) == 2 else None,
    }


def leaf(numbers, dtype="float64"):
    return torch.as_tensor(numbers).to(getattr(torch, dtype)).requires_grad_()


def part(shape, dtype, scale):
    return leaf(scale * torch.cos(torch.arange(torch.Size(shape).numel()).reshape(shape)), dtype)


def solve(field, y0, t, options, **others):
    """The solution, and its gradient to everything that it may depend on."""
    solution = odeint(field, y0, t, options=options, **others)
    ends = [x for x in leaves(solution) if x.requires_grad]
    starts = [x for x in (WEIGHT, t, options["first_step"], *leaves(y0)) if x is not None]
    gradient = torch.autograd.grad(ends, starts, [torch.ones_like(x) for x in ends], allow_unused=True)
    return bits(solution), bits(gradient)


@settings(SETTINGS, max_examples=50)
@given(problem=PROBLEMS, observation=observations())
def check(met, originals, problem, observation):
    names, trace = observation["names"], observation["trace"]
    inputs, bare_field, field = arguments(**problem), Field(), Field()
    tap.detach()
    bare = Outcome.of(solve, bare_field, **inputs)
    with observe(names, trace) as seen:
        assert originals.changed()
        observed = Outcome.of(solve, field, **inputs)
    tap.detach()
    assert not originals.changed()
    calls = iter(field.calls)
    assert all(call in calls for call in bare_field.calls)  # in the same order
    assert (observed.error, observed.warnings) == (bare.error, bare.warnings)
    if bare.error:
        assert seen.stats.solves == 0
        met.update(raised=1)
        return

    assert observed.result[0] == bare.result[0]
    # Without a first step the gradient loses the path through the one that torchdiffeq chooses: docs/held_fixed.md.
    if problem["first_step"] or not names:
        assert observed.result[1] == bare.result[1]
        met.update(gradients=1)
    accepted, rejected = field.count("accepted"), field.count("rejected")
    measured = accepted * ("stiffness" in names) + (accepted + rejected) * trace
    measuring = measured * METHODS[problem["method"]]
    assert seen.stats == tap.Stats(1, accepted, rejected, bare_field.count("field"), measuring=measuring)
    assert len(field.calls) - len(bare_field.calls) == measuring
    met.update(rejected=rejected, measured=measured)
    if trace:
        assert seen.trace.numpy()["accepted"].sum() == accepted
    if names:
        wide = any(x.dtype in WIDE for x in leaves(inputs["y0"]))
        assert seen.penalty.dtype == (torch.float64 if wide else torch.float32)
        assert torch.isfinite(seen.penalty)
        assert seen.penalty >= 0


@pytest.mark.slow
@fault(
    "random shapes, dtypes, tolerances, times, tuples, methods and options through `odeint`",
    "bitwise the bare solution and gradient, the same exceptions, the field called with the same numbers",
)
def test_random_problem_is_solved_observed_as_it_is_bare():
    met = Counter()
    tap.detach()
    check(met, Originals("torchdiffeq", "torch.utils.checkpoint"))
    assert all(met[premise] for premise in ("gradients", "measured", "raised", "rejected"))
