"""On a GPU, where there is one: the same solves, no synchronisation of ours, a backward pass on another thread.

`make test-gpu` runs this file alone and says why where it has nothing to run on.
"""

import warnings

import pytest

import solvertap as tap
from solvertap.plugins import registry

TERM = tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")


def _torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchdiffeq")
    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no GPU")
    return torch


def _jax():
    jax = pytest.importorskip("jax")
    pytest.importorskip("diffrax")
    if jax.default_backend() == "cpu":
        pytest.skip(f"jax {jax.__version__} sees no GPU")
    return jax


def _torch_problem(torch):
    from torchdiffeq import odeint

    from tests.test_torchdiffeq import TIMES, Field, _y0

    field, y0, times = Field().cuda(), _y0().cuda(), TIMES.cuda()

    def solve(function=odeint):
        return function(field, y0, times, rtol=1e-5, atol=1e-5, method="dopri5", options={"first_step": 0.3})

    return field, solve


@pytest.mark.parametrize("name", ["torch", "torchdiffeq", "torchsde", "torchdyn", "diffrax"])
def test_doctor_passes_on_the_gpu(name):
    from solvertap.testing.conformance import QUICK, examine

    _jax() if name == "diffrax" else _torch()
    adapter = registry.plugins().adapters[name]
    pytest.importorskip(adapter.module)
    device = "gpu" if name == "diffrax" else "cuda"
    assert examine(adapter, device=device, promises=QUICK).failure is None


def test_observing_synchronises_no_more_often_than_the_bare_solve():
    torch = _torch()
    _, solve = _torch_problem(torch)

    def synchronisations(term):
        solve()  # whatever is done once has been done
        with tap.observe(term):
            solve()
        tap.detach()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if term is None:
                    solve()
                else:
                    with tap.observe(term) as seen:
                        solve()
                    _ = seen.penalty
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return len([warning for warning in caught if "synchroniz" in str(warning.message)])

    bare = synchronisations(None)
    assert bare > 0  # torchdiffeq's own: whether a step is accepted
    assert synchronisations(TERM) == bare


def test_solution_and_gradient_are_bitwise_the_bare_ones_and_the_backward_threads_find_the_observation():
    torch = _torch()
    from torch.utils.checkpoint import checkpoint
    from torchdiffeq import odeint_adjoint

    field, solve = _torch_problem(torch)
    tap.detach()
    bare = solve()
    (gradient,) = torch.autograd.grad(bare.sum(), field.weights)
    with tap.observe(TERM) as seen:
        y = solve()
    assert torch.equal(y, bare)
    assert torch.equal(torch.autograd.grad(y.sum(), field.weights, retain_graph=True)[0], gradient)
    (expected,) = torch.autograd.grad(seen.penalty, field.weights)
    with tap.observe(TERM) as checkpointed:
        checkpoint(solve, use_reentrant=False)
    (found,) = torch.autograd.grad(checkpointed.penalty, field.weights)
    assert torch.equal(found, expected)
    assert checkpointed.phases["recomputation"].solves == 1
    with tap.observe() as seen:
        y = solve(odeint_adjoint)
    y.sum().backward()
    assert seen.phases["adjoint"].solves > 0


def test_observed_diffrax_solve_transfers_nothing_between_host_and_device():
    jax = _jax()
    import jax.numpy as jnp

    from tests.test_diffrax import WEIGHTS, solve

    weights = jax.device_put(jnp.asarray(WEIGHTS))

    @jax.jit
    def penalty(weights):
        with tap.observe(TERM) as seen:
            solve(weights)
        return seen.penalty, seen.stats.accepted

    gradient = jax.jit(jax.grad(lambda weights: penalty(weights)[0]))
    penalty(weights), gradient(weights)  # compiled; constants are on the device
    with jax.transfer_guard("disallow"):
        value, accepted = penalty(weights)
        slope = gradient(weights)
    assert float(value) > 0
    assert int(accepted) > 0
    assert float(jnp.abs(slope).sum()) > 0


def test_numbers_of_a_penalty_are_not_waited_for():
    torch = _torch()
    from solvertap_torch._soon import soon

    values = [torch.full((), x, device="cuda") for x in (1.5, float("nan"))]
    soon(values)  # which makes the memory that the next one may use
    torch.cuda.synchronize()
    torch.cuda._sleep(500_000_000)
    torch.cuda.set_sync_debug_mode("error")
    try:
        numbers = soon(values)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert numbers() is None
    torch.cuda.synchronize()
    number, nan = numbers()
    assert number == 1.5
    assert nan != nan
