"""The tapped solve on two devices, in a process of its own: JAX counts its devices once."""

import json
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("diffrax")

import diffrax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import solvertap as tap
from tests.faults import fault

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TWO = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "JAX_ENABLE_X64": "1"}
WEIGHTS = jnp.array([[-1.0, 2.0], [-2.0, 0.5]])
BATCH = jnp.array([[1.0, -0.5], [3.0, -1.5], [0.1, 0.4], [-0.7, 2.0]])
EVERYWHERE, SPREAD = PartitionSpec(), PartitionSpec("batch")
# A sum over two devices is another order of summation.
RELATIVE = 1e-10


def solve(weights, y0, **options):
    """The first step given is too large: it is rejected."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, weights: 3 * jnp.tanh(y @ weights.T) - y),
        *(diffrax.Bosh3(), 0.0, 1.0, 0.9, y0, weights),
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3),
        **({"max_steps": 16} | options),
    )


def bare(weights, y0, **options):
    solution = solve(weights, y0, **options)
    return jnp.sum(solution.ys**2), (solution.stats["num_accepted_steps"], solution.ys)


def observed(weights, y0, **options):
    with tap.observe(10 * tap.LocalError() + 0.1 * tap.Stiffness()) as seen:
        task, (_, ys) = bare(weights, y0, **options)
    return task + seen.penalty, (seen.stats.accepted, ys)


def mean(function, weights, batch):
    values, aux = jax.vmap(function, in_axes=(None, 0))(weights, batch)
    return values.mean(), aux


differentiated = partial(jax.value_and_grad, has_aux=True)


def mesh():
    # `jax.make_mesh` makes explicit axes, of which diffrax 0.7.2 knows nothing (diffrax issue 738).
    return Mesh(jax.devices(), ("batch",))


def spread(function):
    """The compiler divides the work; all devices go on until the last sample is done."""
    weights, batch = (
        jax.device_put(x, NamedSharding(mesh(), spec)) for x, spec in ((WEIGHTS, EVERYWHERE), (BATCH, SPREAD))
    )
    return jax.jit(differentiated(function))(weights, batch)


def mapped(function=observed, check_vma=False, **options):
    """Each device solves for its own samples, and stops when these are done.

    Without `check_vma`, because diffrax 0.7.2 starts its loops from constants, which JAX then takes to be the same on
    all devices and to stay so (diffrax issue 735).
    """

    def on_one_device(weights, batch):
        (value, aux), gradient = differentiated(partial(mean, partial(function, **options)))(weights, batch)
        return (jax.lax.pmean(value, "batch"), aux), jax.lax.pmean(gradient, "batch")

    specs = {"in_specs": (EVERYWHERE, SPREAD), "out_specs": ((EVERYWHERE, SPREAD), EVERYWHERE)}
    return jax.jit(jax.shard_map(on_one_device, mesh=mesh(), check_vma=check_vma, **specs))(WEIGHTS, BATCH)


def report(found):
    (value, (accepted, ys)), gradient = found
    assert not ys.sharding.is_fully_replicated
    return {
        "devices": [len(x.sharding.device_set) for x in (value, accepted, ys, gradient)],
        "value": value.tolist(),
        "gradient": gradient.tolist(),
        "accepted": accepted.tolist(),
    }


def complaint(function, **options):
    """What is raised: the kind of error, and how it begins."""
    try:
        mapped(function, **options)
    except Exception as error:
        return [type(error).__name__, str(error).splitlines()[0]]


def complaints(function):
    # equinox 0.13.8 takes the loop of this adjoint to be called with other arguments than it was traced with (diffrax
    # issue 765); `DirectAdjoint` and `ForwardMode` have no such check.
    recursive = {"adjoint": diffrax.RecursiveCheckpointAdjoint()}
    return [complaint(function, **recursive), complaint(function, check_vma=True)]


def everything():
    return {
        "`jit`": report(spread(partial(mean, observed))),
        "`jax.shard_map`": report(mapped(adjoint=diffrax.DirectAdjoint())),
        "one state": report(spread(observed)),
        "complaints": [complaints(bare), complaints(observed)],
    }


def on_two_devices(*command):
    command = [sys.executable, *command]
    ran = subprocess.run(command, env=os.environ | TWO, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def found():
    return json.loads(on_two_devices("-m", "tests.test_sharding"))


def assert_same(found, value, gradient, accepted):
    assert found["devices"] == [2, 2, 2, 2]
    assert found["value"] == pytest.approx(float(value), rel=RELATIVE)
    np.testing.assert_allclose(found["gradient"], gradient, rtol=RELATIVE)
    assert found["accepted"] == accepted


@cache
def sample_by_sample():
    """The mean loss, its gradient and the steps of each sample, on one device."""
    single = jax.jit(differentiated(observed))
    ran = [single(WEIGHTS, y0) for y0 in BATCH]
    accepted = [int(steps) for (_, (steps, _)), _ in ran]
    assert len(set(accepted)) > 1
    return np.mean([value for (value, _), _ in ran]), np.mean([gradient for _, gradient in ran], axis=0), accepted


@fault(
    "a batch is spread over devices (`jit`, `jax.shard_map`)", "every sample has the penalty and steps of one device"
)
@pytest.mark.parametrize("way", ["`jit`", "`jax.shard_map`"])
def test_samples_on_two_devices_have_the_penalty_gradient_and_steps_of_one(way, found):
    assert_same(found[way], *sample_by_sample())


@fault("one state is spread over devices", "its penalty, gradient and steps are those of one device")
def test_state_over_two_devices_has_the_penalty_gradient_and_steps_of_one(found):
    (value, (accepted, _)), gradient = jax.jit(differentiated(observed))(WEIGHTS, BATCH)
    assert_same(found["one state"], value, gradient, int(accepted))


@fault("what diffrax itself cannot do under `jax.shard_map` (`check_vma`; its default adjoint)", "JAX's own error")
def test_error_under_shard_map_is_that_of_the_bare_solve(found):
    of_the_bare, of_the_observed = found["complaints"]
    assert of_the_observed == of_the_bare


def test_example_runs_on_two_devices():
    (line,) = on_two_devices("examples/sharded_diffrax.py").splitlines()
    assert "devices 2" in line


if __name__ == "__main__":
    print(json.dumps(everything()))
