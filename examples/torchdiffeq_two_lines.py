"""The two lines to add to torchdiffeq code."""

import torch
from torchdiffeq import odeint

import solvertap as tap

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 50), torch.nn.Tanh(), torch.nn.Linear(50, 2))
y0, times = torch.tensor([[2.0, 0.0]]), torch.linspace(0, 1, 20)

with tap.observe(0.1 * tap.LocalError() + 0.1 * tap.Stiffness()) as seen:  # the first
    y = odeint(lambda t, y: net(y**3), y0, times, rtol=1e-6, atol=1e-6)
loss = y.pow(2).mean() + seen.penalty  # the second

loss.backward()
print(f"penalty {seen.penalty.item():.4f}, {seen.stats}")
