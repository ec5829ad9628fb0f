"""Every adaptive method of torchdiffeq, every term: value and gradient against a replay on the frozen grid."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint, odeint_dense, odeint_event
from torchdiffeq._impl import rk_common
from torchdiffeq._impl.misc import _PerturbFunc
from torchdiffeq._impl.odeint import SOLVERS

import solvertap as tap
from solvertap import errors
from tests.cells import proves, refuses
from tests.oracle import TERMS, TakenStep, assert_gradient_matches, mean_over_step, reduce_steps, rms, total

ADAPTIVE = [name for name, solver in SOLVERS.items() if issubclass(solver, rk_common.RKAdaptiveStepsizeODESolver)]
FIXED = [name for name in SOLVERS if name not in ADAPTIVE]
# Where errors are small, S is a quotient of roundings; the low orders would take thousands of steps.
TOLERANCE = {"dopri5": 1e-6, "tsit5": 1e-6, "dopri8": 1e-3, "bosh3": 1e-4, "fehlberg2": 1e-3, "adaptive_heun": 1e-3}
TIMES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
Y0 = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)
WEIGHTS = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def field(weights):
    """A random tanh field with a kink in its forcing, so that every method rejects steps."""
    return lambda t, y: 4 * torch.tanh(y @ weights.reshape(3, 3)) + 20 * torch.relu(t - 0.5) - y


@cache
def observe(method, name):
    """The term, its gradient, and the accepted steps."""
    weights = WEIGHTS.clone().requires_grad_()
    with tap.observe(TERMS[name], trace=True) as seen:
        # The automatic first step is so small that its error is mostly rounding; this one is rejected instead.
        tolerance, options = TOLERANCE[method], {"first_step": 0.5}
        odeint(field(weights), Y0, TIMES, rtol=tolerance, atol=tolerance, method=method, options=options)
    trace = seen.trace.numpy()
    steps = np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]]
    (gradient,) = torch.autograd.grad(seen.penalty, weights)
    return seen, gradient.numpy(), steps


def replay(method, weights, steps):
    """The recorded steps with other weights: the stage states rebuilt, and the field evaluated there."""
    f, tableau = field(torch.as_tensor(weights)), SOLVERS[method].tableau
    rows = [torch.zeros(1, dtype=torch.float64), *tableau.beta]
    nodes = [0.0, *tableau.alpha.tolist()]
    y, slope, replayed = Y0, f(torch.as_tensor(steps[0, 0]), Y0), []
    for t, h in torch.as_tensor(steps):
        t1 = t + h
        y1, slope1, error, k = rk_common._runge_kutta_step(_PerturbFunc(f), y, slope, t, h, t1, tableau)
        stages = [y + h * sum(a * k[..., i] for i, a in enumerate(row)) for row in rows]
        if nodes[-2:] == [1, 1]:
            a, b = stages[-1], stages[-2]
        elif torch.allclose(stages[-1], y1, rtol=0, atol=1e-14):
            a, b = y1, y1 - error
        else:
            a, b = y1, stages[-1]
        arrays = (x.numpy() for x in (y, y1, error, a, b, f(t1, a), f(t1, b)))
        slopes = k.movedim(-1, 0).numpy()
        replayed.append(TakenStep(h.item(), *arrays, k=slopes, c=nodes))
        y, slope = y1, slope1
    return replayed


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(method, name, marks=proves("torchdiffeq", method, [name], "value", "gradient"))
        for method in ADAPTIVE
        for name in TERMS
    ],
)
def test_value_and_gradient_are_those_of_the_frozen_grid(method, name):
    seen, gradient, steps = observe(method, name)
    assert seen.stats.rejected > 0

    def value(weights):
        return total(name, replay(method, weights, steps), TOLERANCE[method], TOLERANCE[method])

    assert seen.penalty.item() == pytest.approx(value(WEIGHTS.numpy()), rel=1e-9)
    assert_gradient_matches(value, WEIGHTS.numpy(), gradient)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_stiffness_costs_what_the_tableau_leaves_open(method):
    seen, bare = observe(method, "stiffness")[0], observe(method, "local_error")[0]
    free = method in ("dopri5", "tsit5", "dopri8")
    assert seen.stats.evaluations == bare.stats.evaluations
    assert seen.stats.measuring - bare.stats.measuring == (0 if free else seen.stats.accepted)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(
            method, name, marks=refuses("torchdiffeq", method, [name], "fixed steps: no error estimate of its own")
        )
        for method in FIXED
        for name in TERMS
    ],
)
def test_fixed_steps_are_refused(method, name):
    with pytest.raises(errors.FixedStepError), tap.observe(TERMS[name]):
        odeint(field(WEIGHTS), Y0, TIMES, method=method)


@dataclass
class Way:
    """A way to call torchdiffeq, and its solve as one of a flat state.

    solve: calls it with weights; flat: the field as a function of (weights, t, y); y0: flat; rtol, atol: numbers
    or flat; norm: of a flat array.
    """

    solve: Callable
    flat: Callable
    y0: torch.Tensor
    rtol: Any = 1e-5
    atol: Any = 1e-5
    norm: Callable = rms


def _matrix(weights, t, y):
    return field(weights)(t, y.reshape(2, 3)).reshape(-1)


def _plain(weights, t, y):
    return field(weights)(t, y)


def _parts(weights, t, y):
    return torch.cat([_matrix(weights, t, y[:6]), -y[6:] * t - weights[0] * y[6:] ** 3])


def _tuple_call(weights, **options):
    parts = lambda t, y: (field(weights)(t, y[0]), -y[1] * t - weights[0] * y[1] ** 3)  # noqa: E731  # one field
    y0 = Y0, torch.linspace(1, 2, 4, dtype=torch.float64)
    return odeint(parts, y0, TIMES, method="dopri5", **({"rtol": 1e-5, "atol": 1e-5} | options))


def _jumping(weights, t, y):
    return _plain(weights, t, y) + torch.where(t > 0.5, 3.0, 0.0) * weights[0]


def _turning(weights, t, y):
    return 1j * _plain(weights, t, y.real) - y + weights[0] * y.conj()


FLAT_PARTS = torch.cat([Y0.reshape(-1), torch.linspace(1, 2, 4, dtype=torch.float64)])
FIRST = {"first_step": 0.5}
SINGLE = lambda x: np.float32(x).astype(float)  # noqa: E731  # as misc.py::_tuple_tol rounds a tolerance for each part
CALL = {"rtol": 1e-5, "atol": 1e-5, "method": "dopri5"}
WAYS = {
    "tuple, mixed norm": Way(
        lambda w: _tuple_call(w, options=FIRST), _parts, FLAT_PARTS, norm=lambda x: max(rms(x[:6]), rms(x[6:]))
    ),
    "tuple, a tolerance for each part": Way(
        lambda w: _tuple_call(
            w,
            rtol=(1e-5, 1e-4),
            atol=(1e-6, 1e-5),
            options=FIRST | {"norm": lambda parts: max(x.abs().max() for x in parts)},
        ),
        _parts,
        FLAT_PARTS,
        rtol=np.repeat(SINGLE([1e-5, 1e-4]), [6, 4]),
        atol=np.repeat(SINGLE([1e-6, 1e-5]), [6, 4]),
        norm=lambda x: np.max(np.abs(x)),
    ),
    "tolerances as tensors": Way(
        lambda w: odeint(
            field(w),
            Y0,
            TIMES,
            rtol=torch.tensor(1e-5, dtype=torch.float64),
            atol=torch.full((2, 3), 1e-6, dtype=torch.float64),
            options=FIRST,
            method="dopri5",
        ),
        _plain,
        Y0,
        atol=1e-6,
    ),
    "own norm": Way(
        lambda w: odeint(field(w), Y0, TIMES, **CALL, options=FIRST | {"norm": lambda x: x.abs().max()}),
        _plain,
        Y0,
        norm=lambda x: np.max(np.abs(x)),
    ),
    "backwards": Way(lambda w: odeint(field(w), Y0, TIMES.flip(0), **CALL, options=FIRST), _plain, Y0),
    "jump": Way(
        lambda w: odeint(
            lambda t, y: _jumping(w, t, y),
            Y0,
            TIMES,
            **CALL,
            options=FIRST | {"jump_t": torch.tensor([0.5], dtype=torch.float64), "step_t": torch.tensor([0.25, 0.9])},
        ),
        _jumping,
        Y0,
    ),
    "bounded steps": Way(
        lambda w: odeint(
            field(w),
            Y0,
            TIMES,
            **CALL,
            options=FIRST | {"min_step": 0.04, "max_step": 0.2},
        ),
        _plain,
        Y0,
    ),
    "complex": Way(
        lambda w: odeint(lambda t, y: _turning(w, t, y), Y0 + 0j, TIMES, **CALL, options=FIRST),
        _turning,
        Y0 + 0j,
    ),
    "event": Way(
        lambda w: odeint_event(field(w), Y0, TIMES[0], event_fn=lambda t, y: t - 0.8, **CALL, options=FIRST),
        _plain,
        Y0,
    ),
    "dense": Way(
        lambda w: odeint_dense(field(w), Y0, TIMES[0], TIMES[-1], **CALL, options=FIRST),
        _plain,
        Y0,
    ),
}


def _replay_flat(way, weights, steps):
    """(E, S, kinetic energy) of each recorded step, in the user's time."""
    tableau, measured, y = SOLVERS["dopri5"].tableau, [], way.y0
    f = lambda t, y: way.flat(torch.as_tensor(weights), t, y)  # noqa: E731  # the field of these weights
    for t, h in torch.as_tensor(steps):
        just_after = torch.nextafter(t, t + h)  # a step that starts at a jump starts after it
        y1, _, error, k = rk_common._runge_kutta_step(_PerturbFunc(f), y, f(just_after, y), t, h, t + h, tableau)
        a, b = (y + h * (k[..., : len(row)] * row).sum(-1) for row in tableau.beta[-1:-3:-1])
        just_before = torch.nextafter(t + h, t)
        quotient = (f(just_before, a) - f(just_before, b)).abs().norm() / (a - b).abs().norm()
        y_abs = torch.maximum(y.abs(), y1.abs()).numpy()
        energy = mean_over_step([0, *tableau.alpha.tolist()], [rms(x.numpy()) ** 2 for x in k.movedim(-1, 0)])
        measured.append((way.norm(error.numpy() / (way.atol + way.rtol * y_abs)), quotient.item(), energy))
        y = y1
    return measured


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_call_it_has_the_value_and_the_gradient_of_the_frozen_grid(name):
    way, weights = WAYS[name], WEIGHTS.clone().requires_grad_()
    terms = [TERMS[term] for term in ("local_error", "stiffness", "kinetic_energy")]
    with tap.observe(sum(terms, start=0), trace=True) as seen:
        way.solve(weights)
    assert seen.stats.rejected > 0
    trace = seen.trace.numpy()
    steps = np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]]
    for place, term in enumerate(terms):

        def value(parameters, place=place, term=term):
            measured = [row[place] for row in _replay_flat(way, parameters, steps)]
            return reduce_steps(measured, steps[:, 1], term.reduce, term.weigh_by_step)

        (gradient,) = torch.autograd.grad(seen.values[term.name], weights, retain_graph=True)
        assert seen.values[term.name].item() == pytest.approx(value(WEIGHTS.numpy()), rel=1e-9), term.name
        assert_gradient_matches(value, WEIGHTS.numpy(), gradient.numpy())


@pytest.mark.parametrize("method", ["bosh3", "adaptive_heun"])
@pytest.mark.parametrize("backwards", [False, True])
def test_both_slopes_of_the_stiffness_are_taken_on_the_same_side_of_a_jump(method, backwards):
    jump = torch.tensor([0.5], dtype=torch.float64)
    forced = lambda t, y: torch.where(t > 0.5, 50.0, 0.0) - y  # noqa: E731  # its stiffness is 1
    times = TIMES.flip(0) if backwards else TIMES
    with tap.observe(tap.Stiffness(reduce="max")) as seen:
        odeint(forced, Y0, times, rtol=1e-6, atol=1e-6, method=method, options={"jump_t": jump, "first_step": 0.01})
    assert seen.penalty.item() == pytest.approx(1, rel=1e-3)
