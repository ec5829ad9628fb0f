"""Scripts under `solvertap run`, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = (sys.executable, "-m", "solvertap", "run")

LOOP = """
import os, sys, threading, time
import numpy as np
import solvertap as tap
from solvertap import adapting

class Loop(adapting.Adapter):
    name, module, serves = "loop", "__main__", adapting.Serves(regularize=True)

    def attach(self, patches):
        pass

    def inject(self, solution, injection):
        injection.record(True, injection.stats, injection.values)
        return solution

LOOP = Loop()
tap.register(LOOP)

def solve(method=""):
    # Three steps of Euler's method on y' = -y, of which Heun's tells the error.
    y, h = np.ones(2), 0.1
    opened = adapting.open_solve(LOOP, like=y)
    opened.method = method
    with opened:
        for k in range(3):
            y1, error = (1 - h) * y, h * h / 2 * y
            times = {"t0": k * h, "t1": (k + 1) * h}
            opened.step(tap.Step(**times, y0=y, y1=y1, error=error, rtol=1e-3, atol=1e-3, accepted=True))
            opened.counts.evaluations += 2
            y = y1
    return opened.through(y)
"""
"""A solver in NumPy and its adapter, which needs no framework: such a script starts in half a second."""


def run(folder, *command, **options):
    """Runs a command in a folder, as the tests find the package."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(list(map(str, command)), cwd=folder, text=True, timeout=120, env=environment(), **options)


def environment():
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path}


def script(folder, text, prelude=LOOP):
    """Writes a script; its name."""
    (folder / "script.py").write_text(prelude + text)
    return "script.py"
