"""The two lines to add to code with JAX's own `odeint`. Its adjoint is continuous, hence `replay`."""

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint

import solvertap as tap

weights = jax.random.normal(jax.random.key(0), (2, 2))
times = jnp.linspace(0, 1, 20)


@jax.jit
def loss(weights, y0):
    with tap.observe(0.1 * tap.LocalError() + 0.1 * tap.Stiffness(), replay=True) as seen:  # the first
        y = odeint(lambda y, t, w: jnp.tanh(w @ y**3), y0, times, weights, rtol=1e-6, atol=1e-6, mxstep=1000)
    return jnp.mean(y**2) + seen.penalty, (seen.penalty, seen.stats)  # the second


(value, (penalty, stats)), gradient = jax.value_and_grad(loss, has_aux=True)(weights, jnp.array([2.0, 0.0]))
print(f"penalty {float(penalty):.4f}, {jax.tree.map(int, stats)}")
