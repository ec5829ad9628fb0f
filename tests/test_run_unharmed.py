"""Whatever becomes of the files and streams of `solvertap run`, the script is none the worse for it."""

import json
import os
import pty
import signal
import subprocess

import pytest

pytest.importorskip("typer")

from tests.faults import fault
from tests.running import RUN, environment, run, script

DEV_FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@DEV_FULL
@fault(
    "the disk is full where `solvertap run --stats` writes",
    "one sentence says so; the script goes on, and ends with its own exit code",
)
@pytest.mark.parametrize("code", [0, 7])
def test_full_disk_is_said_once_and_the_exit_code_is_the_scripts(tmp_path, code):
    text = f"for k in range(40):\n    solve()\n    time.sleep(0.02)\nprint('done')\nsys.exit({code})"
    done = run(tmp_path, *RUN, "--stats", "/dev/full", script(tmp_path, text))
    assert (done.returncode, done.stdout) == (code, "done\n")
    assert done.stderr.count("/dev/full") == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "│ training" in done.stderr  # the sums need no file


@fault(
    "a script closes every file descriptor, that of `--stats` included",
    "no line of ours ends up in a file that it opens then",
)
def test_descriptor_that_the_script_closed_is_not_written_to(tmp_path):
    text = (
        "solve()\ntime.sleep(0.6)\nos.closerange(3, 256)\nmine = open('mine', 'w')\nsolve()\ntime.sleep(0.6)\n"
        "mine.write('mine')"
    )
    done = run(tmp_path, *RUN, "--stats", "stats.jsonl", script(tmp_path, text))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine").read_text() == "mine"
    assert len(_lines(tmp_path / "stats.jsonl")) == 1
    assert done.stderr.count("cannot be written") == 1


ENDS = {
    "killed": ("time.sleep(0.7)\nos.kill(os.getpid(), 15)\ntime.sleep(1)", -signal.SIGTERM),
    "idle": ("time.sleep(0.7)\nos._exit(3)", 3),
    "busy": ("end = time.monotonic() + 0.7\nwhile time.monotonic() < end:\n    pass\nos._exit(3)", 3),
}


@fault(
    "a script under `solvertap run --stats` is killed, or leaves by `os._exit`",
    "the file has every solve that ended half a second before",
)
@pytest.mark.parametrize("end", ENDS)
def test_lines_are_there_half_a_second_after_their_solve(tmp_path, end):
    text, code = ENDS[end]
    term = ("--term", "2*local_error")
    done = run(tmp_path, *RUN, "--stats", "stats.jsonl", *term, script(tmp_path, "solve()\nsolve()\nsolve()\n" + text))
    assert done.returncode == code, done.stderr
    lines = _lines(tmp_path / "stats.jsonl")
    assert len(lines) == 3
    assert all(line["penalty"] == 2 * line["values"]["local_error"] > 0 for line in lines)


@fault(
    "`--plot` cannot be written when the script has ended",
    "one sentence says so, after the summary; the exit code is the script's",
)
def test_picture_that_cannot_be_written_is_one_sentence(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "pictures").mkdir()
    text = "solve()\nos.rmdir('pictures')\nsys.exit(7)"
    done = run(tmp_path, *RUN, "--plot", "pictures/plot.png", script(tmp_path, text))
    assert done.returncode == 7
    assert "│ training" in done.stderr
    assert done.stderr.count("cannot be drawn") == 1
    assert "Traceback" not in done.stderr


@fault(
    "standard error is closed, or full, when the summary is due",
    "the summary is lost, the exit code is the script's",
)
def test_summary_that_nobody_can_read_costs_nothing(tmp_path):
    closed = script(tmp_path, "solve()\nsys.stderr.close()\nprint('done')")
    done = run(tmp_path, *RUN, closed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = run(tmp_path, *RUN, script(tmp_path, "solve()\nprint('done')"), stderr=full)
        assert (done.returncode, done.stdout) == (0, "done\n")


@fault(
    "the terminal of the live line goes away while a script runs",
    "the line gives up, the script goes on",
)
def test_terminal_that_goes_away_does_not_end_the_script(tmp_path):
    text = (
        "for k in range(100000):\n    solve()\n    if os.path.exists('closed'):\n        break\n"
        "for k in range(3):\n    solve()\n    time.sleep(0.3)\nos._exit(9)"
    )
    parent, child = pty.openpty()
    streams = {"stdin": subprocess.DEVNULL, "stdout": child, "stderr": child}
    process = subprocess.Popen([*RUN, script(tmp_path, text)], cwd=tmp_path, env=environment(), **streams)
    os.close(child)
    assert b"evaluations a solve" in os.read(parent, 4096)
    os.close(parent)
    (tmp_path / "closed").touch()
    assert process.wait(timeout=60) == 9


@fault(
    "a script under `solvertap run --stats` forks while its threads solve",
    "no child hangs; the file has the solves of the parent alone",
)
def test_forks_do_not_hang_and_do_not_write(tmp_path):
    text = """
over, counts = threading.Event(), [0, 0]
def work(place):
    while not over.is_set():
        solve()
        counts[place] += 1
        time.sleep(0.001)
threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
for thread in threads:
    thread.start()
for k in range(40):
    pid = os.fork()
    if pid == 0:  # which may not solve: Python's own import locks may have been held in another thread
        print('x', end='', flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    solve()
over.set()
for thread in threads:
    thread.join()
print(40 + sum(counts))
"""
    done = run(tmp_path, *RUN, "--stats", "stats.jsonl", script(tmp_path, text))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("x" * 40)
    assert len(_lines(tmp_path / "stats.jsonl")) == int(done.stdout[40:])


@fault(
    "an option of `solvertap run` stands behind the script",
    "the script gets it, and one line says so before it starts",
)
def test_option_behind_the_script_is_pointed_at(tmp_path):
    name = script(tmp_path, "import sys; print(sys.argv[1:])", prelude="")
    done = run(tmp_path, *RUN, name, "--term", "x", "--stats=y", "--lr", "1")
    assert done.stdout == "['--term', 'x', '--stats=y', '--lr', '1']\n"
    said = [line for line in done.stderr.splitlines() if "stands after the script" in line]
    assert [line.split("`")[1] for line in said] == ["--term", "--stats"]
    assert done.stderr.startswith(said[0])
    assert "stands after" not in run(tmp_path, *RUN, name, "--lr", "1").stderr
