"""The two lines to add to torchdyn code."""

import torch
from torchdyn.core import NeuralODE

import solvertap as tap


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 50), torch.nn.Tanh(), torch.nn.Linear(50, 2))

    def forward(self, t, x, args=None):
        return self.net(x**3)


torch.manual_seed(0)
model = NeuralODE(Field(), sensitivity="autograd", solver="dopri5", rtol=1e-6, atol=1e-6, return_t_eval=False)
y0, times = torch.tensor([[2.0, 0.0]]), torch.linspace(0, 1, 2)

with tap.observe(0.1 * tap.LocalError() + 0.1 * tap.Stiffness()) as seen:  # the first
    y = model(y0, times)
loss = y.pow(2).mean() + seen.penalty  # the second

loss.backward()
print(f"penalty {seen.penalty.item():.4f}, {seen.stats}")
