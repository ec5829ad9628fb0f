"""An adapter for a solver of your own, in JAX: a `lax.while_loop` around a Runge-Kutta pair written by hand.

The loop passes every step to the function `ride`, which updates a carry of the caller's. This is all that a traced loop
must offer: a value can leave it only in its carry. The adapter does the rest.
"""

import sys
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import get_opaque_trace_state

import solvertap as tap
from solvertap import adapting


# --- the solver -----------------------------------------------------------------------------------------------
def bogacki_shampine(field, t, y, h):
    k1 = field(t, y)
    k2 = field(t + h / 2, y + h / 2 * k1)
    k3 = field(t + 3 * h / 4, y + 3 * h / 4 * k2)
    y1 = y + h * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
    return y1, h * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * field(t + h, y1))


def integrate(field, y, t0, t1, tolerance=1e-4, h=0.5, ride=lambda carry, *step: carry, carry=()):
    def attempt(state):
        t, h, y, carry = state
        h = jnp.minimum(h, t1 - t)
        y1, error = bogacki_shampine(field, t, y, h)
        scale = tolerance + tolerance * jnp.maximum(abs(y), abs(y1))
        ratio = lax.stop_gradient(jnp.sqrt(jnp.mean((error / scale) ** 2)))
        accepted = ratio <= 1
        carry = ride(carry, t, t + h, y, y1, error, accepted)
        t, y = jnp.where(accepted, t + h, t), jnp.where(accepted, y1, y)
        return t, h * jnp.clip(0.9 * jnp.maximum(ratio, 1e-8) ** (-1 / 3), 0.2, 5.0), y, carry

    start = jnp.asarray(t0, y.dtype), jnp.asarray(h, y.dtype), y, carry
    _, _, y, carry = lax.while_loop(lambda state: state[0] < t1, attempt, start)
    return (y, carry) if carry != () else y


# --- its adapter -----------------------------------------------------------------------------------------------
class OwnSolver(adapting.Adapter):
    name = "own-solver-jax"
    module = __name__
    serves = adapting.Serves(samples=True)

    def attach(self, patches):
        patches.replace(sys.modules[__name__], "integrate", self.tapped_integrate)

    def constant(self, x):
        return lax.stop_gradient(x)

    def trace_context(self):
        return get_opaque_trace_state()

    def has_outlived(self, x):
        try:
            return isinstance(x, jax.core.Tracer) and x + 0 is None
        except jax.errors.UnexpectedTracerError:  # JAX raises it for a tracer used after its trace
            return True

    def on_host(self, function, stats):  # observers get numbers, once the compiled program has run
        jax.debug.callback(lambda numbers: function(jax.tree.map(int, numbers)), stats)

    def tapped_integrate(self, original):
        def integrate(field, y, t0, t1, tolerance=1e-4, h=0.5):
            solve = adapting.open_solve(self)  # None unless somebody observes
            if solve is None:
                return original(field, y, t0, t1, tolerance, h)
            calls = Counter()

            def counted(why, t, y):
                calls[why] += 1
                with tap.unobserved():  # a solve inside the field is part of the field
                    return field(t, y)

            def describe(t0, t1, y0, y1, error, accepted=True):
                terms = dict(field=partial(counted, "terms"), rtol=tolerance, atol=tolerance)
                return tap.Step(t0=t0, t1=t1, y0=y0, y1=y1, error=error, accepted=accepted, **terms)

            def ride(carry, *attempt):
                calls["attempts"] += 1  # JAX may trace the loop more than once
                return riding.update(carry, describe(*attempt))

            def restart(t0, y0, t1):  # one step from anywhere, for `LocalSample`
                solve.counts.evaluations += 4  # `finish` calls this, and counts them as measuring
                return describe(t0, t1, y0, *bogacki_shampine(partial(counted, "sample"), t0, y0, t1 - t0))

            with solve:
                if solve.extra_step is not None:
                    solve.extra_step.begin(restart, t1, y)
                riding = solve.ride(y)
                y, carry = original(partial(counted, "loop"), y, t0, t1, tolerance, h, ride, riding.carry)
                attempts = carry.accepted + carry.rejected
                solve.counts.evaluations = calls["loop"] // calls["attempts"] * attempts
                solve.measuring.evaluations = calls["terms"] // calls["attempts"] * attempts
                solve.finish(riding, carry)
            return y

        return integrate


def main(epochs=60):
    """Trains five weights: a `lax.while_loop` allows forward mode only, which suits small models."""
    tap.register(OwnSolver())
    x = jnp.linspace(-1, 1, 64)
    term = 0.1 * tap.LocalError() + 1e-3 * tap.Stiffness(reduce="mean")

    def loss(w):
        with tap.observe(term) as seen:
            y = integrate(lambda t, y: 5 * (w[0] * jnp.tanh(w[1] * y + w[2]) + w[3] * y + w[4]), x, 0.0, 1.0)
        total = jnp.mean((y - x**3) ** 2) + seen.penalty
        return total, (total, seen.penalty, seen.stats)

    @jax.jit
    def train(w):
        gradient, (total, penalty, stats) = jax.jacfwd(loss, has_aux=True)(w)
        return w - 0.01 * gradient, total, penalty, stats

    w, losses = jnp.array([0.5, 1.0, 0.1, -0.3, 0.0]), []
    for _ in range(epochs):
        w, total, penalty, stats = train(w)
        losses.append(float(total))
    print(f"loss {losses[0]:.4f} to {losses[-1]:.4f}, penalty {float(penalty):.4f}, {jax.tree.map(int, stats)}")
    return losses, stats


if __name__ == "__main__":
    main()
