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
# # Looking at a slow solve
#
# A solve takes long. Why? The solver knows: at every step it has estimated its error and chosen a size. This page reads
# that off, first for one solve and then for a batch.
#
# The two equations are textbook ones, made here and not measured: Van der Pol's oscillator, and a pendulum.

# %%
import os

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import torch
from torchdiffeq import odeint

import solvertap as tap

end = 50.0 if os.environ.get("SOLVERTAP_TUTORIAL") == "short" else 250.0  # the tests of this page stop at 50

# %% [markdown]
# ## Count first
#
# `tap.observe(trace=True)` records every step that the solver attempts. It changes nothing: the solution is the same
# bit by bit.

# %%
strength = 100.0


def oscillator(t, y):
    return torch.stack([y[1], strength * (1 - y[0] ** 2) * y[1] - y[0]])


y0 = torch.tensor([2.0, 0.0], dtype=torch.float64)
times = torch.linspace(0, end, 400, dtype=torch.float64)
with torch.no_grad(), tap.observe(trace=True) as seen:
    solution = odeint(oscillator, y0, times, rtol=1e-4, atol=1e-4)
explicit = seen.stats
print(f"{explicit.accepted} steps, {explicit.rejected} more that were rejected, {explicit.evaluations} evaluations")

# %% [markdown]
# ## Ask why

# %%
explanations = seen.explain()
print(*explanations, sep="\n")

# %% [markdown]
# The equation is *stiff*: the solution hardly moves, and yet an explicit method has to take tiny steps, or it would
# explode. `h S` is at the edge of what the method can stand. A smaller tolerance or a faster machine does not help.
#
# ## Do what it says
#
# An implicit solver has no such edge. diffrax has some.


# %%
def implicit_solve(y0):
    with tap.observe(trace=4096) as seen:
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: jnp.stack([y[1], strength * (1 - y[0] ** 2) * y[1] - y[0]])),
            diffrax.Kvaerno5(),
            *(0.0, end, 0.01, y0),
            stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
        )
    return seen.stats, seen.trace


with jax.enable_x64(True):
    implicit, implicit_trace = jax.jit(implicit_solve)(jnp.array([2.0, 0.0]))
implicit_steps = int(implicit.accepted) + int(implicit.rejected)
print(f"{implicit_steps} steps instead of {explicit.accepted + explicit.rejected}")

# %% [markdown]
# Each of these steps costs more, since it solves an equation. If your field is a network, you have another way out:
# train it with `tap.Stiffness()` or `tap.LocalError()` to be easy.
#
# ## Which sample is it?
#
# A solver takes one step for the whole batch. One hard sample makes all others wait. `by="sample"` names it. Here 32
# pendulums swing, and one of them turns over fast.

# %%
start = torch.randn(32, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
start[17, 1] = 25.0


def pendulum(t, y):
    return torch.stack([y[:, 1], -9.81 * torch.sin(y[:, 0])], 1)


def steps_of(start):
    with torch.no_grad(), tap.observe(trace=True, by="sample") as seen:
        odeint(pendulum, start, torch.tensor([0.0, 5.0], dtype=torch.float64), rtol=1e-6, atol=1e-6)
    return seen


together = steps_of(start)
samples, shares = together.trace.worst(3)
for sample, share in zip(samples, shares, strict=True):
    print(f"pendulum {sample}: {100 * share:.0f} % of the squared error")
hard = int(samples[0])
without = steps_of(torch.cat([start[:hard], start[hard + 1 :]]))
print(f"{together.stats.evaluations} evaluations with it, {without.stats.evaluations} without it")

# %% [markdown]
# Left: the oscillator, and below it the size of each step. The explicit method creeps where nothing happens. Right: the
# share of each pendulum in the error that the step size follows.

# %%
figure = plt.figure(figsize=(12, 4.6), layout="constrained")
grid = figure.add_gridspec(2, 2, width_ratios=[2, 1])
above, below, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[:, 1])
above.plot(times, solution[:, 0], color="#777777")
above.set(ylabel="place of the oscillator", xticklabels=[])
for trace, colour, name in [
    (seen.trace, "#D55E00", "explicit: dopri5"),
    (implicit_trace, "#0072B2", "implicit: Kvaerno5"),
]:
    steps = trace.numpy()
    kept = steps["accepted"]
    below.plot(steps["t"][kept], steps["h"][kept], ".", ms=3, color=colour, label=name)
below.set(yscale="log", xlabel="time t", ylabel="step size |h|", xlim=above.get_xlim())
below.set_yticks([0.0001, 0.01, 1], ["0.0001", "0.01", "1"])
below.set_yticks([], minor=True)
figure.legend(frameon=False, loc="outside upper left", ncols=2, markerscale=3)
samples, shares = together.trace.worst(len(start))
right.bar(samples, 100 * shares, color=["#D55E00" if i == hard else "#777777" for i in samples])
right.set(xlabel="pendulum", ylabel="share of the squared error (%)")
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - In a script of your own nothing has to be edited: `solvertap explain train.py`. With `--report report.html` it draws
#   pictures.
# - A field that gets slow *as it trains*: [a neural ODE made cheap](01_neural_ode_torchdiffeq.html).
