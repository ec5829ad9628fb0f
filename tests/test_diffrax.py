import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("diffrax")

import diffrax
import equinox as eqx
import jax.numpy as jnp
from diffrax import diffeqsolve  # by name, before any tap

import solvertap as tap
from solvertap import errors
from tests import diffrax_oracle
from tests.faults import fault
from tests.oracle import assert_gradient_matches

TERM = 100 * tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
WEIGHTS = np.random.default_rng(0).normal(size=(3, 3))
Y0 = jnp.array([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]])
SDE_SOLVERS = {
    "HalfSolver(Heun)": diffrax.HalfSolver(diffrax.Heun()),
    "HalfSolver(EulerHeun)": diffrax.HalfSolver(diffrax.EulerHeun()),
    "HalfSolver(ItoMilstein)": diffrax.HalfSolver(diffrax.ItoMilstein()),
    "Heun": diffrax.Heun(),
}


def field(t, y, weights):
    return 4 * jnp.tanh(y @ weights) + 20 * jax.nn.relu(t - 0.5) - y


def solve(weights=WEIGHTS, solver=None, tolerance=1e-6, field=field, y0=Y0, t0=0.0, t1=1.0, dt0=0.5, **options):
    """The first step given is too large: it is rejected."""
    options = {"stepsize_controller": diffrax.PIDController(rtol=tolerance, atol=tolerance)} | options
    return diffeqsolve(
        diffrax.ODETerm(field), diffrax.Dopri5() if solver is None else solver, t0, t1, dt0, y0, weights, **options
    )


def sde_terms(weights):
    path = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), jax.random.key(3))
    drift = diffrax.ODETerm(lambda t, y, _: 3 * jnp.tanh(weights @ y) + jnp.sin(20 * t))
    diffusion = diffrax.ControlTerm(lambda t, y, _: jnp.diag(0.3 * jnp.sin(weights.T @ y)), path)
    return diffrax.MultiTerm(drift, diffusion)


def solve_sde(weights, solver, **options):
    controller = diffrax.PIDController(rtol=3e-3, atol=3e-3, pcoeff=0.1, icoeff=0.3)
    return diffeqsolve(
        sde_terms(weights), solver, 0.0, 1.0, 0.3, jnp.array([1.0, -0.5]), stepsize_controller=controller, **options
    )


def _everything(solution):
    return [leaf for leaf in jax.tree.leaves(solution) if eqx.is_array(leaf)]


TREE = {"a": Y0[0], "b": (Y0[1], jnp.ones(()))}
WAYS = {
    "plain": {},
    "backwards": {"t0": 1.0, "t1": 0.0, "dt0": -0.5},
    "own first step": {"dt0": None},
    "steps": {"saveat": diffrax.SaveAt(t0=True, steps=True), "max_steps": 64},
    "times": {"saveat": diffrax.SaveAt(ts=jnp.linspace(0, 1, 5))},
    "dense": {"saveat": diffrax.SaveAt(dense=True), "max_steps": 64},
    "states": {"saveat": diffrax.SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)},
    "event": {"event": diffrax.Event(lambda t, y, args, **_: y[0, 0] - 1.5)},
    "direct": {"adjoint": diffrax.DirectAdjoint(), "max_steps": 64},
    "forward mode": {"adjoint": diffrax.ForwardMode()},
    "clipped": {
        "stepsize_controller": diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=1e-6, atol=1e-6), step_ts=jnp.array([0.25]), jump_ts=jnp.array([0.5])
        )
    },
    "own norm": {
        "stepsize_controller": diffrax.PIDController(rtol=1e-6, atol=1e-6, norm=lambda y: jnp.max(jnp.abs(y)))
    },
    "tree": {"field": lambda t, y, args: jax.tree.map(lambda x: jnp.sin(9 * t) - x, y), "y0": TREE},
    "float32": {
        "field": lambda t, y, weights: field(t, y, weights.astype(jnp.float32)),
        "y0": Y0.astype(jnp.float32),
        "t0": jnp.float32(0),
        "t1": jnp.float32(1),
        "dt0": jnp.float32(0.5),
    },
    "pid": {"stepsize_controller": diffrax.PIDController(rtol=1e-6, atol=1e-6, pcoeff=0.3, icoeff=0.4, dcoeff=0.1)},
    "bounded": {"stepsize_controller": diffrax.PIDController(rtol=1e-6, atol=1e-6, dtmin=1e-3, dtmax=0.1)},
    "several": {
        "saveat": diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(t1=True), diffrax.SubSaveAt(steps=2, fn=lambda t, y, args: y.sum())]
        ),
        "max_steps": 64,
    },
    "complex": {"field": lambda t, y, weights: 1j * field(t, y.real, weights) - y, "y0": Y0 + 0j},
    "implicit": {"solver": diffrax.Kvaerno3()},
    "stopped": {"max_steps": 3, "throw": False},
}


