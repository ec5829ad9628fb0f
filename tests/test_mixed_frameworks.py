"""Two frameworks in one process, and values that have left the transformation they belong to."""

import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
pytest.importorskip("torchdiffeq")
pytest.importorskip("diffrax")

import jax.numpy as jnp
import numpy as np

import solvertap as tap
from solvertap import errors
from tests import test_diffrax, test_torchdiffeq
from tests.faults import fault

TERM = tap.LocalError()


def _torch_solve():
    return test_torchdiffeq.odeint(
        test_torchdiffeq.Field(), test_torchdiffeq._y0(), test_torchdiffeq.TIMES, rtol=1e-4, atol=1e-4
    )


@fault(
    "one block holds solves of two frameworks",
    "statistics add up; their penalty is a `MixedFrameworksError` that names both",
)
def test_solves_of_two_frameworks_have_statistics_and_no_penalty_in_common():
    with tap.observe(TERM) as seen:
        _torch_solve()
        test_diffrax.solve()
    assert seen.stats.solves == 2
    for solve in seen.solves:
        assert len(solve.values) == 1
    for read in ("penalty", "values"):
        with pytest.raises(errors.MixedFrameworksError, match="diffrax, torchdiffeq"):
            getattr(seen, read)


@fault("a weight is an array of another framework than the solve", "`MixedFrameworksError`, which names both")
def test_weight_of_another_framework_is_refused_and_one_of_numpy_is_a_number():
    with tap.observe(jnp.asarray(2.0) * TERM) as seen:
        _torch_solve()
    with pytest.raises(errors.MixedFrameworksError, match=r"an array of `jax\.numpy`, and its value one of `torch`"):
        _ = seen.penalty
    with tap.observe(torch.tensor(2.0) * TERM) as seen:
        test_diffrax.solve()
    with pytest.raises(errors.MixedFrameworksError, match="Give the weight as a number"):
        _ = seen.penalty
    for weight in (2.0, np.float64(2.0), np.asarray(2.0), torch.tensor(2.0)):
        with tap.observe(weight * TERM) as seen:
            _torch_solve()
        assert seen.penalty.item() == pytest.approx(2 * seen.values["local_error"].item())
        assert seen.penalty.requires_grad


@fault(
    "a penalty is read after the transformation it belongs to",
    "`EscapedTraceError`: return the value from the transformed function",
)
@pytest.mark.parametrize("transform", [jax.jit, jax.grad], ids=["jit", "grad"])
def test_value_that_outlives_its_trace_is_refused_with_the_remedy(transform):
    kept = []

    def penalty(weights):
        with tap.observe(TERM) as seen:
            test_diffrax.solve(weights)
        kept.append(seen)
        return jax.jit(lambda: seen.penalty)()  # read in a transformation of its own inside: it is alive there

    assert jnp.all(jnp.isfinite(transform(penalty)(jnp.asarray(test_diffrax.WEIGHTS))))
    for read in ("penalty", "values", "stats", "phases"):
        with pytest.raises(errors.EscapedTraceError, match=r"Return `seen\.penalty`.* or `seen\.stats`"):
            getattr(kept[-1], read)


def test_value_of_a_solve_that_nobody_transformed_is_read_anywhere():
    with tap.observe(TERM) as seen:
        test_diffrax.solve()
    assert jax.jit(lambda: seen.penalty)() == seen.penalty
    assert seen.stats.accepted > 0
