"""What the code blocks of the documentation are given: the names that a reader has already.

Each entry is what comes before a block, and what is checked after it.
"""

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Given:
    """What surrounds a block.

    Attributes:
        modules: what must be installed.
        before: Python before the block.
        after: Python after it, which asserts that something was seen.
    """

    modules: tuple[str, ...]
    before: str
    after: str


TORCH = """
import torch

import solvertap as tap

torch.manual_seed(0)


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

    def forward(self, t, y):
        return self.net(y)


field = model = Field()
y0, target, t = torch.randn(4, 2), torch.zeros(4, 2), torch.linspace(0.0, 1.0, 3)
epochs, epoch, step = 10, 3, 5


def task_loss(y, target=None):
    return y.square().mean()
"""
# A term has a value, and its gradient reaches the weights.
TORCH_SEEN = """
if "seen" in globals():
    assert seen.stats.solves >= 1
    if seen.weighted and not any(p.grad is not None for p in model.parameters()):
        assert seen.penalty > 0
        seen.penalty.backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
"""
JAX = """
import equinox as eqx
import jax
import jax.numpy as jnp

import solvertap as tap

y0, t = jnp.ones(2), jnp.linspace(0.0, 1.0, 3)


def task_loss(y):
    return (y**2).mean()
"""
TRAINING = """
from torchdiffeq import odeint

optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
data = [(y0, target)] * 3


def train():
    for x, _ in data:
        optimiser.zero_grad()
        task_loss(odeint(field, x, t)).backward()
        optimiser.step()
"""
GIVEN = {
    "torchdiffeq": Given(("torchdiffeq",), TORCH + "\nfrom torchdiffeq import odeint, odeint_adjoint\n", TORCH_SEEN),
    "torchsde": Given(
        ("torchsde",),
        TORCH
        + dedent("""
            import torchsde

            class SDE(torch.nn.Module):
                noise_type, sde_type = "diagonal", "stratonovich"

                def f(self, t, y):
                    return field(t, y)

                def g(self, t, y):
                    return 0.1 * torch.ones_like(y)

            sde = SDE()
            """),
        TORCH_SEEN,
    ),
    "spiral_truth": Given(
        ("torchsde",),
        "import torch\nimport torchsde\nimport solvertap as tap\n",
        "assert 156 <= seen.stats.evaluations <= 168\n",  # the Brownian path is drawn anew
    ),
    "torchode": Given(
        ("torchode",),
        TORCH + "\nimport torchode\nt_eval = t.expand(len(y0), -1)\n",
        TORCH_SEEN + "\nassert seen.stats.accepted.shape == (len(y0),)\n",
    ),
    "torchdyn": Given(
        ("torchdyn",),
        TORCH
        + "\nfrom torchdyn.core import NeuralODE\nfrom torchdyn.numerics import odeint\nfield, t_span = model.net, t\n",
        TORCH_SEEN,
    ),
    "diffrax": Given(
        ("diffrax",),
        JAX
        + dedent("""
            import diffrax

            model = eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0))
            terms = diffrax.ODETerm(lambda t, y, _: model(y))
            solver, controller = diffrax.Tsit5(), diffrax.PIDController(rtol=1e-7, atol=1e-7)
            t0, t1, dt0 = 0.0, 1.0, 0.1
            """),
        dedent("""
            if callable(globals().get("loss")):
                value, gradient = loss(model, y0)
                assert value > 0
                assert any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))
            else:
                assert seen.penalty > 0
            """),
    ),
    "jax_odeint": Given(
        ("jax",),
        JAX
        + dedent("""
            from jax.experimental.ode import odeint

            def field(y, t, parameters):
                return jnp.tanh(parameters @ y)
            """),
        "value, gradient = jax.value_and_grad(loss)(jnp.eye(2))\nassert value > 0\nassert jnp.any(gradient != 0)\n",
    ),
    "jax_budget": Given(
        ("diffrax",),
        JAX
        + dedent("""
            import diffrax

            budget = tap.budget(steps=5)

            def solve(parameters, x):
                term = diffrax.ODETerm(lambda t, y, _: jnp.tanh(parameters @ y))
                controller = diffrax.PIDController(rtol=1e-7, atol=1e-7)
                return diffrax.diffeqsolve(
                    term, diffrax.Tsit5(), 0.0, 1.0, 0.1, x, stepsize_controller=controller
                ).ys
            """),
        dedent("""
            state = budget.init()
            for _ in range(3):
                gradient, state = step(jnp.eye(2), state, y0)
            assert jnp.any(gradient != 0)
            assert state.weight > 0
            """),
    ),
    "loop": Given(("torchdiffeq",), TORCH + TRAINING, "assert state.weight > 0\nassert seen.stats.solves == 1\n"),
    "training": Given(
        ("torchdiffeq",),
        TORCH + TRAINING,
        'if "regularizer" in globals():\n    assert regularizer.stats["training"].solves == len(data)\n',
    ),
}

# What the commands of the documentation run on. It takes any flags, as somebody's own script would.
SCRIPT = TORCH + TRAINING + "\nfor _ in range(4):\n    train()\nprint(task_loss(odeint(field, y0, t)).item())\n"