@pytest.mark.parametrize("name", WAYS)
@fault(
    "pytrees, events, dense output, own controllers and norms, saved states, early stops in diffrax",
    "observed like any solve, bitwise unchanged, states and statistics included",
)
def test_every_way_to_solve_is_bitwise_neutral_and_seen(name):
    tap.detach()
    bare = solve(**WAYS[name])
    for trace in (False, True):
        with tap.observe(TERM, trace=trace) as seen:
            solution = solve(**WAYS[name])
        assert jax.tree.structure(solution) == jax.tree.structure(bare)
        for a, b in zip(_everything(solution), _everything(bare), strict=True):
            assert np.array_equal(a, b, equal_nan=True)
        assert seen.stats.accepted == bare.stats["num_accepted_steps"] > 0
        assert jnp.isrealobj(seen.penalty)
        assert float(seen.penalty) > 0
        if trace:
            assert len(seen.trace.numpy()["t"]) == bare.stats["num_steps"]


@fault("a state without a single array", "solved as bare; every term of it is zero")
def test_state_without_an_array_has_nothing_to_measure():
    for trace in (False, True):
        with tap.observe(TERM, trace=trace) as seen:
            solution = solve(y0={}, field=lambda t, y, weights: y)
        assert solution.ys == {}
        assert seen.penalty == 0
        assert seen.stats.accepted == solution.stats["num_accepted_steps"] > 0


