"""A strict type checker finds nothing to say about solvertap in its user's code, nor in its own public names."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import solvertap as tap

pytest.importorskip("pyright")
ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
FRAMEWORKS = ("torchdiffeq", "torchsde", "torchode", "torchdyn", "diffrax", "jax_ode")
STRICT = {
    "typeCheckingMode": "strict",
    "extraPaths": [str(ROOT / "core"), str(ROOT / "adapters")],
    "reportMissingTypeStubs": False,
    "reportUnnecessaryTypeIgnoreComment": True,
}


def _pyright(folder, *arguments):
    """What pyright says of a folder, whose files stand outside the tree as a user's do."""
    if shutil.which("node") is None:
        pytest.skip("no node, on which pyright runs")
    (folder / "pyrightconfig.json").write_text(json.dumps(STRICT))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *arguments]
    # `--verifytypes` reads no `--pythonpath`: it asks the first Python of PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=170)
    return json.loads(done.stdout)


def _said(folder):
    """The lines of which pyright says something, and what, by file."""
    found = {}
    for each in _pyright(folder)["generalDiagnostics"]:
        start, end = each["range"]["start"], each["range"]["end"]
        line = Path(each["file"]).read_text().splitlines()[start["line"]]
        about = line[start["character"] : end["character"] if end["line"] == start["line"] else None]
        found.setdefault(Path(each["file"]).stem, []).append((about, each["message"]))
    return found


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    for framework in FRAMEWORKS:
        shutil.copy(EXAMPLES / f"{framework}_two_lines.py", folder)
    shutil.copy(ROOT / "tests" / "typed" / "user_code.py", folder)
    # The same examples, with the two lines wrong.
    wrong = (EXAMPLES / "torchdiffeq_two_lines.py").read_text().replace("seen.penalty", "seen.penalti")
    (folder / "wrong.py").write_text(wrong)
    return _said(folder)


def _of_solvertap(said):
    words = ("tap", "seen", "penalty", "stats", "solvertap")
    return [(about, message) for about, message in said if any(word in about + message for word in words)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_lines_are_typed(said, framework):
    """What is said there is of the frameworks' own names, some of which have no types."""
    pytest.importorskip("jax" if framework == "jax_ode" else framework)
    assert _of_solvertap(said.get(f"{framework}_two_lines", [])) == []


def test_mistake_in_the_two_lines_is_found(said):
    assert any("penalti" in message for _, message in _of_solvertap(said["wrong"]))


def test_user_code_has_the_types_that_it_asserts(said):
    assert said.get("user_code", []) == []


def test_every_public_name_has_a_type(tmp_path):
    found = _pyright(tmp_path, "--verifytypes", "solvertap", "--ignoreexternal")["typeCompleteness"]
    assert found["packageRootDirectory"] == str(ROOT / "core" / "solvertap")
    vague = [each["name"] for each in found["symbols"] if each["isExported"] and not each["isTypeKnown"]]
    vague += [each["name"] for each in found["symbols"] if each["isExported"] and each["isTypeAmbiguous"]]
    assert [name for name in vague if not name.startswith("solvertap.cli.")] == []
    assert found["exportedSymbolCounts"]["withKnownType"] > 1000


def _measures():
    """The functions of the user's face that return arrays, and its results that are arrays."""
    for name in tap.__all__:
        value = getattr(tap, name)
        if inspect.isfunction(value) and value.__annotations__.get("return") == "Array":
            yield name, inspect.getdoc(value)
    for holder, names in {tap.Observation: ("penalty", "value_of", "values", "stats"), tap.Step: ("h",)}.items():
        for name in names:
            yield f"{holder.__name__}.{name}", inspect.getdoc(getattr(holder, name))
    for holder in (tap.Step, tap.Trace, tap.Stats):
        yield holder.__name__, inspect.getdoc(holder)


def test_docstrings_give_the_shapes_of_arrays_in_words_that_jaxtyping_reads():
    jaxtyping = pytest.importorskip("jaxtyping")
    found = dict(_measures())
    assert len(found) >= 12
    for name, text in found.items():
        shapes = re.findall(r'`(\w+)\[Array, "([^"]*)"\]`', text)
        assert shapes, name
        for dtype, shape in shapes:
            assert getattr(jaxtyping, dtype)[numpy.ndarray, shape].dims is not None, name
