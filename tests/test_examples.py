import importlib.util
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import solvertap as tap
from solvertap import adapting, errors
from solvertap.plugins import registry
from tests.faults import fault

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def _needs(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    for module in ("torch", "torchdiffeq", "torchsde", "torchode", "torchdyn", "jax", "diffrax"):
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
    plugins = registry.plugins()
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


def _seen_of(own_solver, stiffness):
    """The counts, the penalty and its gradient of one solve."""
    import torch

    weight = torch.tensor(stiffness, requires_grad=True)
    with tap.observe(tap.LocalError() + tap.Stiffness()) as seen:
        own_solver.integrate(lambda t, y: -weight * y, torch.ones(3), 0.0, 1.0)
    return seen.stats, seen.penalty.item(), torch.autograd.grad(seen.penalty, weight)[0].item()


@pytest.mark.parametrize("own_solver", ["own_solver_torch"], indirect=True)
@fault("two threads solve with the adapter of the torch example at once", "each sees its own steps")
def test_own_torch_loop_tells_threads_apart(own_solver):
    tap.register(own_solver.OwnSolver())
    stiffnesses = [2.0, 5.0, 9.0, 14.0]
    alone = {stiffness: _seen_of(own_solver, stiffness) for stiffness in stiffnesses}
    assert len({stats.accepted for stats, *_ in alone.values()}) == len(alone)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(stiffnesses)) as pool:
            together = list(pool.map(lambda k: (k, _seen_of(own_solver, k)), stiffnesses * 8, timeout=60))
    finally:
        sys.setswitchinterval(interval)
    assert all(seen == alone[stiffness] for stiffness, seen in together)


@pytest.mark.parametrize("own_solver", ["own_solver_torch", "own_solver_jax"], indirect=True)
@fault("a field that itself solves, under the adapter of an example", "one solve: what is inside belongs to the field")
def test_solve_inside_the_field_of_an_own_loop_is_part_of_it(own_solver):
    tap.register(own_solver.OwnSolver())
    if own_solver.__name__.endswith("torch"):
        from torch import ones
    else:
        from jax.numpy import ones

    def relaxed(t, y):
        return own_solver.integrate(lambda t, z: -z, y, 0.0, 0.1) - 2 * y

    bare = own_solver.integrate(relaxed, ones(3), 0.0, 1.0)
    for term in (None, tap.LocalError() + tap.Stiffness()):
        with tap.observe(term) as seen:
            observed = own_solver.integrate(relaxed, ones(3), 0.0, 1.0)
        assert (observed == bare).all()
        assert seen.stats.solves == 1
        attempts = seen.stats.accepted + seen.stats.rejected
        # Of the stiffness two more: torch measures it where a step was accepted, a traced loop at every attempt.
        steps = seen.stats.accepted if own_solver.__name__.endswith("torch") else attempts
        evaluations = seen.stats.evaluations + seen.stats.measuring
        assert evaluations == 4 * attempts + (0 if term is None else 2 * steps)


@pytest.mark.parametrize("own_solver", ["own_solver_jax"], indirect=True)
@fault("a solve of the JAX example is compiled, and observers hear of it", "numbers, when it has run, and no tracers")
def test_observers_of_a_compiled_own_loop_hear_numbers(own_solver, tmp_path):
    import jax
    import jax.numpy as jnp

    from solvertap.loggers.csv import CsvLog

    tap.register(own_solver.OwnSolver())

    @jax.jit
    def solve(stiffness):
        with tap.observe(tap.LocalError()) as seen:
            own_solver.integrate(lambda t, y: -stiffness * y, jnp.ones(3), 0.0, 1.0)
        return seen.stats

    kept = []

    @jax.jit
    def solve_and_keep(stiffness):
        with tap.observe() as seen:
            own_solver.integrate(lambda t, y: -stiffness * y, jnp.ones(3), 0.0, 1.0)
        kept.append(seen)

    solve_and_keep(2.0)
    with pytest.raises(errors.EscapedTraceError, match=r"has ended\. Return"):
        print(kept[0].stats)
    with CsvLog(tmp_path / "solves.csv"):
        found = [jax.tree.map(int, solve(stiffness)) for stiffness in (2.0, 9.0)]
        jax.effects_barrier()
    rows = [row.split(",") for row in (tmp_path / "solves.csv").read_text().splitlines()[1:]]
    assert found[0].accepted < found[1].accepted
    assert [row[3:6] for row in rows] == [[str(x) for x in (s.accepted, s.rejected, s.evaluations)] for s in found]


@pytest.mark.parametrize("own_solver", ["own_solver_torch"], indirect=True)
def test_own_torch_loop_is_regularized_and_refuses_where_there_is_no_gradient(own_solver):
    import torch

    tap.register(own_solver.OwnSolver())
    weight = torch.tensor(5.0, requires_grad=True)

    def solve():
        return own_solver.integrate(lambda t, y: -weight * y, torch.ones(3), 0.0, 1.0)

    (bare,) = torch.autograd.grad(solve().sum(), weight)
    with tap.observe(tap.LocalError()) as seen:
        solve()
    (penalty,) = torch.autograd.grad(seen.penalty, weight)
    optimiser = torch.optim.SGD([weight], lr=0.1)
    with tap.regularize(3 * tap.LocalError()):
        optimiser.zero_grad()
        solve().sum().backward()
    assert weight.grad.item() == pytest.approx((bare + 3 * penalty).item(), rel=1e-5)
    with torch.no_grad(), tap.observe(tap.LocalError()), pytest.raises(errors.GradientDisabledError):
        solve()


@pytest.mark.parametrize("own_solver", ["own_solver_torch"], indirect=True)
def test_detaching_in_the_midst_of_an_own_loop_leaves_no_half_a_solve(own_solver):
    import torch

    tap.register(own_solver.OwnSolver())
    calls = []

    def field(t, y):
        calls.append(t)
        if len(calls) == 9:
            tap.detach()
        return -9 * y

    with tap.observe(tap.LocalError()) as seen:
        observed = own_solver.integrate(field, torch.ones(3), 0.0, 1.0)
    assert torch.equal(observed, own_solver.integrate(lambda t, y: -9 * y, torch.ones(3), 0.0, 1.0))
    assert seen.stats == tap.Stats()


@pytest.mark.parametrize("own_solver", ["own_solver_torch", "own_solver_jax"], indirect=True)
def test_adapter_of_an_own_solver_uses_the_public_names_alone(own_solver):
    """And so do the built-in ones: everything they import of solvertap is public."""
    import ast

    adapters = EXAMPLES.parent / "adapters"
    for path in [EXAMPLES / f"{own_solver.__name__}.py", *adapters.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "solvertap":
                assert node.module in ("solvertap", "solvertap.adapting", "solvertap.errors"), path
                names = {"solvertap": {*tap.__all__, "adapting"}, "solvertap.adapting": set(adapting.__all__)}
                assert {alias.name for alias in node.names} <= names.get(node.module, set(vars(tap.errors))), path