@pytest.mark.parametrize("name", SDE_SOLVERS)
def test_checks_that_diffrax_makes_of_a_solver_are_unchanged(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tap.observe(TERM) as seen:
            solve_sde(WEIGHTS[:2, :2], SDE_SOLVERS[name], max_steps=3, throw=False)
    assert seen.stats.solves == 1
    with pytest.raises(ValueError, match="with Euler's method"), tap.observe(TERM):
        solve_sde(WEIGHTS[:2, :2], diffrax.HalfSolver(diffrax.Euler()))


@fault(
    "solver and controller states are saved and handed to the next solve",
    "they are the user's own; nothing of ours is in them",
)
def test_solver_and_controller_states_can_be_handed_on():
    halves = diffrax.SaveAt(t1=True, solver_state=True, controller_state=True)

    def both(observe):
        results = []
        with observe() as seen:
            first = solve(t1=0.5, saveat=halves)
            second = solve(
                t0=0.5, y0=first.ys[-1], solver_state=first.solver_state, controller_state=first.controller_state
            )
            results = [first, second]
        return results, seen

    tap.detach()
    from contextlib import nullcontext

    bare, _ = both(nullcontext)
    tapped, seen = both(lambda: tap.observe(TERM, trace=True))
    for a, b in zip(_everything(tapped), _everything(bare), strict=True):
        assert np.array_equal(a, b)
    assert seen.stats.solves == 2


def test_gradients_of_the_solution_are_bitwise_the_bare_ones():
    def loss(weights, term=None):
        with tap.observe(term):
            return solve(weights).ys.sum()

    tap.detach()
    bare = jax.grad(lambda weights: solve(weights).ys.sum())(WEIGHTS)
    assert np.array_equal(jax.grad(loss)(WEIGHTS), bare)
    assert np.array_equal(jax.grad(partial(loss, term=TERM))(WEIGHTS), bare)


def test_observation_lives_inside_jit_vmap_and_scan():
    def penalty(y0):
        with tap.observe(TERM) as seen:
            solve(y0=y0)
        return seen.penalty, seen.stats.accepted

    batch = jnp.stack([Y0, 3 * Y0, 0.1 * Y0])
    batched, counts = jax.jit(jax.vmap(penalty))(batch)
    singly = [jax.jit(penalty)(y0) for y0 in batch]
    assert np.allclose(batched, [value for value, _ in singly], rtol=1e-12)
    assert counts.tolist() == [int(count) for _, count in singly]
    _, scanned = jax.lax.scan(lambda carry, y0: (carry, penalty(y0)[0]), None, batch)
    assert np.allclose(scanned, batched, rtol=1e-12)


def test_samples_of_a_batch_have_traces_of_their_own():
    def trace(y0):
        with tap.observe(trace=True) as seen:
            solve(y0=y0, max_steps=256)
        return seen.trace

    batch = jnp.stack([Y0, 30 * Y0, 0.01 * Y0])
    batched = jax.jit(jax.vmap(trace))(batch)
    samples = batched.samples()
    assert len({len(sample.numpy()["t"]) for sample in samples}) > 1
    for sample, y0 in zip(samples, batch, strict=True):
        (single,) = trace(y0).samples()
        for name, column in single.numpy().items():
            assert np.allclose(sample.numpy()[name], column, rtol=1e-9, atol=1e-12), name
    with pytest.raises(errors.InvalidInputError, match=r"batch of shape \(3,\)"):
        batched.numpy()
    assert [line.get_label() for line in batched.plot().axes[0].get_lines()][::2] == [f"sample {i}" for i in range(3)]


def test_forward_mode_agrees_with_reverse_mode():
    def penalty(weights, adjoint):
        with tap.observe(TERM) as seen:
            solve(weights, adjoint=adjoint)
        return seen.penalty

    direction = np.random.default_rng(1).normal(size=(3, 3))
    _, tangent = jax.jvp(partial(penalty, adjoint=diffrax.ForwardMode()), (WEIGHTS,), (direction,))
    for adjoint in (diffrax.RecursiveCheckpointAdjoint(), diffrax.DirectAdjoint()):
        gradient = jax.grad(penalty)(WEIGHTS, adjoint)
        assert float(jnp.sum(gradient * direction)) == pytest.approx(float(tangent), rel=1e-10)


def test_changing_a_weight_compiles_nothing():
    traced = []

    @jax.jit
    def penalty(weight):
        traced.append(weight)
        with tap.observe(weight * tap.LocalError()) as seen:
            solve()
        return seen.penalty

    with jax.log_compiles(False):
        values = [float(penalty(weight)) for weight in (1.0, 2.0, 3.0)]
    assert len(traced) == 1
    assert values == pytest.approx([values[0], 2 * values[0], 3 * values[0]])


@fault(
    "a JAX field itself solves",
    "the inner solve is part of the field, and is not counted",
)
def test_solve_inside_a_field_is_part_of_the_field():
    def outer(t, y, weights):
        inner = diffeqsolve(diffrax.ODETerm(lambda t, y, _: -y), diffrax.Heun(), 0.0, 0.1, 0.1, y)
        return field(t, inner.ys[-1], weights)

    bare = solve(field=outer, tolerance=1e-3)
    for term in (None, TERM):
        with tap.observe(term) as seen:
            solution = solve(field=outer, tolerance=1e-3)
        assert np.array_equal(solution.ys, bare.ys)
        assert seen.stats.solves == 1


@fault(
    "the block stands outside the transformed function",
    "`EscapedTraceError` where the solve begins: open the block inside",
)
def test_values_cannot_outlive_their_trace():
    with tap.observe(TERM), pytest.raises(errors.EscapedTraceError, match="inside the transformed function"):
        jax.grad(lambda weights: solve(weights).ys.sum())(WEIGHTS)


@fault(
    "the function was compiled before the block began",
    "`NothingObservedError`, which says so",
)
def test_function_compiled_before_the_block_is_said_to_be_unseen():
    @jax.jit
    def compiled(weights):
        return solve(weights).ys

    compiled(WEIGHTS)
    with tap.observe(TERM) as seen:
        compiled(WEIGHTS)
    with pytest.raises(errors.NothingObservedError, match="compiled before"):
        _ = seen.penalty


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"adjoint": diffrax.BacksolveAdjoint()}, errors.ContinuousAdjointError),
        ({"adjoint": diffrax.ImplicitAdjoint()}, errors.ContinuousAdjointError),
        ({"stepsize_controller": diffrax.ConstantStepSize(), "dt0": 0.1}, errors.NoToleranceError),
        ({"solver": diffrax.Euler(), "stepsize_controller": diffrax.ConstantStepSize()}, errors.NoEstimateError),
    ],
    ids=["backsolve", "implicit", "no tolerance", "no estimate"],
)
@fault(
    "a penalty under `BacksolveAdjoint`, `ImplicitAdjoint`, without tolerance, without an error estimate",
    "an exception of its own class before the solve, with the remedy; statistics work",
)
def test_penalty_without_gradient_is_refused_at_the_door_and_counts_still_work(options, refusal):
    with pytest.raises(refusal) as raised, tap.observe(TERM):
        solve(**options)
    assert str(raised.value).count(". ") <= 2  # three sentences at most
    with tap.observe() as seen:
        solve(**options)
    assert seen.stats.accepted > 0


