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
# # A neural ODE made cheap, in diffrax
#
# This is [the first tutorial](01_neural_ode_torchdiffeq.html) for JAX: the same digits and the same model, written with
# Equinox, diffrax and Optax. The two lines are the same two lines. Only their place is different: they stand inside the
# function that you compile and differentiate.
#
# The data are real: 1797 handwritten digits of 8 by 8 pixels, which scikit-learn ships.

# %%
import os

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import solvertap as tap

epochs = 3 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 30  # the tests of this page train for 3

# %%
pixels, digits = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(pixels / 16, digits, test_size=500, random_state=0)
print(f"{len(train_x)} digits to train on, {len(test_x)} to test on")

# %% [markdown]
# ## The model


# %%
class Classifier(eqx.Module):
    inner: eqx.nn.Linear
    outer: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.inner = eqx.nn.Linear(65, 64, key=keys[0])
        self.outer = eqx.nn.Linear(65, 64, key=keys[1])
        self.head = eqx.nn.Linear(64, 10, key=keys[2])

    def field(self, t, y, args):
        hidden = jax.vmap(lambda row: jnp.tanh(self.inner(jnp.append(row, t))))(y)
        return jax.vmap(lambda row: self.outer(jnp.append(row, t)))(hidden)

    def __call__(self, x):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(self.field),
            diffrax.Dopri5(),
            *(0.0, 1.0, None, x),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
            max_steps=256,
        )
        return jax.vmap(self.head)(solution.ys[-1])


# %% [markdown]
# ## The two lines
#
# The block is inside the function, so that what it measures lives as long as the function's other values. Return
# `seen.stats` to read the counts outside. The weight may be an argument: another weight compiles nothing anew.


# %%
@eqx.filter_value_and_grad(has_aux=True)
def loss(model, x, y, weight):
    with tap.observe(weight * tap.LocalError()) as seen:  # the first line
        logits = model(x)
    task = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return task + seen.penalty, seen.stats  # the second line


optimiser = optax.adam(0.01)


@eqx.filter_jit
def update(model, state, x, y, weight):
    (_, stats), gradient = loss(model, x, y, weight)
    change, state = optimiser.update(gradient, state)
    return eqx.apply_updates(model, change), state, stats


def train(weight):
    model, evaluations = Classifier(jax.random.key(0)), []
    state = optimiser.init(eqx.filter(model, eqx.is_array))
    order = np.random.default_rng(0)
    for _ in range(epochs):
        for batch in order.permutation(len(train_x))[:1280].reshape(10, 128):
            model, state, stats = update(model, state, train_x[batch], train_y[batch], jnp.asarray(weight))
            evaluations.append(int(stats.evaluations))
    return model, evaluations


plain, plain_evaluations = train(0.0)
cheap, cheap_evaluations = train(0.1)

# %% [markdown]
# ## What came out
#
# One prediction of all test digits is one solve. `seen.stats` counts it, and `trace=True` records each step.


# %%
@eqx.filter_jit
def predict(model, x):
    with tap.observe(trace=True) as seen:
        logits = model(x)
    return logits.argmax(1), seen.stats, seen.trace


def test(model):
    predicted, stats, trace = predict(model, test_x)
    return 100 * float(np.mean(predicted == test_y)), int(stats.evaluations), trace


plain_accuracy, plain_last, plain_trace = test(plain)
cheap_accuracy, cheap_last, cheap_trace = test(cheap)
print(f"plain:     {plain_accuracy:.1f} % right, {plain_last} evaluations of the network")
print(f"penalized: {cheap_accuracy:.1f} % right, {cheap_last} evaluations of the network")
print(f"evaluations over the plain model's: {cheap_last / plain_last:.2f}")

# %% [markdown]
# Left: what each training solve cost. Right: where the solver put its steps in the last prediction. Each mark is a
# step.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for row, (label, colour, counts, trace) in enumerate(
    [("plain", "#777777", plain_evaluations, plain_trace), ("penalized", "#0072B2", cheap_evaluations, cheap_trace)]
):
    left.plot(counts, color=colour, label=label)
    steps = trace.numpy()
    right.plot(steps["t"], [1 - row] * len(steps["t"]), "|-", ms=22, color=colour)
left.set(xlabel="optimiser step", ylabel="evaluations of one solve", ylim=(0, None))
left.legend(frameon=False)
right.set(xlabel="time t of the neural ODE", ylim=(-0.7, 1.7), xlim=(-0.03, 1.03), yticks=[1, 0])
right.set_yticklabels(["plain", "penalized"])
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - [Under `jit`, `vmap` and sharding](09_transformations.html): what the block does there.
# - [Choosing the weight](06_weight_and_budget.html): the weight 0.1 was a guess.
