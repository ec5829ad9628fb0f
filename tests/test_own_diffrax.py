"""Solvers, controllers and adjoints of diffrax's users: nothing of them is silently zero, and nothing wrong."""

from functools import cache
from typing import ClassVar

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import solvertap as tap
from solvertap import errors
from tests.faults import fault

W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
Y0 = jnp.array([1.0, -0.5, 0.3])
PID = diffrax.PIDController(rtol=1e-2, atol=1e-2)
FIXED = {"stepsize_controller": diffrax.ConstantStepSize(), "dt0": 0.25}
ERROR, SAMPLE = tap.LocalError(), tap.LocalSample(tap.LocalError())
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")


def _field(t, y, w):
    return 4 * jnp.tanh(w @ y) - y


def _solve(w, solver=None, **options):
    settings = {"stepsize_controller": PID, "max_steps": 64, "t0": 0.0, "t1": 1.0, "dt0": 0.3, "y0": Y0} | options
    return diffrax.diffeqsolve(
        diffrax.ODETerm(_field), diffrax.Heun() if solver is None else solver, args=w, **settings
    )


def _seen(term, solver=None, **options):
    with tap.observe(term, key=jax.random.key(0)) as seen:
        _solve(W, solver, **options)
    return seen


@cache
def _plain():
    """Both terms of diffrax's own method."""
    return _seen(ERROR + SAMPLE).values


class _OneStep(diffrax.AbstractSolver):
    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms):
        return 2

    def init(self, terms, t0, t1, y0, args):
        return None

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)


class OwnHeun(_OneStep):
    """Heun's method, the parameters named otherwise."""

    def step(self, terms, start, end, y0, args, state, jumped):
        control = terms.contr(start, end)
        k1 = terms.vf_prod(start, y0, args, control)
        k2 = terms.vf_prod(end, y0 + k1, args, control)
        y1 = y0 + 0.5 * (k1 + k2)
        return y1, 0.5 * (k2 - k1), {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful


class OfTwoSteps(_OneStep):
    """Each step begins with the state before it."""

    def init(self, terms, t0, t1, y0, args):
        return y0

    def step(self, terms, t0, t1, y0, args, state, made_jump):
        y1 = y0 + terms.vf_prod(t0, 0.5 * (y0 + state), args, terms.contr(t0, t1))
        return y1, None, {"y0": y0, "y1": y1}, y0, diffrax.RESULTS.successful


class Twice(diffrax.AbstractWrappedSolver):
    """Two steps of another solver, which it lets see through."""

    solver: diffrax.AbstractSolver
    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def __getattr__(self, name):
        if name == "solver" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.solver, name)

    def order(self, terms):
        return self.solver.order(terms)

    def init(self, *args):
        return self.solver.init(*args)

    def func(self, *args):
        return self.solver.func(*args)

    def step(self, terms, t0, t1, y0, args, state, made_jump):
        middle = 0.5 * (t0 + t1)
        y, first, _, state, _ = self.solver.step(terms, t0, middle, y0, args, state, made_jump)
        y1, second, _, state, result = self.solver.step(terms, middle, t1, y, args, state, False)
        return y1, None if first is None else first + second, {"y0": y0, "y1": y1}, state, result


class WithoutEstimate(diffrax.AbstractERK):
    """The midpoint method, whose tableau has zeros for an estimate."""

    tableau: ClassVar = diffrax.ButcherTableau(
        c=np.array([0.5]), b_sol=np.array([0.0, 1.0]), b_error=np.zeros(2), a_lower=(np.array([0.5]),)
    )
    interpolation_cls: ClassVar = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms):
        return 2


class Around(diffrax.AbstractStepSizeController):
    """Somebody's controller around one of diffrax's."""

    inner: diffrax.AbstractStepSizeController

    def wrap(self, direction):
        return Around(self.inner.wrap(direction))

    def init(self, *args):
        return self.inner.init(*args)

    def adapt_step_size(self, *args):
        return self.inner.adapt_step_size(*args)


@fault(
    "an own solver or controller in diffrax: other parameter names, no slopes, another solver or controller inside",
    "its own error and the tolerances inside are measured; what it does not tell is refused or None, never guessed",
)
def test_own_step_is_measured_by_what_it_returns():
    seen = _seen(ERROR + SAMPLE, OwnHeun(), stepsize_controller=Around(PID))
    for name, value in _plain().items():
        assert float(seen.values[name]) == pytest.approx(float(value), rel=1e-9)
    assert seen.stats.evaluations is None
    with pytest.raises(errors.NoEstimateError, match="does not show"):
        _seen(tap.KineticEnergy(), Twice(diffrax.Heun()))


def test_wrapper_of_a_users_own_is_not_taken_for_what_it_wraps():
    seen = _seen(DOUBLED, Twice(diffrax.Euler()), **FIXED)
    assert seen.stats.evaluations is None
    assert _seen(None, diffrax.Euler(), **FIXED).stats.evaluations == 4
    assert float(seen.penalty) > 0


@fault("an own tableau in diffrax whose error weights are zeros", "no estimate, as for Euler; doubling works")
def test_tableau_of_zeros_is_no_estimate_of_zero():
    with pytest.raises(errors.NoEstimateError, match="estimates no error"):
        _seen(tap.LocalError(scale="raw"), WithoutEstimate(), **FIXED)
    seen = _seen(DOUBLED, WithoutEstimate(), **FIXED)
    assert float(seen.penalty) > 0
    assert (int(seen.stats.evaluations), int(seen.stats.measuring)) == (8, 16)


