"""The tutorial for authors of adapters: both of its loops, typed in as it has them, conform."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import face_table

PLUGINS = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()


def _typed_in(folder):
    """Writes each block that begins with the name of a file to that file, one after another."""
    names = []
    for block in re.findall(r"```python\n(# \w+\.py\n.*?)```", PLUGINS, re.DOTALL):
        name, text = block.split("\n", 1)
        with open(folder / name.removeprefix("# "), "a") as file:
            file.write(text + "\n\n")
        names.append(name.removeprefix("# "))
    return names


@pytest.mark.parametrize(("script", "framework"), [("prove.py", "torch"), ("prove_traced.py", "jax")])
def test_loop_of_the_tutorial_conforms(tmp_path, script, framework):
    pytest.importorskip(framework)
    assert script in _typed_in(tmp_path)
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("gradient of .*reductions +yes", done.stdout)
    assert re.search("gradient of sample, uniform +yes", done.stdout)


def test_names_for_authors_are_documented_as_they_are():
    assert face_table.DOCUMENT.read_text() == face_table.document()
