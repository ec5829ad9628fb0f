"""The adapter of `examples/own_solver_torch.py`, with a trial."""

import importlib.util
import sys
from pathlib import Path

from solvertap_torch import TorchTrial

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_solver_torch.py"


class OwnTrial(TorchTrial):
    """Its loop takes a field of (t, y), times and step sizes as numbers, and one tolerance."""

    def __init__(self, module):
        super().__init__("cpu")
        self.module = module

    def solve(self, field, parameters, y0, t0, t1, *, rtol, atol, first):
        return self.module.integrate(lambda t, y: field(t, y, parameters), y0, float(t0), float(t1), rtol, first or 0.5)

    def one_step(self, field, parameters, y0, t0, t1, *, rtol, atol):
        # A step is kept whatever its error is where the tolerance is huge.
        h = float(t1) - float(t0)
        return self.module.integrate(lambda t, y: field(t, y, parameters), y0, float(t0), float(t1), 1e30, h)


def load(monkeypatch, **changes):
    """The adapter, with some attributes changed, and its module, fresh."""
    spec = importlib.util.spec_from_file_location("own_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_loop", module)
    spec.loader.exec_module(module)
    members = {"trial": lambda self, device=None: OwnTrial(module), **changes}
    return type("Own", (module.OwnSolver,), members)(), module
