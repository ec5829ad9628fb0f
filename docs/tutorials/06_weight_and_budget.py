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
# # Choosing the weight, or a budget
#
# How large should the weight of the penalty be? Too small, and nothing changes. Too large, and the model learns less.
# This page tries some weights, reads the answer off a picture, and then lets `tap.budget` find a weight by itself.
#
# The data are real: 1797 handwritten digits of 8 by 8 pixels, which scikit-learn ships. The weight is chosen on a
# validation split. The test split is for the end.

# %%
import os

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torchdiffeq import odeint

import solvertap as tap

epochs = 2 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 20  # the tests of this page train for 2

# %%
pixels, digits = load_digits(return_X_y=True)
order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
x, y = torch.tensor(pixels / 16, dtype=torch.float32)[order], torch.tensor(digits)[order]
train_set, validation, test_set = [(x[part], y[part]) for part in (slice(1000), slice(1000, 1400), slice(1400, None))]
print(
    *(
        f"{len(part[1])} digits to {what}"
        for part, what in [(train_set, "train"), (validation, "choose"), (test_set, "test")]
    ),
    sep=", ",
)


# %% [markdown]
# ## A training loop that knows nothing of penalties


# %%
class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.head = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)

    def forward(self, x):
        times = torch.tensor([0.0, 1.0])
        return self.head(odeint(lambda t, y: self.outer(torch.tanh(self.inner(y))), x, times, rtol=1e-6, atol=1e-6)[-1])


def train():
    torch.manual_seed(0)
    model = Classifier()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(epochs):
        for batch in torch.randperm(1000).split(125):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(train_set[0][batch]), train_set[1][batch]).backward()
            optimiser.step()
    return model


def test(model, part):
    """The accuracy in percent, and the evaluations of the solve that predicts the whole part."""
    with torch.no_grad(), tap.observe() as seen:
        right = (model(part[0]).argmax(1) == part[1]).float().mean().item()
    return 100 * right, seen.stats.evaluations


# %% [markdown]
# ## Some weights
#
# `tap.regularize` adds the penalty to every backward pass that trains, so the loop stays as it is. A good first weight
# makes the penalty about a tenth of the loss. From there go up and down by factors of ten.

# %%
models = {0.0: train()}
for weight in (0.01, 0.1, 1.0):
    with tap.regularize(weight * tap.LocalError()):
        models[weight] = train()

found = {weight: test(model, validation) for weight, model in models.items()}
for weight, (accuracy, evaluations) in found.items():
    print(f"weight {weight:<6g} {accuracy:.1f} % right on the validation data, {evaluations} evaluations")

# %% [markdown]
# A rule to choose by, made before looking: of the weights that lose at most one point of accuracy, take the one with
# the fewest evaluations.

# %%
allowed = found[0.0][0] - 1.0
chosen = min((weight for weight in found if found[weight][0] >= allowed), key=lambda weight: found[weight][1])
print(f"the weight is {chosen:g}")

# %% [markdown]
# ## A budget instead
#
# A budget says what you want: at most so many steps a solve. It finds the weight while it trains. It never lets the
# penalty's gradient outgrow that of the loss, so the model still learns. The price: a tight budget may not be met yet
# when a short training ends.

# %%
with tap.regularize(tap.budget(steps=4)) as regularizer:
    budgeted = train()
budget_found = test(budgeted, validation)
print(f"budget of 4 steps: {budget_found[0]:.1f} % right on the validation data, {budget_found[1]} evaluations")
state = regularizer.budget_state
print(f"at the end the weight was {float(state.weight):.3g}, and a training solve took {float(state.level):.1f} steps")

# %% [markdown]
# ## The test, once

# %%
for name, model in [("plain", models[0.0]), (f"weight {chosen:g}", models[chosen]), ("budget", budgeted)]:
    accuracy, evaluations = test(model, test_set)
    print(f"{name}: {accuracy:.1f} % right on the test data, {evaluations} evaluations")

# %% [markdown]
# Up and left is better. 400 digits decide the accuracy, so one of them is a quarter of a point: differences of less
# than a point are noise.

# %%
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
axis.plot(*found[0.0][::-1], "o", color="#777777", ms=9, label="plain")
penalized = [found[weight] for weight in found if weight]
axis.plot([e for _, e in penalized], [a for a, _ in penalized], "s-", color="#0072B2", label="a weight")
for weight in found:
    if weight:
        axis.annotate(f"{weight:g}", found[weight][::-1], (6, 6), textcoords="offset points")
axis.plot(*budget_found[::-1], "^", color="#D55E00", ms=9, label="budget of 4 steps")
low, high = axis.get_ylim()
axis.set(ylim=(min(low, high - 4), high + 0.5), xlim=(0, 1.05 * axis.get_xlim()[1]))  # no zoom into noise
axis.set(xlabel="evaluations of one prediction", ylabel="validation accuracy (%)")
figure.legend(frameon=False, loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - The same without Python: `solvertap run --budget 5 train.py`.
# - `solvertap compare mnist --search 12` gives every method, and its rivals, the same number of trials.