@fault("doubling asked of an own solver in diffrax that keeps a state", "`NoEstimateError` before it solves")
def test_solver_that_keeps_a_state_is_not_doubled():
    with pytest.raises(errors.NoEstimateError, match=r"`OfTwoSteps`.*`diffrax.HalfSolver`"):
        _seen(DOUBLED, OfTwoSteps(), **FIXED)


@cache
def _whole():
    return _seen(SAMPLE, diffrax.Bosh3(), y0=jnp.array([1.0, 2.0, 3.0])).penalty


@pytest.mark.parametrize("dtype", ["int64", "float32"])
@fault("a chained diffrax solve whose state is narrower than its times", "promoted as diffrax promotes it")
def test_sample_of_a_chained_solve_takes_the_state_as_diffrax_does(dtype):
    # Bosh3's state, (first_step, f0), of a solve in double precision.
    state = (jnp.array(True), jnp.zeros(3))
    chained = _seen(SAMPLE, diffrax.Bosh3(), y0=jnp.array([1, 2, 3], dtype), t0=0, t1=1, solver_state=state).penalty
    assert chained.dtype == jnp.float64
    assert float(chained) == pytest.approx(float(_whole()), rel=1e-9)


# --- Adjoints ---------------------------------------------------------------------------------------------------------


class OfTheStatesAlone(diffrax.AbstractAdjoint):
    """Gives `ys` a gradient and the solver state none, as a `custom_vjp` would."""

    def loop(self, **kwargs):
        state, aux = diffrax.RecursiveCheckpointAdjoint().loop(**kwargs)
        arrays, rest = eqx.partition(state, eqx.is_inexact_array)
        cut = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        return eqx.tree_at(lambda s: s.save_state.ys, cut, state.save_state.ys), aux


class Saying(OfTheStatesAlone):
    solver_state = "returned"


class Delegating(diffrax.AbstractAdjoint):
    solver_state = "differentiated"

    def loop(self, **kwargs):
        return diffrax.RecursiveCheckpointAdjoint().loop(**kwargs)


class Derived(diffrax.RecursiveCheckpointAdjoint):
    """Of which nothing is its own."""


def _gradient(term, adjoint):
    def penalty(w):
        with tap.observe(term, key=jax.random.key(0)) as seen:
            _solve(w, adjoint=adjoint)
        return seen.penalty

    return jax.grad(penalty)(W)


@fault(
    "an adjoint of the user's own in diffrax, of which nobody knows what it differentiates",
    "a penalty is refused, or left out by `regularize`, until the adjoint says what it does; statistics work",
)
def test_adjoint_that_is_not_known_is_refused_and_counted():
    for term in (ERROR, SAMPLE):
        with pytest.raises(errors.ContinuousAdjointError, match=r'`OfTheStatesAlone`.*`solver_state = "diff') as raised:
            _gradient(term, OfTheStatesAlone())
        assert str(raised.value).count(". ") <= 2  # three sentences at most
    assert _seen(None, adjoint=OfTheStatesAlone()).stats == _seen(None).stats


def test_adjoint_that_says_what_it_does_is_believed():
    with pytest.raises(errors.ContinuousAdjointError, match="LocalSample"):
        _gradient(ERROR, Saying())
    sample = _seen(SAMPLE, adjoint=Saying()).penalty
    assert float(sample) == pytest.approx(float(_plain()["sampled_local_error"]), rel=1e-9)
    whole = _gradient(ERROR, Derived())
    assert jnp.max(jnp.abs(whole)) > 0
    np.testing.assert_allclose(_gradient(ERROR, Delegating()), whole, rtol=1e-12)


@fault("`regularize` under `ForwardMode`, where no backward pass could carry a penalty", "left out, and told why")
def test_forward_mode_goes_without_what_is_offered_and_keeps_what_is_insisted_on():
    with tap.regularize(3 * ERROR + SAMPLE) as regularizer, tap.observe(ERROR) as seen:
        _solve(W, adjoint=diffrax.ForwardMode())
    (reason,) = regularizer.left_out
    assert "`ForwardMode`" in reason
    assert float(seen.penalty) == pytest.approx(float(_plain()["local_error"]), rel=1e-9)


# --- Words ------------------------------------------------------------------------------------------------------------


@fault("a stiffness asked of a method with nothing to compare", "`NoEstimateError`, which speaks of the stiffness")
def test_stiffness_of_euler_is_refused_in_its_own_words():
    with pytest.raises(errors.NoEstimateError, match="Stiffness") as raised:
        _seen(tap.Stiffness(), diffrax.Euler(), **FIXED)
    assert "local error was asked" not in str(raised.value)


@fault("a trace of a diffrax solve without a bound on its steps", "refused, with the remedy: a number of rows")
def test_trace_of_a_solve_without_a_bound_has_as_many_rows_as_are_asked_for():
    for trace in (True, 3):
        with tap.observe(trace=trace) as seen:
            if trace is True:
                with pytest.raises(errors.InvalidInputError, match=r"`observe\(trace=1000\)`"):
                    _solve(W, max_steps=None)
            else:
                attempts = _solve(W, max_steps=None).stats["num_steps"]
    assert int(seen.trace.length) == attempts > 3
    assert len(seen.trace.numpy()["t"]) == 3
    with pytest.raises(errors.InvalidInputError, match="how many rows"):
        tap.observe(trace=-1)


def test_term_that_is_written_inside_a_function_compiles_once():
    compiled = []

    def seen(gain):
        term = tap.term(lambda step: compiled.append(gain) or gain * step.h, name="size")
        return _seen(term, diffrax.Euler(), **FIXED).penalty

    first, traced = seen(2.0), len(compiled)
    assert traced > 0
    assert (float(seen(2.0)), len(compiled)) == (float(first), traced)
    assert float(seen(2)) == float(first)
    assert len(compiled) > traced  # 2 and 2.0 may give other dtypes
