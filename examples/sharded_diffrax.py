"""A batch sharded over devices: every sample has the same steps and penalty as on a single device.

It uses all devices. To have two on a CPU:
JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 python examples/sharded_diffrax.py
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import solvertap as tap

mesh = Mesh(jax.devices(), ("batch",))
net = eqx.nn.MLP(2, 2, 50, 1, jax.nn.tanh, key=jax.random.key(0))
starts = jax.random.normal(jax.random.key(1), (4 * mesh.size, 2))
starts = jax.device_put(starts, NamedSharding(mesh, PartitionSpec("batch")))
controller = diffrax.PIDController(rtol=1e-6, atol=1e-6)


@eqx.filter_jit
@eqx.filter_value_and_grad(has_aux=True)
def loss(net, starts):
    def sample(y0):
        term = diffrax.ODETerm(lambda t, y, args: net(y**3))
        with tap.observe(0.1 * tap.LocalError()) as seen:
            solution = diffrax.diffeqsolve(term, diffrax.Tsit5(), 0.0, 1.0, None, y0, stepsize_controller=controller)
        return jnp.mean(solution.ys**2) + seen.penalty, seen.stats.accepted

    losses, accepted = jax.vmap(sample)(starts)
    return jnp.mean(losses), accepted


(value, accepted), gradient = loss(net, starts)
print(f"loss {value:.4f}, devices {len(accepted.sharding.device_set)}, steps {accepted.tolist()}")
