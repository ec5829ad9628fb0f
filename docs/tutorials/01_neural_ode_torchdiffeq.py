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
# # A neural ODE made cheap, in torchdiffeq
#
# A neural ODE is a layer that solves a differential equation. The solver chooses its own steps. As the model learns,
# the equation usually gets harder to solve, so each step of training takes more evaluations of the network.
#
# Here you train the same classifier twice, once as it is and once with two more lines. Both learn. One stays cheap.
#
# The data are real: 1797 handwritten digits of 8 by 8 pixels, which scikit-learn ships.

# %%
import os

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchdiffeq import odeint

import solvertap as tap

epochs = 3 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 30  # the tests of this page train for 3

# %%
pixels, digits = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(pixels / 16, digits, test_size=500, random_state=0)
train_x, test_x = torch.tensor(train_x, dtype=torch.float32), torch.tensor(test_x, dtype=torch.float32)
train_y, test_y = torch.tensor(train_y), torch.tensor(test_y)
print(f"{len(train_x)} digits to train on, {len(test_x)} to test on")

# %% [markdown]
# ## The model
#
# The 64 pixels are the state at time 0. A small network says how the state changes. A linear layer reads the digit off
# the state at time 1.


# %%
class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(65, 64), torch.nn.Linear(65, 64)
        self.head = torch.nn.Linear(64, 10)

    def field(self, t, y):
        time = t.expand(len(y), 1)
        hidden = torch.tanh(self.inner(torch.cat([y, time], 1)))
        return self.outer(torch.cat([hidden, time], 1))

    def forward(self, x):
        y = odeint(self.field, x, torch.tensor([0.0, 1.0]), rtol=1e-6, atol=1e-6)
        return self.head(y[-1])


# %% [markdown]
# ## The two lines
#
# `tap.observe` watches every solve inside its block. Without a term it only counts. With `tap.LocalError()` it also
# sums up the solver's own estimate of its error over the steps, and `seen.penalty` is that sum times its weight. The
# penalty has a gradient, so adding it to the loss teaches the model to be easy to solve. A weight of 0 is the plain
# model.


# %%
def train(weight):
    torch.manual_seed(0)
    model, losses, evaluations = Classifier(), [], []
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(train_x)).split(128):
            with tap.observe(weight * tap.LocalError()) as seen:  # the first line
                logits = model(train_x[batch])
            loss = torch.nn.functional.cross_entropy(logits, train_y[batch])
            optimiser.zero_grad()
            (loss + seen.penalty).backward()  # the second line
            optimiser.step()
            losses.append(loss.item())
            evaluations.append(seen.stats.evaluations)
    return model, losses, evaluations


plain, plain_losses, plain_evaluations = train(0.0)
cheap, cheap_losses, cheap_evaluations = train(0.1)

# %% [markdown]
# ## What came out
#
# One prediction of all test digits is one solve. `seen.stats` counts it, and `trace=True` records each step.


# %%
def test(model):
    with torch.no_grad(), tap.observe(trace=True) as seen:
        right = (model(test_x).argmax(1) == test_y).float().mean().item()
    return 100 * right, seen.stats, seen.trace


plain_accuracy, plain_stats, plain_trace = test(plain)
cheap_accuracy, cheap_stats, cheap_trace = test(cheap)
print(f"plain:     {plain_accuracy:.1f} % right, {plain_stats.evaluations} evaluations of the network")
print(f"penalized: {cheap_accuracy:.1f} % right, {cheap_stats.evaluations} evaluations of the network")
print(f"evaluations over the plain model's: {cheap_stats.evaluations / plain_stats.evaluations:.2f}")

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
# - The weight 0.1 was a guess. [Choosing the weight](06_weight_and_budget.html) shows how to find one.
# - [The same in diffrax](02_neural_ode_diffrax.html) is this page for JAX.
# - In a script of your own nothing has to be edited: `solvertap run --term "0.1*local_error" train.py`.
