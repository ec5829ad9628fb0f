"""The penalty under DistributedDataParallel: `torchrun --nproc_per_node 2 examples/ddp_torchdiffeq.py`.

The `observe` block and the solve are inside the module that DDP wraps. Each rank adds the penalty of its own solve to
its loss, and DDP averages the gradients. Started by plain `python`, the process is a group of one.
"""

import torch
import torch.distributed as dist
import torch.distributed.nn  # first: if DDP imports it later, its default arguments keep the group alive
from torch.nn.parallel import DistributedDataParallel
from torchdiffeq import odeint

import solvertap as tap


class Flow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))

    def forward(self, y0):
        with tap.observe(0.1 * tap.LocalError()) as seen:
            y = odeint(lambda t, y: self.net(y), y0, torch.tensor([0.0, 1.0]), rtol=1e-4, atol=1e-4)
        return y[-1], seen.penalty


def train():
    torch.manual_seed(dist.get_rank())  # every rank has other data; DDP copies the model of rank 0
    model, y0 = DistributedDataParallel(Flow()), torch.randn(16, 2)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.03), []
    for _ in range(10):
        y1, penalty = model(y0)
        loss = (y1 - y0 - 1).square().mean() + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, penalty.item()


alone = {} if dist.is_torchelastic_launched() else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
dist.init_process_group("gloo", **alone)
losses, penalty = train()  # in a function, so that no model outlives the group: gloo's threads could abort the exit
if dist.get_rank() == 0:
    print(f"{dist.get_world_size()} rank(s): loss {losses[0]:.4f} to {losses[-1]:.4f}, penalty {penalty:.4f}")
dist.destroy_process_group()
