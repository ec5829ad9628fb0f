"""The adapter of `examples/own_solver_jax.py`, with a trial."""

import importlib.util
import sys
from pathlib import Path

import jax

from solvertap.adapting import Trial
from solvertap_diffrax._trial import DiffraxTrial

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_solver_jax.py"


class OwnTrial(DiffraxTrial):
    """Its loop has one tolerance, and is differentiated forwards."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def solve(self, field, parameters, y0, t0, t1, *, rtol, atol, first):
        return self.module.integrate(lambda t, y: field(t, y, parameters), y0, t0, t1, rtol, first or 0.5)

    def one_step(self, field, parameters, y0, t0, t1, *, rtol, atol):
        # A step is kept whatever its error is where the tolerance is huge.
        return self.module.integrate(lambda t, y: field(t, y, parameters), y0, t0, t1, 1e30, t1 - t0)

    def differentiate(self, function, parameters):
        return jax.jacfwd(function, has_aux=True)(parameters)

    adjoint = Trial.adjoint  # it has none


def load(monkeypatch, **changes):
    """The adapter, with some attributes changed, and its module, fresh."""
    spec = importlib.util.spec_from_file_location("own_loop_jax", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_loop_jax", module)
    spec.loader.exec_module(module)
    members = {"trial": lambda self, device=None: OwnTrial(module), **changes}
    return type("Own", (module.OwnSolver,), members)(), module
