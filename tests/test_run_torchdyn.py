"""A flow trained with torchdyn, as the examples of torchcfm write it, under `solvertap run`."""

import json
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchdyn.core")
pytest.importorskip("typer")

from tests.running import RUN, run, script

FLOW = """
import sys
import torch
from torchdyn.core import NeuralODE

class torch_wrapper(torch.nn.Module):  # torchcfm's, by which a network sees the time as one more input
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, t, x, *args, **kwargs):
        return self.model(torch.cat([x, t.repeat(x.shape[0])[:, None]], 1))

def conditional_flow(x0, x1):
    # Conditional flow matching: a point of the straight line from noise to data, and the velocity along it.
    t = torch.rand(len(x0))
    return t, (1 - t[:, None]) * x0 + t[:, None] * x1, x1 - x0

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.SELU(), torch.nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
node = NeuralODE(torch_wrapper(model), solver="dopri5", sensitivity=sys.argv[1], atol=1e-4, rtol=1e-4)
for k in range(6):
    optimizer.zero_grad()
    x0, x1 = torch.randn(32, 2), torch.randn(32, 2) / 4 + torch.tensor([2.0, 0.0])
    t, xt, velocity = conditional_flow(x0, x1)
    loss = (model(torch.cat([xt, t[:, None]], 1)) - velocity).square().mean()
    _, states = node(x0, torch.linspace(0, 1, 2))  # the flow is in the loop: its samples have the mean of the data
    loss = loss + 0.1 * (states[-1].mean(0) - x1.mean(0)).square().sum()
    loss.backward()
    optimizer.step()
    print(k, loss.item(), torch.rand(1).item())
with torch.no_grad():
    samples = node.trajectory(torch.randn(64, 2), t_span=torch.linspace(0, 1, 10))[-1]
print(samples.mean().item(), node.vf.nfe)
"""


def printed(done):
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return printed(run(folder, sys.executable, script(folder, FLOW, ""), "autograd"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sensitivity", "term", "value"),
    [("autograd", "local_error", "local_error"), ("adjoint", "local_error:draw=uniform", "sampled_local_error")],
)
def test_flow_is_counted_and_regularized(tmp_path, plain, sensitivity, term, value):
    options = ("--term", f"10*{term}", "--stats", "stats.jsonl")
    done = run(tmp_path, *RUN, *options, script(tmp_path, FLOW, ""), sensitivity)
    found = printed(done)
    assert "torchdyn dopri5" in done.stderr
    assert found[0] == plain[0]  # the loss is the script's own
    assert found[5][1] != plain[5][1]
    assert [line[2] for line in found[:6]] == [line[2] for line in plain[:6]]  # and so are its random numbers
    records = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    training = [record for record in records if record["kind"] == "training"]
    assert len(training) == 6
    assert all(record["values"][value] > 0 for record in training)
    if sensitivity == "autograd":  # an adjoint evaluates the field between its solves as well
        assert sum(record["evaluations"] for record in records) == float(found[-1][1])
