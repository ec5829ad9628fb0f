"""A term of your own, written once, run in torchdiffeq and in diffrax: how far the state travels in a step."""

import diffrax
import jax.numpy as jnp
import torch
from torchdiffeq import odeint

import solvertap as tap

travel = tap.term(lambda step: abs(step.y1 - step.y0).mean(), name="travel")

with tap.observe(travel, align=True) as in_torch:
    odeint(lambda t, y: -y, torch.ones(3), torch.tensor([0.0, 1.0]), rtol=1e-4, atol=1e-4)

with tap.observe(travel, align=True) as in_jax:
    diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        diffrax.Dopri5(),
        0.0,
        1.0,
        None,
        jnp.ones(3),
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
    )

print(f"travel {in_torch.penalty.item():.6f} in torchdiffeq, {float(in_jax.penalty):.6f} in diffrax")
