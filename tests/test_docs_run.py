"""Every code block of the README and the documentation is executed, or says why it is not."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs_blocks import DOCUMENTS, ROOT, blocks
from tests.docs_given import GIVEN, SCRIPT

BLOCKS = blocks()


def _meaning(block):
    """What a block does, whatever its comments and imports: the README and the front page share some."""
    body = [node for node in ast.parse(block.text).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return block.what, ast.dump(ast.Module(body, []))


PYTHON = list(
    {_meaning(block): block for block in BLOCKS if (block.language, block.kind) == ("python", "given")}.values()
)
COMMANDS = [
    (block, command)
    for block in BLOCKS
    if block.language == "sh"
    for command in dict.fromkeys(shlex.join(shlex.split(line, comments=True)) for line in block.commands)
]
WRITES_TO = {"csv": "csv", "progress": "tqdm", "huggingface": "transformers"}
RUN = sorted({command for block, command in COMMANDS if block.kind == "given"})


def test_every_block_says_how_it_is_tested():
    assert len(BLOCKS) > 40
    silent = [block.place for block in BLOCKS if not block.kind and block.language not in ("bibtex", "yaml")]
    assert silent == []
    assert {block.language for block in BLOCKS} <= {"python", "sh", "toml", "bibtex", "text"}
    for block in BLOCKS:
        if block.kind == "run by":
            test = ROOT / "tests" / block.what
            assert block.place.split(":")[0].split("/")[-1] in test.read_text(), block.place
        if block.kind == "given":
            assert block.what in {"script"} if block.language == "sh" else block.what in GIVEN, block.place


def test_no_command_stands_outside_a_block():
    """An indented one would be neither executed nor looked up."""
    for document in DOCUMENTS:
        text = re.sub(r"^( *)```.*?^\1```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert re.findall(r"^ {4,}(?:solvertap|make|pip|python|git) .*", text, re.M) == [], document


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_block_runs(block, tmp_path, monkeypatch):
    given = GIVEN[block.what]
    for module in given.modules:
        pytest.importorskip(module)
    for name in re.findall(r"from solvertap\.loggers\.(\w+)", block.text):
        pytest.importorskip(WRITES_TO.get(name, name))
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "block"}
    for text, name in ((given.before, "given"), (block.text, block.place), (given.after, "after")):
        exec(compile(text, name, "exec"), namespace)


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_command_runs(command, tmp_path):
    pytest.importorskip("torchdiffeq")
    (tmp_path / "train.py").write_text(SCRIPT)
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    program, *words = shlex.split(command)
    assert program == "solvertap"
    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def _is_known(words):
    """Whether a command could be started: its options are those that the command line has."""
    name, *rest = words
    if name == "solvertap":
        import typer

        from solvertap.cli.app import app

        group = typer.main.get_command(app)
        try:
            with group.make_context("solvertap", rest, resilient_parsing=True) as found:
                _, command, left = group.resolve_command(found, rest)
                command.make_context(command.name, left, parent=found)
        except Exception as error:
            if hasattr(error, "format_message"):  # a usage error of Click's, which Typer may bring its own copy of
                return False
            raise
        return True
    if name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        return {word for word in rest if "=" not in word} <= set(targets)
    if name == "python":
        return importlib.util.find_spec(rest[1]) is not None if rest[0] == "-m" else (ROOT / rest[0]).is_file()
    return name in ("pip", "git")


@pytest.mark.parametrize("command", sorted({command for block, command in COMMANDS if block.kind == "fragment"}))
def test_command_that_is_not_run_exists_with_its_flags(command):
    assert _is_known(shlex.split(command.split(" && ")[0]))


@pytest.mark.parametrize(
    "command", ["solvertap compare mnist --no-such-flag 3", "make nothing", "python -m tests.nothing"]
)
def test_command_that_does_not_exist_is_found_out(command):
    assert not _is_known(shlex.split(command))
