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
# # Under torch.compile, DDP, jit, vmap and sharding
#
# The two lines work under the transformations of both frameworks. This page shows each in a few lines, and checks that
# the counts are those of the plain call.
#
# The data are real: 178 Italian wines, of which 13 properties were measured, and which of three growers made them.
# scikit-learn ships them. Nothing is trained here, so the models are random.

# %%
import os

short = os.environ.get("SOLVERTAP_TUTORIAL") == "short"  # the tests of this page do not wait for the C++ compiler
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")  # two devices to shard over, on a machine that has one

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn  # before DDP imports it
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch.nn.parallel import DistributedDataParallel
from torchdiffeq import odeint

import solvertap as tap

tap.attach()  # before anything is compiled
wines = StandardScaler().fit_transform(load_wine().data).astype("float32")
print(f"{len(wines)} wines, {wines.shape[1]} properties of each")


# %% [markdown]
# ## The plain call, in torch


# %%
class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(13, 32), torch.nn.Tanh(), torch.nn.Linear(32, 13))

    def forward(self, t, y):
        return 8 * self.net(y)


class Model(torch.nn.Module):
    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, y0):
        with tap.observe(0.1 * tap.LocalError()) as seen:
            y = odeint(self.field, y0, torch.tensor([0.0, 1.0]), rtol=1e-6, atol=1e-6)
        return y[-1].square().mean() + seen.penalty, seen.stats


torch.manual_seed(0)
field, y0 = Field(), torch.tensor(wines)
loss, plain_stats = Model(field)(y0)
print(f"loss {loss.item():.6f}, {plain_stats.evaluations} evaluations")

# %% [markdown]
# ## `torch.compile`
#
# Compile the field, which is where the time goes. (`torch.compile` of the whole loss works too.)

# %%
compiled = torch.compile(field, backend="eager" if short else "inductor")
loss, compiled_stats = Model(compiled)(y0)
loss.backward()
print(f"loss {loss.item():.6f}, {compiled_stats.evaluations} evaluations")

# %% [markdown]
# ## DistributedDataParallel
#
# The block and the solve are inside the module that DDP wraps. Each process adds the penalty of its own solve, and DDP
# averages the gradients. A notebook is one process, so this is a group of one. For more,
# `torchrun --nproc_per_node 2 examples/ddp_torchdiffeq.py` does the same.

# %%
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
parallel = DistributedDataParallel(Model(field))
loss, parallel_stats = parallel(y0)
loss.backward()
print(f"loss {loss.item():.6f}, {parallel_stats.evaluations} evaluations in each process")
del parallel
dist.destroy_process_group()

# %% [markdown]
# ## `jit` and `grad`, in JAX
#
# The block stands inside the function that is compiled. Return what you want to read outside.

# %%
net = eqx.nn.MLP(13, 13, 32, 1, jnp.tanh, key=jax.random.key(0))


def losses(net, y0, weight):
    with tap.observe(weight * tap.LocalError()) as seen:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: 8 * (jax.vmap(net)(y) if y.ndim == 2 else net(y))),
            diffrax.Dopri5(),
            *(0.0, 1.0, None, y0),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
        )
    return jnp.mean(solution.ys[-1] ** 2) + seen.penalty, seen.stats


_, batch_stats = losses(net, wines, 0.1)
compilations = 0


@eqx.filter_jit
def step(net, y0, weight):
    global compilations
    compilations += 1  # runs when JAX traces the function, and not when it calls what was compiled
    return eqx.filter_value_and_grad(losses, has_aux=True)(net, y0, weight)


for weight in (0.1, 0.05, 0.01):  # an annealed weight
    (loss, jit_stats), gradient = step(net, wines, jnp.asarray(weight))
print(f"{int(batch_stats.evaluations)} evaluations without `jit`, {int(jit_stats.evaluations)} with it")
print(f"three weights, {compilations} compilation")

# %% [markdown]
# ## `vmap`: every wine takes its own steps
#
# Under `vmap` the solve of each sample has its own step sizes, its own penalty and its own counts.


# %%
@eqx.filter_jit
def each(net, y0):
    return jax.vmap(lambda y0: losses(net, y0, 0.1))(y0)


_, vmap_stats = each(net, wines)
attempts = np.asarray(vmap_stats.accepted + vmap_stats.rejected)
one = eqx.filter_jit(losses)
alone = [int(one(net, wine, 0.1)[1].accepted) for wine in wines[:3]]
print(f"a wine takes {attempts.min()} to {attempts.max()} steps; all in one batch take {int(jit_stats.accepted)}")
print(f"the first three under `vmap`: {vmap_stats.accepted[:3].tolist()}, one by one: {alone}")

# %% [markdown]
# ## Sharding
#
# A batch that is spread over devices gives the same counts. Nothing is gathered for them.

# %%
mesh = Mesh(jax.devices(), ("batch",))
spread = jax.device_put(wines[: len(wines) // mesh.size * mesh.size], NamedSharding(mesh, PartitionSpec("batch")))
_, sharded_stats = each(net, spread)
same = bool((np.asarray(sharded_stats.accepted) == np.asarray(vmap_stats.accepted)[: len(spread)]).all())
devices = len(sharded_stats.accepted.sharding.device_set)
print(f"the counts live on {devices} devices, and are {'the same' if same else 'others'}")

# %% [markdown]
# Left: each wine, laid out by its two main directions, and how many steps its own solve takes. Right: the same counts
# beside the one for the whole batch. A solver that takes one step size for all looks at the mean of their errors, so
# hard wines get fewer steps than they would take alone, and easy ones more.

# %%
_, _, directions = np.linalg.svd(wines, full_matrices=False)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=[3, 2])
points = left.scatter(*(wines @ directions[:2].T).T, c=attempts, cmap="cividis", s=30)
left.set(xlabel="first main direction (standard deviations)", ylabel="second main direction")
figure.colorbar(points, ax=left, label="attempted steps of its own solve")
right.hist(attempts, bins=np.arange(attempts.min() - 0.5, attempts.max() + 1.5), color="#0072B2")
right.axvline(int(jit_stats.accepted + jit_stats.rejected), color="#D55E00", label="one step size for all")
right.set(xlabel="attempted steps", ylabel="wines")
right.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - `jax.checkpoint`, `scan` over training steps, `cond`, autocast and double backward work as well.
