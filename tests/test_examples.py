import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

import solvertap as tap

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def _needs(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    for module in ("torch", "torchdiffeq", "torchsde", "jax", "diffrax"):
        if f"import {module}" in text or f"from {module}" in text:
            pytest.importorskip(module)


@pytest.fixture
def own_solver(request):
    """The example as a module, its adapter taken out again afterwards."""
    name = request.param
    _needs(name)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    tap.detach()
    plugins = tap.plugins()
    plugins.adapters.pop(module.OwnSolver.name, None)
    del sys.modules[name]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if not name.startswith("own_solver")])
def test_example_runs_and_prints_one_line(name, capsys):
    _needs(name)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("own_solver", ["own_solver_torch"], indirect=True)
def test_own_torch_loop_trains_with_the_terms_of_everybody(own_solver):
    import torch

    bare = own_solver.integrate(lambda t, y: -y, torch.ones(3), 0.0, 1.0)
    losses, seen = own_solver.main(epochs=20)
    assert losses[-1] < 0.8 * losses[0]
    assert set(seen.values) == {"local_error", "stiffness"}
    weight = torch.tensor(1.0, requires_grad=True)
    with tap.observe(tap.LocalError()) as seen:
        observed = own_solver.integrate(lambda t, y: -weight * y, torch.ones(3), 0.0, 1.0)
    assert torch.equal(observed, bare)
    seen.penalty.backward()
    assert weight.grad > 0


@pytest.mark.parametrize("own_solver", ["own_solver_jax"], indirect=True)
def test_own_jax_loop_trains_with_the_terms_of_everybody(own_solver):
    import jax.numpy as jnp

    bare = own_solver.integrate(lambda t, y: -y, jnp.ones(3), 0.0, 1.0)
    losses, stats = own_solver.main(epochs=20)
    assert losses[-1] < 0.8 * losses[0]
    assert stats.accepted > 0
    with tap.observe(tap.LocalError()):
        observed = own_solver.integrate(lambda t, y: -y, jnp.ones(3), 0.0, 1.0)
    assert jnp.array_equal(observed, bare)


@pytest.mark.parametrize("own_solver", ["own_solver_torch", "own_solver_jax"], indirect=True)
def test_adapter_of_an_own_solver_uses_the_public_names_alone(own_solver):
    """And so do the built-in ones: everything they import of solvertap is public."""
    import ast

    adapters = EXAMPLES.parent / "adapters"
    for path in [EXAMPLES / f"{own_solver.__name__}.py", *adapters.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "solvertap":
                assert node.module in ("solvertap", "solvertap.errors"), path
                if node.module == "solvertap":
                    assert {alias.name for alias in node.names} <= set(tap.__all__), path
