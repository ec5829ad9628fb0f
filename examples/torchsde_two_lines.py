"""The two lines to add to torchsde code. `adaptive=True` is torchsde's own option for an error estimate."""

import torch
import torchsde

import solvertap as tap


class SDE(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.drift, self.diffusion = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def f(self, t, y):
        return torch.tanh(self.drift(y))

    def g(self, t, y):
        return 0.1 * torch.sigmoid(self.diffusion(y))


torch.manual_seed(0)
sde, y0, times = SDE(), torch.ones(16, 2), torch.linspace(0, 1, 10)

with tap.observe(0.1 * tap.LocalError()) as seen:  # the first
    y = torchsde.sdeint(sde, y0, times, method="heun", adaptive=True, dt=0.05, rtol=1e-2, atol=1e-2)
loss = y.pow(2).mean() + seen.penalty  # the second

loss.backward()
print(f"penalty {seen.penalty.item():.4f}, {seen.stats}")
