"""`solvertap run` runs a script as Python does, and the script cannot tell."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torchdiffeq")
pytest.importorskip("typer")

from tests.faults import fault

TRAIN = """
import sys
import torch
from torchdiffeq import odeint

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
y0, times = torch.randn(16, 2), torch.tensor([0.0, 1.0])
for k in range(int(sys.argv[1])):
    y1 = odeint(lambda t, y: net(y), y0, times, rtol=1e-5, atol=1e-5)[-1]
    loss = (y1 - y0 - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(k, loss.item(), flush=True)
"""

ADJOINT = """
import torch
from torchdiffeq import odeint_adjoint

class Field(torch.nn.Sequential):
    def forward(self, t, y):
        return super().forward(y)

torch.manual_seed(0)
field = Field(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
optimizer = torch.optim.Adam(field.parameters(), lr=0.03)
y0, times = torch.randn(16, 2), torch.tensor([0.0, 1.0])
for k in range(5):
    y1 = odeint_adjoint(field, y0, times, rtol=1e-5, atol=1e-5)[-1]
    loss = (y1 - y0 - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(k, loss.item(), torch.rand(1).item())
"""

PYTHON = (sys.executable,)
RUN = (sys.executable, "-c", "import sys; sys.argv[0] = 'solvertap'; from solvertap.cli import main; main()", "run")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def _run(folder, *command, **options):
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, timeout=120, **options
    )


def _script(folder, text):
    (folder / "script.py").write_text(text)
    return "script.py"


def _without_summary(error):
    """What the script wrote to standard error: the summary comes after it."""
    lines = error.splitlines()
    return [line for line in lines[: next((n for n, line in enumerate(lines) if "solvertap" in line), None)] if line]


@pytest.mark.slow
def test_weight_zero_leaves_the_output_byte_for_byte(folder):
    plain = _run(folder, *PYTHON, "train.py", 5)
    zero = _run(folder, *RUN, "--term", "0*local_error", "train.py", 5)
    assert plain.stdout
    assert (zero.stdout, zero.returncode) == (plain.stdout, 0)


@pytest.mark.slow
def test_script_with_a_continuous_adjoint_gets_a_sample_and_keeps_its_random_numbers(folder):
    script = _script(folder, ADJOINT)
    plain = [line.split() for line in _run(folder, *PYTHON, script).stdout.splitlines()]
    run = _run(folder, *RUN, "--term", "50*local_error:draw=uniform", "--stats", "stats.jsonl", script)
    assert run.returncode == 0, run.stderr
    assert "LocalSample" not in run.stderr  # nothing was left out
    found = [line.split() for line in run.stdout.splitlines()]
    assert found[0] == plain[0]
    assert found[4][1] != plain[4][1]
    assert [line[2] for line in found] == [line[2] for line in plain]
    records = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    values = [record["values"]["sampled_local_error"] for record in records if record["kind"] == "training"]
    assert len(set(values)) == 5
    assert min(values) > 0


@pytest.mark.slow
def test_term_changes_the_training_and_each_solve_is_one_line(folder):
    plain = _run(folder, *PYTHON, "train.py", 5)
    arguments = ("--term", "local_error + 0.1*stiffness:max", "--anneal", "100:10:4", "--stats", "stats.jsonl")
    run = _run(folder, *RUN, *arguments, "--plot", "plot.png", "train.py", 5)
    assert run.returncode == 0, run.stderr
    first, *others = run.stdout.splitlines()
    plain_first, *plain_others = plain.stdout.splitlines()
    assert first == plain_first  # the loss is the script's own
    assert others != plain_others
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["optimiser_step"] for line in lines] == [0, 1, 2, 3, 4]
    for line, weight in zip(lines, [100 * 0.1 ** (k / 4) for k in range(5)], strict=True):
        values = line["values"]
        assert line["penalty"] == pytest.approx(weight * (values["local_error"] + 0.1 * values["stiffness"]), rel=1e-5)
        assert line["evaluations"] > 0
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    (row,) = [line for line in run.stderr.splitlines() if line.startswith("│ training")]
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["torchdiffeq dopri5", "5"]
    assert "Penalty of 5 solves: mean " in run.stderr
    assert "its gradient was added in 5 backward passes through a solve" in run.stderr


ENDS = {
    "exception": "def f():\n    raise ValueError('no')\nf()",
    "syntax": "x = = 1",
    "exit": "import sys\nsys.exit(7)",
    "message": "import sys\nsys.exit('it ends here')",
    "hook": "import sys\nsys.excepthook = lambda *a: print(a[2].tb_lineno, file=sys.stderr)\n1 / 0",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
    "atexit": "import atexit\natexit.register(print, 'the end')\nraise SystemExit(3)",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "names": (
        "import sys\nprint(__name__, __file__, __spec__, sys.argv, sys.path[0])\n"
        "print(sys.modules['__main__'].__dict__ is globals())"
    ),
    "futures": "print(annotations if 'annotations' in globals() else 'none')",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "fork": "import os\nif os.fork() == 0:\n    print('child', flush=True)\nelse:\n    print(os.wait()[1])",
    "workers": (
        "import multiprocessing as m\ndef f(x):\n    return x * x\n"
        "if __name__ == '__main__':\n    with m.get_context('spawn').Pool(2) as p:\n        print(p.map(f, range(4)))"
    ),
}


@fault(
    "a script under `solvertap run` raises, exits, forks or starts workers",
    "exit code, output and traceback are those of Python, the statistics are written",
)
@pytest.mark.parametrize("case", ENDS)
def test_script_ends_as_under_python(folder, case):
    script = _script(folder, ENDS[case])
    plain, run = _run(folder, *PYTHON, script, "a", "--b"), _run(folder, *RUN, script, "a", "--b")
    assert (run.returncode, run.stdout) == (plain.returncode, plain.stdout)
    assert _without_summary(run.stderr) == [line for line in plain.stderr.splitlines() if line]
    assert run.stderr.count("solvertap saw no solve") == 1


@pytest.mark.parametrize("target", ["package", "package.inner"])
def test_module_is_run_as_python_does(folder, target):
    (folder / "package").mkdir()
    for name in ("__init__", "__main__", "inner"):
        (folder / "package" / f"{name}.py").write_text(
            "import sys\nprint(__name__, __package__, sys.argv, sys.path[0])\n"
        )
    plain, run = _run(folder, *PYTHON, "-m", target, "-x"), _run(folder, *RUN, "-m", target, "-x")
    assert plain.returncode == 0
    assert run.stdout == plain.stdout


@pytest.mark.slow
def test_solves_of_a_forked_child_are_not_in_the_statistics(folder):
    fork = (
        "import os, time, torch\nfrom torchdiffeq import odeint\n"
        "def solve():\n    odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0]))\n"
        "solve()\nif os.fork() == 0:\n    time.sleep(1)\n    solve()\nelse:\n    os.wait()\n    solve()"
    )
    run = _run(folder, *RUN, "--stats", "stats.jsonl", _script(folder, fork))
    assert run.returncode == 0, run.stderr
    assert len((folder / "stats.jsonl").read_text().splitlines()) == 2
    assert run.stderr.count("│ training") == 1


@fault(
    "a script under `solvertap run` is interrupted",
    "it ends by the signal, the statistics are written",
)
@pytest.mark.slow
def test_interrupt_ends_it_by_the_signal_and_keeps_the_statistics(folder):
    ends = {}
    for name, command in {"plain": PYTHON, "run": (*RUN, "--stats", "stats.jsonl")}.items():
        process = subprocess.Popen(
            [*command, "train.py", "1000000"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A job in the background of a shell ignores interrupts, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        ends[name] = process.returncode
        assert "KeyboardInterrupt" in error
        assert error.splitlines()[1].startswith(f'  File "{folder}/train.py"')
    assert ends["run"] == ends["plain"] == -signal.SIGINT
    lines = (folder / "stats.jsonl").read_text().splitlines()
    assert len(lines) >= 5
    assert all(json.loads(line)["kind"] == "training" for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No script was given"),
        (("nothing.py",), "'nothing.py'"),
        (("-m", "no.such"), "'no.such'"),
        (("--term", "local_err", "train.py"), "squared_local_error"),
        (("--anneal", "1:2:3", "train.py"), "`--term`"),
        (("--term", "local_error", "--anneal", "1:2", "train.py"), "START:STOP:STEPS"),
        (("--stats", "no/such/file", "train.py"), "`--stats`"),
        (("--plot", "no/such/file", "train.py"), "`--plot`"),
        (("--plot", "x.foo", "train.py"), "'foo'"),
        (("--plot", ".", "train.py"), "`--plot`"),
    ],
)
def test_bad_input_is_one_sentence_before_the_script_starts(folder, arguments, said):
    (folder / "train.py").write_text("print('started')")
    run = _run(folder, *RUN, *arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_line_on_a_terminal_steps_aside(folder):
    """On a pseudo-terminal: the script's lines stand whole, and ours is drawn and erased."""
    parent, child = pty.openpty()
    process = subprocess.Popen([*RUN, "train.py", "60"], cwd=folder, stdin=child, stdout=child, stderr=child)
    os.close(child)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            seen += os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
    os.close(parent)
    assert process.wait(timeout=60) == 0
    assert b"evaluations a solve" in seen
    lines = [line.rpartition(b"\x1b[K")[2] for line in seen.split(b"\r\n")]
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == [b"%d" % k for k in range(60)]