@fault(
    "`BacksolveAdjoint` solves backwards in time",
    "not counted: a JAX transformation keeps its backward pass to itself",
)
def test_backward_solve_of_the_adjoint_is_not_counted():
    def loss(weights):
        with tap.observe() as seen:
            solution = solve(weights, adjoint=diffrax.BacksolveAdjoint())
        return solution.ys.sum(), (seen.stats, solution.stats)

    _, (stats, own) = jax.grad(loss, has_aux=True)(WEIGHTS)
    assert stats.solves == 1
    assert stats.accepted == own["num_accepted_steps"]


def test_prescribed_steps_have_a_penalty_with_a_tolerance_of_the_terms_own():
    grid = jnp.linspace(0, 1, 9)
    options = {"stepsize_controller": diffrax.StepTo(grid), "dt0": None}
    with tap.observe(tap.LocalError(rtol=1e-3, atol=1e-3) + tap.Stiffness(), trace=True) as seen:
        solve(**options)
    assert float(seen.penalty) > 0
    assert np.allclose(seen.trace.numpy()["t"], grid[:-1])
    with tap.observe(tap.LocalError(scale="raw")) as raw:
        solve(**options)
    assert 0 < float(raw.penalty) < float(seen.values["local_error"])


def test_constant_state_has_zero_penalty_and_zero_gradient():
    def penalty(weight):
        with tap.observe(TERM) as seen:
            solve(weight, field=lambda t, y, weight: weight * y)
        return seen.penalty

    value, gradient = jax.value_and_grad(penalty)(0.0)
    assert value == 0
    assert gradient == 0


@fault(
    "wrong arguments, or too many steps",
    "diffrax's own exception, unchanged",
)
def test_wrong_arguments_and_failures_are_diffraxs_own():
    with tap.observe(TERM):
        with pytest.raises(TypeError, match="missing"):
            diffeqsolve(diffrax.ODETerm(field))
        with pytest.raises(Exception, match="maximum number of solver steps"):
            solve(max_steps=2)


def test_detaching_gives_the_class_back():
    original = type(diffeqsolve)
    with tap.observe():
        assert type(diffeqsolve) is not original
    tap.detach()
    assert type(diffeqsolve) is original
    assert isinstance(diffeqsolve, original)


