"""What is promised of the distribution as a whole."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, files, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import solvertap as tap
from solvertap import adapting
from solvertap.plugins import registry
from tests import packed
from tests.faults import fault

ROOT = Path(__file__).parent.parent
FRAMEWORKS = (
    "torch",
    "torchdiffeq",
    "torchode",
    "torchsde",
    "torchdyn",
    "jax",
    "diffrax",
    "equinox",
    "optax",
    "matplotlib",
    "typer",
    "rich",
)


def test_importing_solvertap_and_its_plugins_imports_no_framework():
    found = f"print([m for m in {FRAMEWORKS} if m in sys.modules])"
    script = f"import sys; from solvertap.plugins.registry import plugins; plugins(); {found}"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_core_imports_no_framework_outside_figures_and_the_command_line():
    core = ROOT / "core" / "solvertap"
    for path in core.rglob("*.py"):
        if path.parent.name == "cli" or path.name == "figure.py":
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found = {name.split(".")[0] for name in names} & set(FRAMEWORKS)
            assert found <= {"matplotlib"}, (path, found)  # for the annotation of `Trace.plot` alone


def test_house_has_few_flat_modules_few_public_names_and_no_long_file():
    flat = [path.name for path in (ROOT / "core" / "solvertap").glob("*.py")]
    assert len(flat) <= 1 + 6, flat  # `__init__.py` and six
    assert len(tap.__all__) <= 35
    sources = [path for folder in ("core", "adapters") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert {path: length for path, length in lengths.items() if length > 200} == {}


def test_faces_have_every_name_once():
    assert set(tap.__all__) & set(adapting.__all__) == {
        "Stats",
        "Step",
        "StepTerm",
        "Trace",
        "errors",
        "hookimpl",
        "local_error",
        "register",
        "unobserved",
    }
    for name in set(tap.__all__) & set(adapting.__all__):
        assert getattr(tap, name) is getattr(adapting, name)


def test_name_of_the_other_face_is_told_where_it_is():
    with pytest.raises(AttributeError, match=r"`solvertap\.open_solve` is for .* import it from `solvertap\.adapting`"):
        tap.open_solve  # noqa: B018  # the access is the test
    with pytest.raises(AttributeError, match="module 'solvertap' has no attribute 'nothing'"):
        tap.nothing  # noqa: B018  # likewise


@pytest.mark.parametrize("face", [tap, adapting], ids=["user", "adapting"])
def test_public_names_are_sorted_and_documented(face):
    names = [name for name in face.__all__ if not name.isupper()]
    assert sorted(face.__all__) == sorted(set(face.__all__))
    for name in names:
        assert getattr(face, name).__doc__, name


def test_every_exception_is_drawn_in_the_tree():
    drawn = tap.errors.__doc__
    for name, value in vars(tap.errors).items():
        if isinstance(value, type) and issubclass(value, tap.errors.SolvertapError):
            assert name in drawn
            if value is not tap.errors.SolvertapError:
                assert any(base.__module__ == "builtins" for base in value.__mro__[1:-3]), name


def test_every_hook_has_its_heading_in_the_docs():
    text = (ROOT / "docs" / "plugins.md").read_text()
    headings = {line.removeprefix("### `").split("(")[0] for line in text.splitlines() if line.startswith("### `")}
    assert headings == {name for name in vars(registry.plugins().manager.hook) if name.startswith("solvertap_")}


def test_extras_are_named_as_every_pip_finds_them():
    """pip before 23.3 looks for the name as it is written, and installs nothing where it is not in normal form."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name for name in extras if name != canonicalize_name(name)] == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    for target in ("wheel", "sdist"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_wheel_holds_the_modules_and_nothing_else(built):
    wheel, _ = built
    assert packed.in_wheel(wheel) == packed.modules(ROOT)


def test_sdist_holds_the_tree_and_nothing_else(built):
    _, sdist = built
    if not (ROOT / ".git").exists():
        pytest.skip("no clone: nothing says what belongs to the tree")
    assert packed.in_sdist(sdist) == packed.tracked(ROOT)


@pytest.fixture(scope="module")
def bare(built, tmp_path_factory):
    """Runs code where solvertap is installed with what it requires, and nothing else is."""
    folder = tmp_path_factory.mktemp("bare")
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    for requirement in map(Requirement, requires("solvertap")):
        if requirement.marker is None:
            for top in {path.parts[0] for path in files(requirement.name) if path.parts[0] != ".."}:
                (folder / top).symlink_to(distribution(requirement.name).locate_file(top))

    def run(code):
        command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(folder)!r}); {code}"]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def test_bare_install_observes_and_brings_no_framework(bare):
    names = ", ".join(repr(name) for name in FRAMEWORKS)
    found = bare(
        f"import importlib.util as u; import solvertap as tap; print([m for m in ({names}) if u.find_spec(m)])"
    )
    assert found.stdout == "[]\n", found.stderr
    entered = bare(
        "import solvertap as tap; seen = tap.observe(tap.LocalError()).__enter__(); print(seen.stats.solves)"
    )
    assert entered.stdout == "0\n", entered.stderr


@fault("the command line without its extra", "one sentence with the command that installs it, and exit code 2")
def test_bare_command_line_says_what_it_needs(bare):
    said = bare("sys.argv = ['solvertap', 'adapters']; from solvertap.cli import main; main()")
    assert (said.returncode, said.stdout, said.stderr) == (2, "", packed.NO_COMMAND_LINE)
