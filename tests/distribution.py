"""A distribution of somebody's, built and installed into an environment of its own beside this one's packages."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from textwrap import dedent

PROJECT = dedent("""
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"
    [project]
    name = "{name}"
    version = "{version}"
    [project.entry-points.solvertap]
    mine = "{plugin}"
    [tool.hatch.build.targets.wheel]
    only-include = {files}
""")


def install(folder, name, version, plugin, files):
    """Builds a distribution of these files, and installs it; returns the Python of its environment.

    Args:
        folder: an empty one, for the source and the environment.
        name, version: of the distribution.
        plugin: the module that its entry point names.
        files: the text of each file by name.
    """
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    for file, text in files.items():
        (source / file).write_text(text)
    project = PROJECT.format(name=name, version=version, plugin=plugin, files=list(files))
    (source / "pyproject.toml").write_text(project)
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    # `addsitedir`, not the bare folder: an editable solvertap is itself a line in a .pth file there.
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--no-index", str(source)], check=True)
    return python
