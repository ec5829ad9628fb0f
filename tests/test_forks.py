"""A fork at any time: the child solves, whoever holds a lock in the parent."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint

import solvertap as tap
from solvertap.loggers.log import Log
from solvertap.plugins import forking
from tests.faults import fault

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of JAX, which a test before may have imported
]
PATIENCE = 20  # seconds, after which a child is taken to wait forever
CORE = Path(tap.__file__).parent


class Slow(Log):
    """Takes as long as a file on a network does."""

    def write(self, solved):
        time.sleep(0.02)


def _solve():
    return odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0]))


def _child(do):
    """Forks, does something in the child, and says whether that came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@fault("a process forks while another thread writes a solve down", "the child solves, and waits for nobody")
def test_child_of_a_process_whose_threads_solve_and_log_does_not_hang():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the threads of OpenMP do not live in a child
    with tap.regularize() as regularizer, Slow():
        _solve()
        stopped = threading.Event()

        def work():
            while not stopped.is_set():
                _solve()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            ended = all(_child(_solve) for _ in range(10))
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
            torch.set_num_threads(before)
    assert ended
    assert regularizer.stats["training"].solves > 10


def test_every_lock_held_while_another_thread_forks_is_free_in_the_child():
    locks = list(forking._locks)
    assert len(locks) >= 2  # those of the plugins and of the attachment
    held, done = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock().acquire()
        held.set()
        done.wait(PATIENCE)
        for lock in locks:
            lock().release()

    def use():
        tap.detach()
        with tap.observe() as seen:
            _solve()
        assert seen.stats.solves == 1

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)
    try:
        assert _child(use)
    finally:
        done.set()
        thread.join()


def test_fork_inside_a_block_that_holds_a_lock_leaves_the_block_in_both():
    lock = forking.Lock()
    child = None
    with lock():
        child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@fault("a process forks while plugins are being found", "the fork waits for them, and the child has them all")
def test_child_forked_during_the_discovery_has_every_plugin(tmp_path):
    (tmp_path / "slow_plugin.py").write_text("import time; time.sleep(0.4)\n")
    dist = tmp_path / "slow_plugin-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: slow_plugin\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[solvertap]\na-slow-one = slow_plugin\n")
    script = """
import os, sys, threading, time
from solvertap.plugins import registry
thread = threading.Thread(target=registry.plugins)
thread.start()
time.sleep(0.1)
child = os.fork()
if child == 0:
    found = registry.plugins()
    os._exit(0 if found.manager.has_plugin("a-slow-one") and "torchdiffeq" in found.adapters else 1)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=PATIENCE)


def test_every_lock_of_the_package_is_one_that_a_child_has_anew():
    for path in sorted(CORE.rglob("*.py")):
        if path.name in ("forking.py", "recorder.py", "flusher.py"):  # a recorder does nothing in a child
            continue
        made = [
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        assert not {"RLock", "Condition", "Semaphore"} & set(made), path
        assert "Lock" not in made or "forking import Lock" in path.read_text(), path
