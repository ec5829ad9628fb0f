"""What rides through a traced loop is of fixed shape, and refuses what would lose a step."""

import re

import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("diffrax")
import jax.numpy as jnp

import solvertap as tap
from solvertap import adapting, errors
from solvertap_jax import JaxArrays
from tests import own_loop_jax

TERM = tap.LocalError() + 0.1 * tap.Stiffness(reduce="max")
SAMPLED = TERM + tap.LocalSample(tap.LocalError())
KEY = {"key": lambda n: 0.3}


@pytest.fixture
def loop(monkeypatch):
    adapter, module = own_loop_jax.load(monkeypatch)
    adapter.attach(adapting.Patches())
    return adapter, module


def _ride(adapter, **options):
    with tap.observe(**options):
        solve = adapting.open_solve(adapter)
    if solve.extra_step is not None:
        solve.extra_step.begin(lambda t0, y0, t1: _step(t0, t1, y0), 1.0)
    return solve, solve.ride(jnp.ones(2), capacity=7)


def _step(t0=0.0, t1=0.1, y0=None, accepted=True, **changes):
    y0 = jnp.ones(2) if y0 is None else y0
    attempt = {"t0": t0, "t1": t1, "y0": y0, "y1": 2 * y0, "error": 1e-3 * y0, "rtol": 1e-3, "atol": 1e-3}
    return tap.Step(**attempt | {"field": lambda t, y: -(y**2)} | changes, accepted=accepted)


def test_carry_keeps_its_structure_shapes_and_dtypes_and_holds_no_none(loop):
    adapter, _ = loop
    _, ride = _ride(adapter, term=SAMPLED, trace=True, **KEY)
    before = jax.tree.structure(ride.carry, is_leaf=lambda x: x is None)
    assert all(hasattr(x, "dtype") for x in jax.tree.leaves(ride.carry, is_leaf=lambda x: x is None))
    after = ride.update(ride.carry, _step(), jnp.asarray(True))
    assert jax.tree.structure(after, is_leaf=lambda x: x is None) == before
    shapes = [[(x.shape, x.dtype) for x in jax.tree.leaves(carry)] for carry in (ride.carry, after)]
    assert shapes[0] == shapes[1]
    assert after.trace.rows.t.shape == (7,)


def test_rejected_step_counts_and_is_traced_and_changes_nothing_else(loop):
    adapter, _ = loop
    _, ride = _ride(adapter, term=SAMPLED, trace=True, **KEY)
    kept = ride.update(ride.carry, _step(), jnp.asarray(True))
    rejected = ride.update(kept, _step(t0=0.1, t1=0.5, y1=jnp.array([jnp.nan, 1.0])), jnp.asarray(False))
    assert (int(rejected.accepted), int(rejected.rejected), int(rejected.trace.length)) == (1, 1, 2)
    for a, b in zip(jax.tree.leaves((rejected.totals, rejected.reservoirs)), jax.tree.leaves(kept[2:4]), strict=True):
        assert jnp.array_equal(a, b)
    assert float(kept.totals[0]) > 0
    assert list(rejected.trace.rows.accepted[:3]) == [True, False, False]


def test_loop_under_jit_and_vmap_gives_what_each_solve_gives(loop):
    _, module = loop

    def solve(w):
        with tap.observe(SAMPLED, trace=64, **KEY) as seen:
            y = module.integrate(lambda t, y: w * jnp.sin(3 * y) + jnp.cos(9 * t), jnp.ones(2), 0.0, 1.0)
        return y, seen.penalty, seen.stats, seen.trace

    batch = jnp.array([1.0, 4.0, -6.0])
    together = jax.jit(jax.vmap(solve))(batch)
    for i, w in enumerate(batch):
        y, penalty, stats, trace = solve(w)
        assert jnp.allclose(together[0][i], y, rtol=1e-6)
        assert jnp.allclose(together[1][i], penalty, rtol=1e-4)
        assert together[2].accepted[i] == stats.accepted
        assert len(together[3].samples()[i].numpy()["t"]) == stats.accepted + stats.rejected == trace.length
    assert together[2].rejected.sum() > 0
    assert len(set(together[2].accepted.tolist())) > 1


