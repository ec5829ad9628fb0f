"""`solvertap explain`: a script runs as it is, and each of its lines that solves is explained."""

import os
import sys

import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")

from tests.browser import look
from tests.faults import fault
from tests.running import run

TORCH = """\
import torch
from torchdiffeq import odeint, odeint_adjoint

torch.manual_seed(0)
rate = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
times = torch.tensor([0.0, 1.0], dtype=torch.float64)
start = torch.ones(2, dtype=torch.float64)
for k in range(24):
    y = odeint(lambda t, y: torch.sin((3.0 + 2 * k) * t) * rate - y, start, times, rtol=1e-5, atol=1e-5)
    y.sum().backward()
    print(y[-1, 0].item())
odeint(lambda t, y: -500 * (y - torch.cos(t)), start, times, rtol=1e-4, atol=1e-4)
"""

FORK = """\
import os
import time
import torch
from torchdiffeq import odeint


def solve():
    odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0]))


solve()
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:  # to be the last that could write
        time.sleep(0.01)
else:
    solve()
    solve()
"""

JAX = """\
import diffrax
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)


def solve(y0):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: -500 * (y - jnp.cos(t))),
        diffrax.Dopri5(),
        0.0,
        1.0,
        None,
        y0,
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
    ).ys.sum()


print(jax.jit(jax.vmap(jax.grad(solve)))(jnp.ones(3)).tolist())
"""


def _solvertap(folder, text, *options):
    script = folder / "train.py"
    script.write_text(text)
    plain = run(folder, sys.executable, script)
    assert plain.returncode == 0, plain.stderr
    explained = run(folder, sys.executable, "-m", "solvertap", "explain", *options, script)
    assert explained.returncode == 0, explained.stderr
    # Nothing that the script prints is another.
    assert explained.stdout == plain.stdout
    return explained.stderr


def test_each_line_that_solves_is_explained_and_the_output_of_the_script_is_the_same(tmp_path):
    told = _solvertap(tmp_path, TORCH)
    rows = {line.split()[1]: line for line in told.splitlines() if "train.py:" in line and line.startswith("│")}
    assert list(rows) == ["train.py:9", "train.py:12"]
    assert "growth in training" in rows["train.py:9"]
    assert " 24 " in rows["train.py:9"]
    assert "stability" in rows["train.py:12"]
    assert "train.py:9, growth in training: A solve takes " in told
    assert "over 24 solves. Penalize the local error" in told


def test_compiled_and_mapped_solves_are_explained(tmp_path):
    pytest.importorskip("diffrax")
    told = _solvertap(tmp_path, JAX)
    (row,) = [line for line in told.splitlines() if "train.py:" in line and line.startswith("│")]
    assert "diffrax Dopri5" in row
    assert " 3 " in row  # one for each of the batch
    assert "stability" in row


def test_script_that_solves_nothing_is_told_so(tmp_path):
    assert "solvertap saw no solve whose steps it could trace." in _solvertap(tmp_path, "print(1)\n")


@fault("a script under `solvertap explain` forks", "the parent alone shows and writes what it explains: its own solves")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_child_that_ends_leaves_the_explanation_to_its_parent(tmp_path):
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.html"
    told = _solvertap(tmp_path, FORK, "--report", report)
    assert told.count("what limits the steps") == 1
    (row,) = [line for line in told.splitlines() if "train.py:8" in line and line.startswith("│")]
    assert row.split("│")[3].strip() == "3"
    assert '<td class="number">3</td>' in report.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "No script was given"), (("missing.py",), "No script is at 'missing.py'")],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, words):
    done = run(tmp_path, sys.executable, "-m", "solvertap", "explain", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_script_that_fails_keeps_its_exit_code_and_is_explained_as_far_as_it_got(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TORCH + "raise SystemExit(3)\n")
    done = run(tmp_path, sys.executable, "-m", "solvertap", "explain", script)
    assert done.returncode == 3
    assert "train.py:12, stability" in done.stderr


def test_report_opens_in_a_browser_without_a_word_of_complaint_at_two_widths(tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "report.html"
    _solvertap(tmp_path, TORCH, "--report", page)
    for width, seen in zip((1200, 420), look(page, 1200, 420), strict=True):
        assert seen["said"] == []  # no error, and nothing asked of a network
        assert seen["width"] <= width  # nothing to scroll sideways but tables and pictures in their frames
        assert seen["smallest"] >= 16
        assert len(seen["pictures"]) == 5  # the course of the training; the steps and whose error it is at each place
        assert min(seen["pictures"]) >= 600
        assert seen["dead"] == 0
        assert "train.py:12, torchdiffeq dopri5" in seen["text"]
        assert "stability: |h| S is" in seen["text"]
        assert seen["text"].count("Whose error it is.") == 2


def test_report_whose_folder_is_missing_is_refused_before_the_script_runs(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("print('ran')\n")
    done = run(tmp_path, sys.executable, "-m", "solvertap", "explain", "--report", "no/report.html", script)
    assert done.returncode == 2
    assert "`--report` is 'no/report.html', whose folder does not exist; make it first." in done.stderr.replace(
        "\n", " "
    )
    assert done.stdout == ""
