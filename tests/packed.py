"""What a wheel and an sdist are to contain, and what they do."""

import subprocess
import tarfile
import zipfile

# What a command line says that has nothing to print with.
NO_COMMAND_LINE = "Error: typer, which the command line needs, is not installed; run `pip install 'solvertap[cli]'`.\n"


def modules(root):
    """The modules of the tree, by the names that they have once installed."""
    return {
        str(path.relative_to(source))
        for source in (root / "core", root / "adapters")
        for path in source.rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }


def tracked(root):
    """The files that git tracks, or would if they were added, without those of the project's own machine."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.splitlines()
    return {name for name in listed if not name.startswith(".ci/") and (root / name).exists()}


def in_wheel(path):
    """The files of a wheel, without what it says of itself."""
    return {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}


def in_sdist(path):
    """The files of an sdist, without what it says of itself."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return names - {"PKG-INFO"}