def test_nothing_of_torch_is_imported():
    script = (
        "import sys, diffrax, jax.numpy as jnp, solvertap as tap\n"
        "with tap.observe(tap.LocalError()) as seen:\n"
        "    diffrax.diffeqsolve(diffrax.ODETerm(lambda t, y, a: -y), diffrax.Tsit5(), 0.0, 1.0, 0.1, jnp.ones(2),\n"
        "        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-3))\n"
        "assert seen.penalty > 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


COUNTED = {
    "Dopri5": (diffrax_oracle.ode, diffrax.Dopri5()),
    "Bosh3": (diffrax_oracle.ode, diffrax.Bosh3()),
    "Midpoint": (diffrax_oracle.ode, diffrax.Midpoint()),
    "HalfSolver(Euler)": (diffrax_oracle.ode, diffrax.HalfSolver(diffrax.Euler())),
    "HalfSolver(Dopri5)": (diffrax_oracle.ode, diffrax.HalfSolver(diffrax.Dopri5())),
    "HalfSolver(LeapfrogMidpoint)": (diffrax_oracle.careful, diffrax.HalfSolver(diffrax.LeapfrogMidpoint())),
    "Heun, SDE": (diffrax_oracle.sde, diffrax.Heun()),
    "SPaRK, SDE": (diffrax_oracle.levy_sde, diffrax.SPaRK()),
    "SRA1, SDE": (diffrax_oracle.additive_sde, diffrax.SRA1()),
    "HalfSolver(EulerHeun), SDE": (diffrax_oracle.sde, diffrax.HalfSolver(diffrax.EulerHeun())),
    "HalfSolver(ItoMilstein), SDE": (diffrax_oracle.sde, diffrax.HalfSolver(diffrax.ItoMilstein())),
    "HalfSolver(StratonovichMilstein), SDE": (diffrax_oracle.sde, diffrax.HalfSolver(diffrax.StratonovichMilstein())),
    "HalfSolver(SlowRK), SDE": (diffrax_oracle.levy_sde, diffrax.HalfSolver(diffrax.SlowRK())),
    "HalfSolver(SEA), SDE": (diffrax_oracle.additive_sde, diffrax.HalfSolver(diffrax.SEA())),
    "HalfSolver(ReversibleHeun), SDE": (diffrax_oracle.sde, diffrax.HalfSolver(diffrax.ReversibleHeun())),
}


@pytest.mark.parametrize("name", COUNTED)
def test_evaluations_of_field_and_diffusion_are_those_that_ran(name):
    build, solver = COUNTED[name]
    ran, bare = {"drift": 0, "diffusion": 0}, {}

    def hit(kind):
        ran[kind] += 1

    def counted(kind, function):
        def field(t, y, args):
            jax.debug.callback(partial(hit, kind))
            return function(t, y, args)

        return field

    def wrapped(term):
        if isinstance(term, diffrax.ODETerm):
            return diffrax.ODETerm(counted("drift", term.vector_field))
        return diffrax.ControlTerm(counted("diffusion", term.vector_field), term.control)

    for term in (None, tap.Stiffness()):
        problem = build(diffrax_oracle.WEIGHTS)
        several = isinstance(problem.terms, diffrax.MultiTerm)
        problem.terms = diffrax.MultiTerm(*map(wrapped, problem.terms.terms)) if several else wrapped(problem.terms)
        ran |= {"drift": 0, "diffusion": 0}
        with tap.observe(term) as seen:
            diffrax_oracle.solve(problem, solver)
        jax.effects_barrier()
        counts = seen.stats
        assert counts.rejected > 0
        assert int(counts.evaluations + counts.measuring) == ran["drift"]
        assert int(counts.diffusion_evaluations + counts.diffusion_measuring) == ran["diffusion"]
        assert int(counts.evaluations) == bare.setdefault(None, int(counts.evaluations))


def test_checkpoints_are_diffrax_s_own_and_refused_where_it_has_none():
    with tap.observe(TERM) as kept:
        expected = solve().ys
    with tap.observe(TERM, checkpoint=True) as seen:
        found = solve().ys
    assert (found == expected).all()
    assert seen.penalty == kept.penalty
    with pytest.raises(errors.CheckpointError, match=r"DirectAdjoint.*RecursiveCheckpointAdjoint"):  # noqa: SIM117
        with tap.observe(checkpoint=True):
            solve(adjoint=diffrax.DirectAdjoint())


@pytest.mark.slow
def test_estimate_of_a_solvers_own_is_differentiated_as_it_is():
    """A Runge-Kutta method may estimate its error in another way than its tableau has it."""

    class Squared(diffrax.Dopri5):
        def step(self, *args, **kwargs):
            y1, error, *others = super().step(*args, **kwargs)
            return y1, error**2, *others

    def penalty(weights, solver):
        with tap.observe(tap.LocalError(rtol=0.0, atol=1.0)) as seen:
            solve(weights, solver, stepsize_controller=diffrax.StepTo(jnp.linspace(0, 1, 4)), dt0=None)
        return seen.penalty

    function = jax.jit(lambda weights: penalty(weights, Squared()))
    gradient = jax.grad(lambda weights: penalty(weights, Squared()))(WEIGHTS)
    assert_gradient_matches(lambda flat: function(flat.reshape(3, 3)), WEIGHTS.ravel(), gradient.ravel())
