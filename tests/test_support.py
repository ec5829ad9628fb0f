"""The support table: every solver there is has a row, every cell a test or a reason, and the document is current."""

import inspect
import json
import subprocess
import sys

import pytest

torchdiffeq = pytest.importorskip("torchdiffeq")
pytest.importorskip("torchsde")
pytest.importorskip("torchdyn.numerics")
diffrax = pytest.importorskip("diffrax")

from torchdiffeq._impl.odeint import SOLVERS
from torchdyn.numerics.solvers.ode import SOLVER_DICT

from tests import support_table
from tests.oracle import TERMS

# In a process of its own: pytest does not collect inside pytest.
COLLECT = """
import json
from tests import support_table
proven, refused = support_table.collect()
cells = [[*key, list(aspects)] for key, aspects in proven.items()], [list(key) for key in refused]
print(json.dumps([*cells, support_table.document(proven, refused)]))
"""


@pytest.fixture(scope="module")
def collected():
    root = support_table.DOCUMENT.parent.parent
    done = subprocess.run([sys.executable, "-c", COLLECT], capture_output=True, text=True, cwd=root)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def table(collected):
    proven, refused, _ = collected
    return {tuple(key[:3]): set(key[3]) for key in proven}, {tuple(key) for key in refused}


def test_no_cell_is_empty(table):
    proven, refused = table
    for framework, solver in {key[:2] for key in [*proven, *refused]}:
        for term in TERMS:
            key = framework, solver, term
            assert (key in refused) != (key in proven), key
            if key in proven:
                assert {"value", "gradient"} <= proven[key], key
                assert "parity" in proven[key] or support_table.why_no_parity(*key)


def test_every_solver_has_a_row(table):
    proven, refused = table
    solvers = {key[:2] for key in [*proven, *refused]}
    assert {("torchdiffeq", name) for name in SOLVERS} <= solvers
    first_names = {kind: name for name, kind in reversed(SOLVER_DICT.items())}
    assert {("torchdyn", name) for name in first_names.values()} <= solvers
    concrete = {
        name
        for name, value in vars(diffrax).items()
        if inspect.isclass(value) and issubclass(value, diffrax.AbstractSolver) and not name.startswith("Abstract")
    } - {"HalfSolver"}
    assert len(concrete) > 25
    named = {solver for framework, solver in solvers if framework == "diffrax"}
    for name in concrete:
        assert {name, f"{name}, SDE"} & named, name
        assert {f"HalfSolver({name})", f"HalfSolver({name}), SDE"} & named, name


def test_document_is_current(collected):
    assert support_table.DOCUMENT.read_text() == collected[2], "run `make docs`"
