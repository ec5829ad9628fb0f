"""The fault table is what the tests say."""

import subprocess
import sys

import pytest

for framework in ("torchdiffeq", "torchsde", "diffrax", "torchdyn.core"):
    pytest.importorskip(framework)

from tests import fault_table


def test_document_is_current():
    root = fault_table.DOCUMENT.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault_table", "--check"], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stdout + done.stderr
