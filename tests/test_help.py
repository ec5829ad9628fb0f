"""What the command line says of itself, and what it says while it works."""

import os
import shlex
import subprocess
import sys
import warnings

import pytest

typer = pytest.importorskip("typer")
pytest.importorskip("rich")

from rich.console import Console

from solvertap.cli import app as commands
from solvertap.cli.others import others_kept, package_of
from solvertap_lab.results.tabular import TerminalTable

COMMAND = typer.main.get_command(commands.app)
NAMES = sorted(COMMAND.commands)


def _help(*arguments, width):
    done = subprocess.run(
        [sys.executable, "-m", "solvertap", *arguments, "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": str(width), "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", [(), ("compare",), ("run",)], ids=str)
def test_help_fits_the_terminal_and_has_an_example(command, width):
    said = _help(*command, width=width)
    assert max(map(len, said.splitlines())) <= width
    assert "Example: solvertap" in said


def test_commands_stand_in_panels_of_what_they_are_for():
    said = _help(width=80)
    panels = [line.split("─ ")[1].split(" ─")[0] for line in said.splitlines() if line.startswith("╭")]
    assert panels == ["Options", "Your scripts", "This installation", "Experiments, and what plugins bring"]


@pytest.mark.parametrize("name", NAMES)
def test_example_of_a_command_is_one_that_it_reads(name):
    (line,) = [line for line in COMMAND.commands[name].help.splitlines() if line.strip().startswith("Example: ")]
    program, *arguments = shlex.split(line.strip().removeprefix("Example: "))
    assert (program, arguments[0]) == ("solvertap", name)
    with COMMAND.commands[name].make_context(name, arguments[1:]) as context:
        assert name == "adapters" or any(context.params.values())


def test_options_of_a_long_command_stand_in_panels():
    for name in ("compare", "run"):
        options = [each for each in COMMAND.commands[name].params if each.param_type_name == "option"]
        panels = [each.rich_help_panel for each in options if each.name not in ("help", "module")]
        assert len(set(panels)) > 1
        assert None not in panels


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("solvertap co", {"compare"}),
        ("solvertap compare spi", {"spiral", "spiral-sde"}),
        ("solvertap compare spiral --backend torchd", {"torchdiffeq"}),
        ("solvertap run --pas", {"--passes"}),
        ("solvertap run --passes ", {"training", "all"}),
        ("solvertap doctor torchd", {"torchdiffeq", "torchdyn"}),
        ("solvertap reproduce lat", {"latent"}),
    ],
)
def test_shell_completes(typed, completed):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1), "_SOLVERTAP_COMPLETE": "complete_bash"}
    command = [sys.executable, "-m", "solvertap"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | words)
    assert completed <= set(done.stdout.split()), done.stderr


def test_warnings_of_other_packages_are_a_line_each_after_the_work(tmp_path):
    said = tmp_path / "said"
    with said.open("w") as file, warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = []
        warnings.showwarning = lambda message, *rest: shown.append(str(message))
        console = Console(file=file, width=60)
        with others_kept(console):
            for _ in range(3):
                warnings.warn_explicit(
                    "an old name\nwith the reason", DeprecationWarning, "/x/site-packages/jax/a.py", 1
                )
            warnings.warn_explicit("long " * 30, UserWarning, "/x/site-packages/torch/b.py", 1)
            warnings.warn_explicit("ours", RuntimeWarning, "/x/core/solvertap/c.py", 1)
            console.print("the work")
    work, first, second = said.read_text().splitlines()
    assert (work, first) == ("the work", "jax warns, 3 times: an old name")
    assert second.startswith("torch warns: long")
    assert len(second) <= 60
    assert shown == ["ours"]


def test_package_of_a_file_is_found():
    assert package_of("/x/lib/site-packages/torch/nn/a.py") == "torch"
    assert package_of("/x/lib/site-packages/six.py") == "six"
    assert package_of("/x/core/solvertap_lab/progress.py") == "solvertap_lab"
    assert package_of("/home/me/train.py") == "train"


HEADINGS = ["backend", "method", "test error, rms", "evaluations", "accepted", "training s", "step ms", "prediction ms"]
ROWS = [
    ["torchdiffeq", "vanilla", "1.422", "32", "5", "0.3", "136.4", "21.6"],
    ["torchdiffeq", "local-error=0.2", "1.439", "32 (1.00)", "5", "0.2 (0.56)", "75.8 (0.56)", "22.0 (1.02)"],
    ["diffrax", "vanilla", "1.422", "37", "6", "0.6", "297.5", "0.6"],
]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_table_breaks_no_word_and_no_number(width, tmp_path):
    with (tmp_path / "table").open("w") as file:
        Console(file=file, width=width).print(TerminalTable("a title", HEADINGS, ROWS, right=HEADINGS[2:]))
    text = (tmp_path / "table").read_text()
    assert max(map(len, text.splitlines())) <= width
    for word in {word for heading in HEADINGS for word in heading.split()} | {cell for row in ROWS for cell in row}:
        assert word in text
    assert text.count("a title") == 1
    tables = text.count("┏")
    assert tables == {60: 4, 80: 2, 120: 1, 200: 1}[width]
    assert text.count("local-error=0.2") == tables  # each says what its rows are of
