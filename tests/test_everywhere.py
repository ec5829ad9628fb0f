"""The pytest plugin that observes the solves of other people's tests."""

import re
import subprocess
import sys
from textwrap import dedent

import pytest

pytest.importorskip("torchdiffeq")

from tests.faults import fault

SUITE = """
    import pytest, torch
    from torchdiffeq import odeint, odeint_adjoint

    def solve(function=odeint):
        return function(Field(), torch.ones(2), torch.tensor([0.0, 1.0]))

    class Field(torch.nn.Module):
        def forward(self, t, y):
            return -y

    @pytest.fixture
    def solution():
        return solve()

    def test_passes(solution):
        assert torch.equal(solution, solve())

    def test_adjoint():
        solve(odeint_adjoint)

    def test_fails():
        assert solve() is None
"""


def _pytest(folder, *arguments):
    (folder / "test_theirs.py").write_text(dedent(SUITE))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "test_theirs.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@fault(
    "somebody's test suite runs under `-p solvertap.testing.everywhere`",
    "every solve is observed, fixtures included, and nothing else about it changes",
)
@pytest.mark.parametrize("arguments", [[], ["--solvertap-trace"], ["-n", "2"]], ids=["statistics", "trace", "workers"])
def test_suite_under_the_plugin_passes_and_fails_as_it_does_without(tmp_path, arguments):
    bare = _pytest(tmp_path)
    observed = _pytest(tmp_path, "-p", "solvertap.testing.everywhere", *arguments)
    counts = [re.search("1 failed, 2 passed", done.stdout) for done in (bare, observed)]
    assert all(counts), observed.stdout + observed.stderr
    assert "solvertap" not in bare.stdout
    assert "solvertap observed 4 solves (torchdiffeq 4)" in observed.stdout
