"""The two lines to add to diffrax code, inside the function that is differentiated and compiled."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

import solvertap as tap

net = eqx.nn.MLP(2, 2, 50, 1, jax.nn.tanh, key=jax.random.key(0))
controller = diffrax.PIDController(rtol=1e-6, atol=1e-6)


@eqx.filter_jit
@eqx.filter_value_and_grad(has_aux=True)
def loss(net, y0):
    term = diffrax.ODETerm(lambda t, y, net: net(y**3))
    with tap.observe(0.1 * tap.LocalError() + 0.1 * tap.Stiffness()) as seen:  # the first
        solution = diffrax.diffeqsolve(term, diffrax.Tsit5(), 0.0, 1.0, None, y0, net, stepsize_controller=controller)
    return jnp.mean(solution.ys**2) + seen.penalty, (seen.penalty, seen.stats)  # the second


(value, (penalty, stats)), gradient = loss(net, jnp.array([2.0, 0.0]))
print(f"penalty {float(penalty):.4f}, {jax.tree.map(int, stats)}")
