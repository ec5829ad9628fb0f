"""Every solver of diffrax that estimates an error on an ODE or a CDE, every term: value and gradient."""

from functools import partial

import pytest

pytest.importorskip("jax")
pytest.importorskip("diffrax")

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

import solvertap as tap
from solvertap import errors
from tests import diffrax_oracle
from tests.cells import refuses
from tests.diffrax_oracle import NEWTON, careful, cde, ode, pair, split, tree
from tests.oracle import TERMS, unit, weighted
from tests.quick_jit import quick_jit

# Where errors are small, S is a quotient of roundings; the low orders would take thousands of steps.
SOLVERS = {
    "Dopri5": (ode, diffrax.Dopri5(), 1e-4),
    "Tsit5": (ode, diffrax.Tsit5(), 1e-4),
    "Dopri8": (ode, diffrax.Dopri8(), 1e-2),
    "Bosh3": (ode, diffrax.Bosh3(), 1e-3),
    "Heun": (ode, diffrax.Heun(), 1e-3),
    "Midpoint": (ode, diffrax.Midpoint(), 1e-3),
    "Ralston": (ode, diffrax.Ralston(), 1e-3),
    "ReversibleHeun": (ode, diffrax.ReversibleHeun(), 1e-3),
    "ImplicitEuler": (careful, diffrax.ImplicitEuler(**NEWTON), 1e-2),
    "Kvaerno3": (ode, diffrax.Kvaerno3(**NEWTON), 1e-3),
    "Kvaerno4": (ode, diffrax.Kvaerno4(**NEWTON), 1e-3),
    "Kvaerno5": (ode, diffrax.Kvaerno5(**NEWTON), 1e-3),
    "KenCarp3": (split, diffrax.KenCarp3(**NEWTON), 1e-3),
    "KenCarp4": (split, diffrax.KenCarp4(**NEWTON), 1e-2),
    "KenCarp5": (split, diffrax.KenCarp5(**NEWTON), 1e-2),
    "Sil3": (split, diffrax.Sil3(**NEWTON), 1e-3),
    "Tsit5, CDE": (cde, diffrax.Tsit5(), 1e-3),
    "Bosh3, CDE": (cde, diffrax.Bosh3(), 1e-3),
    "Heun, CDE": (cde, diffrax.Heun(), 1e-2),
    "Midpoint, CDE": (cde, diffrax.Midpoint(), 1e-2),
}
WITHOUT_ESTIMATE = {
    "Euler": (ode, diffrax.Euler()),
    "LeapfrogMidpoint": (ode, diffrax.LeapfrogMidpoint()),
    "SemiImplicitEuler": (pair, diffrax.SemiImplicitEuler()),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=diffrax_oracle.mark(name, *row[:2])) for name, row in SOLVERS.items()]
)
def test_values_and_gradients_are_those_of_the_frozen_grid(name):
    diffrax_oracle.check(*SOLVERS[name])


def _pid(**options):
    return diffrax.PIDController(rtol=1e-4, atol=1e-4, **options)


CLIPS = {"step_ts": jnp.array([0.25]), "jump_ts": jnp.array([0.5])}
WAYS = {
    "several parts": (tree, {}),
    "own norm": (ode, {"stepsize_controller": _pid(norm=optx.max_norm), "norm": lambda x: np.max(np.abs(x))}),
    "pid": (ode, {"stepsize_controller": _pid(pcoeff=0.3, icoeff=0.4, dcoeff=0.1)}),
    "clipped": (ode, {"stepsize_controller": diffrax.ClipStepSizeController(_pid(), **CLIPS)}),
    "event": (ode, {"event": diffrax.Event(lambda t, y, args, **_: t > 0.8)}),
    "dense": (ode, {"saveat": diffrax.SaveAt(dense=True)}),
    "direct adjoint": (ode, {"adjoint": diffrax.DirectAdjoint(), "max_steps": 32}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_call_it_has_the_values_and_the_gradients_of_the_frozen_grid(name):
    build, options = WAYS[name]
    diffrax_oracle.check(build, diffrax.Tsit5(), 1e-4, **options)


def test_backwards_in_time_is_the_reflected_problem_forwards():
    def penalty(weights, chosen, backwards):
        field = ode(weights).slope
        reflected = lambda t, y, _: -field(1 - t, y, None)  # noqa: E731  # the same trajectory
        term = diffrax.ODETerm((lambda t, y, _: field(t, y, None)) if backwards else reflected)
        t0, t1, dt0 = (1.0, 0.0, -0.5) if backwards else (0.0, 1.0, 0.5)
        with tap.observe(weighted(chosen)) as seen:
            diffrax.diffeqsolve(
                term, diffrax.Bosh3(), t0, t1, dt0, diffrax_oracle.Y0, stepsize_controller=_pid(), max_steps=64
            )
        return seen.penalty

    back, there = (quick_jit(jax.value_and_grad(partial(penalty, backwards=b))) for b in (True, False))
    for name in TERMS:
        (value, gradient), (expected, reflected) = (f(diffrax_oracle.WEIGHTS, unit(name)) for f in (back, there))
        assert float(value) == pytest.approx(float(expected), rel=1e-9), name
        assert np.linalg.norm(gradient - reflected) <= 1e-7 * np.linalg.norm(reflected), name


@pytest.mark.parametrize(
    ("name", "term"),
    [
        pytest.param(name, term, marks=refuses("diffrax", name, [term], "no error estimate; use `HalfSolver`"))
        for name in WITHOUT_ESTIMATE
        for term in ("local_error", "squared_local_error", "stiffness", "kinetic_energy", "slope_change")
    ]
    + [
        pytest.param(name, term, marks=refuses("diffrax", name, [term], "shows no slopes"))
        for name, (build, solver, _) in SOLVERS.items()
        for term in TERMS
        if term not in diffrax_oracle.supported(build, solver)
    ],
)
def test_term_without_an_estimate_is_refused_before_a_step_is_taken(name, term):
    build, solver = (WITHOUT_ESTIMATE | SOLVERS)[name][:2]
    constant = {"stepsize_controller": diffrax.ConstantStepSize()} if name in WITHOUT_ESTIMATE else {}
    with pytest.raises(errors.NoEstimateError), tap.observe(TERMS[term]):
        diffrax_oracle.solve(build(diffrax_oracle.WEIGHTS), solver, **constant)


def test_gradient_survives_steps_that_an_implicit_solver_could_not_take():
    """diffrax gives a step whose root finder failed an infinite error, and rejects it."""

    def penalty(weights):
        # So few iterations, so tight: many steps do not converge.
        solver = diffrax.Kvaerno3(root_finder=diffrax.VeryChord(rtol=1e-6, atol=1e-6), root_find_max_steps=8)
        with tap.observe(sum(TERMS.values(), start=0), trace=True) as seen:
            diffrax_oracle.solve(ode(weights), solver, 1e-3)
        return seen.penalty, seen.trace

    gradient, trace = quick_jit(jax.grad(penalty, has_aux=True))(diffrax_oracle.WEIGHTS)
    errors_seen = trace.numpy()["local_error"]
    assert not jnp.isfinite(errors_seen).all()
    assert jnp.isfinite(gradient).all()
