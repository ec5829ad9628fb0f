"""How often a solve of diffrax evaluates its field: what is told is what runs, whatever XLA has left out of it."""

import pytest

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")

import jax.numpy as jnp
import numpy as np

import solvertap as tap
from tests.faults import fault

W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
Y0 = jnp.array([1.0, -0.5, 0.3])
PID = diffrax.PIDController(rtol=1e-3, atol=1e-3)
FIXED = {"stepsize_controller": diffrax.ConstantStepSize(), "dt0": 0.25}
DOUBLED = tap.LocalError(estimate="doubling", scale="raw")
# At a jump a first-same-as-last method evaluates its first stage anew, and so it does after its first, rejected step.
# diffrax's own event evaluates the field before the solve and after every attempt.
INTERRUPTED = {
    "stepsize_controller": diffrax.ClipStepSizeController(PID, jump_ts=jnp.array([0.3, 0.5])),
    "event": diffrax.Event(diffrax.steady_state_event(rtol=0.0, atol=1e-9)),
}
CASES = {
    "stiffness": (diffrax.Bosh3(), tap.Stiffness(), INTERRUPTED),
    "doubling": (diffrax.Euler(), DOUBLED, FIXED),
    "sample": (diffrax.Ralston(), tap.LocalSample(tap.LocalError()), {}),
}


class Counter:
    """A field that counts, by a callback that XLA may leave out with the evaluation it belongs to."""

    def __init__(self):
        self.ran = 0

    def hit(self, _):
        self.ran += 1
        return np.zeros(())

    def __call__(self, t, y, args):
        nothing = jax.pure_callback(self.hit, jax.ShapeDtypeStruct((), jnp.float64), t)
        return 4 * jnp.tanh(W @ y) + 20 * jax.nn.relu(t - 0.5) - y + nothing


def _solve(field, solver, **options):
    settings = {"dt0": 0.9, "stepsize_controller": PID, "t0": 0.0, "t1": 1.0, "y0": Y0, "max_steps": 64} | options
    return diffrax.diffeqsolve(diffrax.ODETerm(field), solver, **settings)


@pytest.mark.parametrize("case", CASES)
@fault(
    "a regularized JAX solve that trains nothing: XLA leaves the measuring out",
    "`evaluations` are the solver's own, those that ran; jumps, rejected first steps, the steady-state event included",
)
def test_penalty_does_not_make_an_evaluation_look_dearer(case):
    solver, term, options = CASES[case]
    field, records = Counter(), []
    with tap.regularize(term, listener=records.append) as regularizer:
        jax.block_until_ready(jax.jit(lambda: _solve(field, solver, **options).ys)())
        jax.effects_barrier()
    assert not regularizer.left_out
    (record,) = records
    assert record.kind == "evaluation"
    assert record.stats.evaluations == field.ran > 0
    assert case != "stiffness" or record.stats.rejected > 0


@pytest.mark.parametrize("case", CASES)
def test_what_measuring_adds_is_told_apart_and_is_what_ran(case):
    solver, term, options = CASES[case]
    field = Counter()

    @jax.jit
    def observed():
        with tap.observe(term, key=jax.random.key(0)) as seen:
            _solve(field, solver, **options)
        return seen.penalty, seen.stats

    _, stats = jax.block_until_ready(observed())
    jax.effects_barrier()
    attempts = int(stats.accepted + stats.rejected)
    assert int(stats.evaluations + stats.measuring) == field.ran
    # Of two extra steps, to the place that is drawn and from there, each evaluates twice.
    assert int(stats.measuring) == {"stiffness": attempts, "doubling": 2 * attempts, "sample": 4}[case]


def test_solve_that_goes_on_from_another_knows_its_first_slope():
    field = Counter()
    with tap.observe() as seen:
        halves = [_solve(field, diffrax.Bosh3(), t1=0.5, dt0=0.1, saveat=diffrax.SaveAt(t1=True, solver_state=True))]
        state = {"y0": halves[0].ys[-1], "solver_state": halves[0].solver_state}
        halves.append(_solve(field, diffrax.Bosh3(), t0=0.5, dt0=0.1, **state))
    attempts = sum(int(half.stats["num_steps"]) for half in halves)
    assert int(seen.stats.evaluations) == field.ran == 3 * attempts + 1