def test_trace_of_an_unbounded_loop_needs_a_number_of_rows(loop):
    adapter, _ = loop
    with tap.observe(trace=True) as seen:
        solve = adapting.open_solve(adapter)
        with pytest.raises(errors.InvalidInputError, match=re.escape("as in `observe(trace=1000)`")):
            solve.ride(jnp.ones(2))
    assert solve in seen.failed


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda ride: ride.update(adapting.Carry(0, 0, ()), _step()), "for a carry; thread `ride.carry`"),
        (lambda ride: ride.update(ride.carry, _step(accepted=None)), "does not say whether a step was accepted"),
        (lambda ride: ride.update(ride.carry, _step(error=jnp.ones(3))), r"handed over error of shape \(3,\)"),
    ],
    ids=["foreign carry", "acceptance unknown", "shape"],
)
def test_what_does_not_fit_a_ride_is_refused_by_the_name_of_its_adapter(loop, wrong, found):
    adapter, _ = loop
    _, ride = _ride(adapter, term=TERM)
    with pytest.raises(errors.StepError, match=f"The adapter 'own-solver-jax' .*{found}"):
        wrong(ride)


def test_what_did_not_come_out_of_the_loop_ends_no_ride(loop):
    adapter, _ = loop
    solve, ride = _ride(adapter, term=TERM)
    with pytest.raises(errors.StepError, match="give what came out of the loop to `finish`"):
        solve.finish(ride, None)


# --- For a replay -----------------------------------------------------------------------------------------------------
REPLAYED = tap.LocalError(replay=True)


class Continuous(JaxArrays):
    """An adapter of a loop whose steps carry no gradient."""

    name = "continuous"
    module = __name__
    serves = adapting.Serves(terms=False, replay=True, samples=True)

    def attach(self, patches):
        pass


def _replaying(term=REPLAYED, **options):
    with tap.observe(term, **options) as seen:
        return adapting.open_solve(Continuous()), seen


def test_accepted_steps_ride_and_are_taken_again():
    @jax.jit
    def penalty(w):
        solve, seen = _replaying()
        y0 = jnp.array([1.0, 2.0])
        ride = solve.ride(y0, capacity=4, noted=(0.0 * w, 0.0 * w))
        carry = ride.carry
        for t0, h, accepted in ((0.0, 0.2, True), (0.2, 0.9, False), (0.2, 0.3, True)):
            step = _step(t0, t0 + h, y0, stages=None)
            carry = ride.update(carry, step, jnp.asarray(accepted), (jnp.asarray(t0), jnp.asarray(h)))
        grid = carry.grid

        def advance(y, t0, h):
            return _step(t0, t0 + h, y, error=1e-3 * w * h * y), y * (1 + w * h)

        solve.replay.begin(advance, y0, y0)
        solve.finish(ride, carry)
        return seen.penalty, grid

    (value, (t0, h)), gradient = jax.value_and_grad(penalty, has_aux=True)(1.5)
    assert t0.tolist() == pytest.approx([0.0, 0.2, 0.0, 0.0])
    assert h.tolist() == pytest.approx([0.2, 0.3, 0.0, 0.0])

    def wanted(w):
        y, total = jnp.array([1.0, 2.0]), 0.0
        for size in (0.2, 0.3):
            total += jnp.sqrt(jnp.mean((1e-3 * w * size * y / (1e-3 + 1e-3 * 2 * y)) ** 2)) * size
            y = y * (1 + w * size)
        return total

    assert float(value) == pytest.approx(float(wanted(1.5)), rel=1e-12)
    assert float(gradient) == pytest.approx(float(jax.grad(wanted)(1.5)), rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda solve, y0: solve.ride(y0, noted=(y0[0],)), "without room for its steps; give `ride` a `capacity`"),
        (lambda solve, y0: solve.ride(y0, 4), "without room for its steps; give `ride` a `capacity` and what is"),
        (
            lambda solve, y0: (ride := solve.ride(y0, 4, noted=(y0[0],))).update(ride.carry, _step()),
            "noted 0 numbers of a step; give `update` the 1 that `ride` was told of",
        ),
    ],
    ids=["no bound", "nothing noted", "another number"],
)
def test_ride_for_a_replay_says_what_it_lacks(wrong, found):
    solve, _ = _replaying()
    with pytest.raises(errors.StepError, match=f"The adapter 'continuous' .*{found}"):
        wrong(solve, jnp.ones(2))


def test_replay_that_is_refused_leaves_a_sample_and_stays_none():
    solve, seen = _replaying(tap.LocalSample(tap.LocalError()), **KEY)
    solve.refuse_replay(errors.ContinuousAdjointError("no replay; do something else"))  # there is none to refuse
    assert [term.name for term in solve.terms] == ["sampled_local_error"]
    solve, seen = _replaying()
    with pytest.raises(errors.ContinuousAdjointError, match="do something else"):
        solve.refuse_replay(errors.ContinuousAdjointError("no replay; do something else"))
    assert solve in seen.failed
