"""Every solver of diffrax for SDEs, by itself where it estimates an error, and doubled: value and gradient."""

from functools import partial

import pytest

pytest.importorskip("jax")
pytest.importorskip("diffrax")

import diffrax

import solvertap as tap
from solvertap import errors
from tests import diffrax_oracle
from tests.cells import refuses
from tests.diffrax_oracle import additive_sde, langevin, levy_sde, sde, tree_noise
from tests.oracle import TERMS

WITH_ESTIMATE = {
    "Heun": (sde, diffrax.Heun()),
    "Midpoint": (sde, diffrax.Midpoint()),
    "Ralston": (sde, diffrax.Ralston()),
    "ReversibleHeun": (sde, diffrax.ReversibleHeun()),
    "SPaRK": (levy_sde, diffrax.SPaRK()),
    "SRA1": (additive_sde, diffrax.SRA1()),
    "ShARK": (additive_sde, diffrax.ShARK()),
    "ALIGN": (langevin, diffrax.ALIGN()),
}
WITHOUT_ESTIMATE = {
    "EulerHeun": (sde, diffrax.EulerHeun()),
    "ItoMilstein": (sde, diffrax.ItoMilstein()),
    "StratonovichMilstein": (sde, diffrax.StratonovichMilstein()),
    "SlowRK": (levy_sde, diffrax.SlowRK()),
    "GeneralShARK": (levy_sde, diffrax.GeneralShARK()),
    "SEA": (additive_sde, diffrax.SEA()),
    "ShOULD": (langevin, diffrax.ShOULD()),
    "QUICSORT": (langevin, diffrax.QUICSORT()),
}
SOLVERS = {f"{name}, SDE": row for name, row in WITH_ESTIMATE.items()} | {
    f"HalfSolver({name}), SDE": (build, diffrax.HalfSolver(solver))
    for name, (build, solver) in (WITH_ESTIMATE | WITHOUT_ESTIMATE).items()
}
# One of each kind on the path that users take.
for name in ("SPaRK, SDE", "HalfSolver(Heun), SDE"):
    SOLVERS[name] = (partial(SOLVERS[name][0], noise=tree_noise), SOLVERS[name][1])
# The error of ALIGN lies in the velocity alone, on which the drift is linear: S is the same whatever the force.
CONSTANT = {"ALIGN, SDE": ("stiffness",)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=diffrax_oracle.mark(n, *row)) for n, row in SOLVERS.items()])
def test_values_and_gradients_are_those_of_the_frozen_grid(name):
    diffrax_oracle.check(*SOLVERS[name], constant=CONSTANT.get(name, ()))


ROWS = SOLVERS | {f"{name}, SDE": row for name, row in WITHOUT_ESTIMATE.items()}


@pytest.mark.parametrize(
    ("name", "term"),
    [
        pytest.param(name, term, marks=refuses("diffrax", name, [term], "stages mix drift and noise"))
        for name, row in SOLVERS.items()
        for term in TERMS
        if term not in diffrax_oracle.supported(*row)
    ]
    + [
        pytest.param(
            f"{name}, SDE",
            term,
            marks=refuses("diffrax", f"{name}, SDE", [term], "no error estimate; use `HalfSolver`"),
        )
        for name in WITHOUT_ESTIMATE
        for term in TERMS
    ],
)
def test_term_without_an_estimate_is_refused_before_a_step_is_taken(name, term):
    build, solver = ROWS[name]
    constant = {"stepsize_controller": diffrax.ConstantStepSize()} if name not in SOLVERS else {}
    with pytest.raises(errors.NoEstimateError), tap.observe(TERMS[term]):
        diffrax_oracle.solve(build(diffrax_oracle.WEIGHTS), solver, **constant)


@pytest.mark.parametrize(
    "term",
    [
        pytest.param(t, marks=refuses("diffrax", "HalfSolver(Euler), SDE", [t], "refused by diffrax itself"))
        for t in TERMS
    ],
)
def test_euler_on_an_sde_is_refused_by_diffrax_itself(term):
    with pytest.raises(ValueError, match="Euler's method"), tap.observe(TERMS[term]):
        diffrax_oracle.solve(sde(diffrax_oracle.WEIGHTS), diffrax.HalfSolver(diffrax.Euler()))
