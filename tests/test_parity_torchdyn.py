"""torchdyn, aligned, takes the steps of torchdiffeq and diffrax and gives the same penalty."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdyn.numerics")
pytest.importorskip("torchdiffeq")
pytest.importorskip("diffrax")

import diffrax
from torchdyn.numerics import odeint

import solvertap as tap
from solvertap import errors
from tests.cells import proves
from tests.oracle import TERMS, weighted
from tests.test_parity import FREE_GRADIENT, FREE_VALUE, PROBLEMS, in_jax, in_torch


def in_torchdyn(problem, weights, y0, t1, method, tolerance, align=True, times=(), **options):
    """What `in_torch` gives, by torchdyn."""
    weights, y0 = torch.tensor(weights, requires_grad=True), torch.tensor(y0)
    times = torch.tensor([0.0, *times, t1], dtype=torch.float64)
    with tap.observe(weighted([1.0] * len(TERMS)), align=align, trace=True) as seen:
        field = lambda t, y: problem(torch, t, y, weights)  # noqa: E731  # of these weights
        odeint(field, y0, times, method, atol=tolerance, rtol=tolerance, **options)
    gradients = {
        name: torch.autograd.grad(value, weights, retain_graph=True)[0].numpy() for name, value in seen.values.items()
    }
    return {name: value.item() for name, value in seen.values.items()}, gradients, seen.stats, seen.trace.numpy()


def assert_same(found, expected):
    values, gradients, stats, trace = found
    other_values, other_gradients, other_stats, other_trace = expected
    assert stats.rejected > 0
    assert (stats.accepted, stats.rejected) == (int(other_stats.accepted), int(other_stats.rejected))
    assert np.array_equal(trace["accepted"], other_trace["accepted"])
    assert np.allclose(trace["h"], other_trace["h"], rtol=1e-6)
    for name in TERMS:
        assert values[name] == pytest.approx(float(other_values[name]), rel=FREE_VALUE), name
        scale = np.linalg.norm(gradients[name])
        assert np.linalg.norm(gradients[name] - np.asarray(other_gradients[name])) <= FREE_GRADIENT * scale, name


@pytest.mark.parametrize(
    "problem", [pytest.param(p, marks=proves("torchdyn", "dopri5", TERMS, "parity")) for p in PROBLEMS]
)
def test_aligned_dopri5_gives_the_penalty_of_torchdiffeq(problem):
    found = in_torchdyn(*PROBLEMS[problem], "dopri5", 1e-6)
    assert_same(found, in_torch(*PROBLEMS[problem], "dopri5", 1e-6))


@proves("torchdyn", "tsit5", TERMS, "parity")
def test_aligned_tsit5_gives_the_penalty_of_diffrax():
    arguments = PROBLEMS["random field 0"]
    assert_same(in_torchdyn(*arguments, "tsit5", 1e-5), in_jax(*arguments, diffrax.Tsit5(), 1e-5))


def test_without_aligning_the_steps_differ():
    arguments = PROBLEMS["random field 0"]
    *_, trace = in_torchdyn(*arguments, "dopri5", 1e-6, align=False)
    *_, other = in_torch(*arguments, "dopri5", 1e-6, align=True)
    assert not np.allclose(trace["h"][:3], other["h"][:3], rtol=1e-3)


def test_times_between_are_served_by_interpolation_and_refused_otherwise():
    solve = partial(in_torchdyn, *PROBLEMS["random field 0"], "dopri5", 1e-6, times=(0.3, 0.6))
    assert_same(solve(interpolator="4th"), in_torch(*PROBLEMS["random field 0"], "dopri5", 1e-6))
    with pytest.raises(errors.AlignError, match="4 times"):
        solve()
