"""The two lines to add to torchode code. Each sample of the batch takes steps of its own."""

import torch
import torchode

import solvertap as tap

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 50), torch.nn.Tanh(), torch.nn.Linear(50, 2))
y0, times = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.linspace(0, 1, 20).repeat(2, 1)
term = torchode.ODETerm(lambda t, y: net(y**3))
controller = torchode.IntegralController(atol=1e-6, rtol=1e-6, term=term)
solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), controller)

with tap.observe(0.1 * tap.LocalError() + 0.1 * tap.Stiffness()) as seen:  # the first
    y = solver.solve(torchode.InitialValueProblem(y0=y0, t_eval=times)).ys
loss = y.pow(2).mean() + seen.penalty  # the second

loss.backward()
print(f"penalty {seen.penalty.item():.4f}, {seen.stats}")
