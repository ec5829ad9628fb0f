"""Step doubling in diffrax, `HalfSolver`, of every solver there is for an ODE or a CDE: value and gradient."""

from contextlib import nullcontext

import pytest

pytest.importorskip("jax")
pytest.importorskip("diffrax")

import diffrax

import solvertap as tap
from solvertap import errors
from tests import diffrax_oracle
from tests.cells import refuses
from tests.diffrax_oracle import careful, cde, lively, ode, pair, split
from tests.oracle import TERMS

INNER = {
    "Euler": (ode, diffrax.Euler(), 1e-2),
    "Heun": (ode, diffrax.Heun(), 1e-3),
    "Midpoint": (ode, diffrax.Midpoint(), 1e-3),
    "Ralston": (ode, diffrax.Ralston(), 1e-3),
    "Bosh3": (ode, diffrax.Bosh3(), 1e-2),
    "Dopri5": (ode, diffrax.Dopri5(), 1e-2),
    "Tsit5": (ode, diffrax.Tsit5(), 1e-2),
    "Dopri8": (lively, diffrax.Dopri8(), 1e-2),
    "ReversibleHeun": (ode, diffrax.ReversibleHeun(), 1e-3),
    "LeapfrogMidpoint": (careful, diffrax.LeapfrogMidpoint(), 1e-2),
    "SemiImplicitEuler": (pair, diffrax.SemiImplicitEuler(), 1e-2),
    "Euler, CDE": (cde, diffrax.Euler(), 1e-2),
    "Heun, CDE": (cde, diffrax.Heun(), 1e-2),
}
IMPLICIT = {
    "ImplicitEuler": (ode, diffrax.ImplicitEuler()),
    "Kvaerno3": (ode, diffrax.Kvaerno3()),
    "Kvaerno4": (ode, diffrax.Kvaerno4()),
    "Kvaerno5": (ode, diffrax.Kvaerno5()),
    "KenCarp3": (split, diffrax.KenCarp3()),
    "KenCarp4": (split, diffrax.KenCarp4()),
    "KenCarp5": (split, diffrax.KenCarp5()),
    "Sil3": (split, diffrax.Sil3()),
}


def label(name):
    method, *kind = name.split(", ")
    return ", ".join([f"HalfSolver({method})", *kind])


SOLVERS = {label(name): (build, diffrax.HalfSolver(inner), tol) for name, (build, inner, tol) in INNER.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=diffrax_oracle.mark(name, *row[:2])) for name, row in SOLVERS.items()]
)
def test_values_and_gradients_are_those_of_the_frozen_grid(name):
    diffrax_oracle.check(*SOLVERS[name])


@pytest.mark.parametrize(
    ("name", "term"),
    [
        pytest.param(name, term, marks=refuses("diffrax", name, [term], "shows no slopes"))
        for name, (build, solver, _) in SOLVERS.items()
        for term in TERMS
        if term not in diffrax_oracle.supported(build, solver)
    ],
)
def test_term_on_slopes_that_are_not_shown_is_refused(name, term):
    build, solver, tolerance = SOLVERS[name]
    with pytest.raises(errors.NoEstimateError), tap.observe(TERMS[term]):
        diffrax_oracle.solve(build(diffrax_oracle.WEIGHTS), solver, tolerance)


@pytest.mark.parametrize(
    ("name", "term"),
    [
        pytest.param(name, term, marks=refuses("diffrax", label(name), [term], "diffrax itself cannot double it"))
        for name in IMPLICIT
        for term in TERMS
    ],
)
def test_implicit_solver_is_not_doubled_by_diffrax_either(name, term):
    """`_integrate.py` asks the doubled solver for a root finder that only the inner one has."""
    build, inner = IMPLICIT[name]
    problem = build(diffrax_oracle.WEIGHTS)
    for observe in (nullcontext(), tap.observe(TERMS[term])):
        with pytest.raises(AttributeError, match="root_finder"), observe:
            diffrax_oracle.solve(problem, diffrax.HalfSolver(inner))
