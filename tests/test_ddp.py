"""DistributedDataParallel averages the penalty's gradient over the ranks; run as a module, this file is one rank."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

import torch.distributed as dist
import torch.distributed.nn  # noqa: F811 - see examples/ddp_torchdiffeq.py
from torch.nn.parallel import DistributedDataParallel
from torchdiffeq import odeint

import solvertap as tap
from tests.faults import fault

ROOT = Path(__file__).parent.parent
RANKS = 2
TERM = tap.LocalError() + 0.1 * tap.Stiffness()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo"),
]


class Flow(torch.nn.Module):
    """A module that solves, and returns the penalty beside the solution."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.Parameter(torch.randn((3, 3), generator=generator, dtype=torch.float64))

    def forward(self, y0):
        with tap.observe(TERM) as seen:
            y1 = self.solve(y0)
        return y1, seen.penalty

    def solve(self, y0):
        times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        return odeint(lambda t, y: 4 * torch.tanh(y @ self.weights) - y, y0, times, rtol=1e-5, atol=1e-5)[-1]


class Script(Flow):
    """The same as somebody wrote it who knows of no penalty."""

    def forward(self, y0):
        return self.solve(y0), 0.0


def _gradient_of_script(model, rank):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)  # by which a pass is known to train
    with tap.regularize(TERM):
        optimiser.zero_grad()
        return _gradient(model, rank)[0]


def _gradient(model, rank):
    """That of the loss on the data of one rank, and the penalty there."""
    y0 = torch.randn((4, 3), generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    y1, penalty = model(y0)
    (y1.square().mean() + penalty).backward()
    return next(model.parameters()).grad, torch.as_tensor(penalty).detach()


def _torchrun(*script):
    # No network is needed: the ranks meet on the loopback.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    if sys.platform != "linux":
        del environment["GLOO_SOCKET_IFNAME"]
    run = subprocess.run(
        [*command, "--nproc_per_node", str(RANKS), *map(str, script)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@fault("the model is trained in several processes (DistributedDataParallel)", "the penalty's gradient is averaged too")
def test_gradient_of_the_ranks_is_the_mean_of_the_gradients_of_each(tmp_path):
    _torchrun("-m", "tests.test_ddp", tmp_path)
    alone = [_gradient(Flow(), rank) for rank in range(RANKS)]
    mean = sum(gradient for gradient, _ in alone) / RANKS
    assert not torch.allclose(alone[0][0], mean, rtol=1e-2)
    for rank, (_, penalty) in enumerate(alone):
        (gradient, penalty_there), gradient_of_script = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(penalty_there, penalty)
        torch.testing.assert_close(gradient, mean, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradient_of_script, mean, rtol=1e-12, atol=1e-14)


def test_example_prints_one_line_for_all_ranks():
    lines = _torchrun("examples/ddp_torchdiffeq.py").splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{RANKS} rank(s)")


def test_example_leaves_no_process_group_behind(capsys):
    runpy.run_path(str(ROOT / "examples" / "ddp_torchdiffeq.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("1 rank(s)")
    assert not dist.is_initialized()
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name]  # they would take the lock of a Python that ends


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    found = (
        _gradient(DistributedDataParallel(Flow()), rank),
        _gradient_of_script(DistributedDataParallel(Script()), rank),
    )
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()
