"""Whose error it is: the share of each sample, or each part of the state, in the error of every attempted step."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchdiffeq = pytest.importorskip("torchdiffeq")

import solvertap as tap
from solvertap import adapting, errors
from solvertap.plugins import registry
from solvertap.testing.conformance.case import ROWS, START, Case
from tests.faults import fault
from tests.oracle import scaled_error

BOX = sorted(name for name, adapter in registry.plugins().adapters.items() if adapter.serves.trace)
BOX = [name for name in BOX if registry.plugins().adapters[name].distribution is not None]
BATCHES = [name for name in BOX if registry.plugins().adapters[name].serves.batches]
SUM = 1e-6  # the promise: shares add up to 1
WEIGHTS = np.random.default_rng(0).normal(size=(3, 3))
Y0 = np.random.default_rng(1).normal(size=(5, 3))
TRIALS = 20


def field(t, y):
    return 4 * torch.tanh(y @ torch.tensor(WEIGHTS)) - y


def solve(y0=Y0, field=field, tolerance=1e-5, **options):
    """The first step given is too large: it is rejected."""
    options = {"options": {"first_step": 0.5}} | options
    y0 = torch.tensor(y0) if isinstance(y0, np.ndarray) else y0
    return torchdiffeq.odeint(field, y0, torch.tensor([0.0, 1.0]).double(), rtol=tolerance, atol=tolerance, **options)


def case_of(name):
    adapter = registry.plugins().adapters[name]
    pytest.importorskip(adapter.module)
    return Case(adapter, adapter.trial())


def squares_of(step, trial):
    error = step["error"] if "error" in step else step["y1"] - step["y1_embedded"]
    scaled = scaled_error(error, step["y0"], step["y1"], trial.rtol, trial.atol, norm=abs)
    return (scaled**2).reshape(START.shape)


# --- The same in every adapter ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", BOX)
def test_shares_are_those_of_the_errors_handed_over_and_add_up_to_1(name):
    case = case_of(name)
    by = ("part",) if name in BATCHES else ("sample", "part")
    with case.trial.environment():
        with case.steps() as steps, case.observe(trace=ROWS, by=by) as seen:
            case.solve(case.parameters)
        (trace,) = seen.trace.samples()
        columns = trace.numpy()
        assert not columns["accepted"].all()
        assert len(steps) == len(columns["t"])
        order = np.lexsort((-abs(columns["h"]), abs(columns["t"] - case.trial.t0)))
        squares = np.array([squares_of(step, case.trial) for step in steps])
        if name in BATCHES:  # the trial solves both rows as one sample
            squares = squares.reshape(len(steps), 1, -1)
        for each in by:
            wanted = squares.sum(-1 if each == "sample" else -2)
            shares = trace.shares(each)
            assert abs(shares.sum(1) - 1).max() < SUM
            assert shares.min() >= 0
            np.testing.assert_allclose(shares[order], wanted / wanted.sum(1, keepdims=True), rtol=1e-7, atol=1e-12)
            np.testing.assert_allclose(columns[f"{each}_squares"][order], wanted, rtol=1e-7, atol=1e-30)


@pytest.mark.parametrize("name", BOX)
def test_solution_and_steps_are_bitwise_those_without_shares(name):
    case = case_of(name)
    with case.trial.environment():
        bare = case.numpy(case.solve(case.parameters))
        with case.observe(trace=ROWS) as seen:
            case.solve(case.parameters)
        plain = case.trace(seen)
        with case.observe(trace=ROWS, by="part") as seen:
            shared = case.numpy(case.solve(case.parameters))
        columns = case.trace(seen)
    assert (shared == bare).all()
    assert set(columns) - set(plain) == {"part_squares"}
    for key, column in plain.items():
        if key in ("t", "h", "accepted"):
            assert (columns[key] == column).all(), key
        else:  # XLA may add what a trace alone measures in another order
            np.testing.assert_allclose(columns[key], column, rtol=1e-9, err_msg=key)


@fault(
    "shares of samples are asked of a batch whose samples take steps of their own",
    "refused before the solve begins: each sample has a trace of its own",
)
@pytest.mark.parametrize("name", BATCHES)
def test_samples_with_steps_of_their_own_are_told_that_they_have_traces_of_their_own(name):
    case = case_of(name)
    with (
        case.trial.environment(),
        case.observe(trace=ROWS, by="sample") as seen,
        pytest.raises(errors.InvalidInputError, match=r"steps of their own.*`seen.trace.samples\(\)`.*`by=\"part\"`"),
    ):
        case.solve(case.parameters)
    assert seen.stats.solves == 0


# --- A planted hard sample is found -----------------------------------------------------------------------------------
def test_planted_hard_sample_is_found_in_every_trial_of_torchdiffeq():
    draws = np.random.default_rng(2)
    found = 0
    for _ in range(TRIALS):
        planted = int(draws.integers(8))
        speed = torch.ones(8, 1).double()
        speed[planted] = 10
        with tap.observe(trace=True, by="sample") as seen:
            solve(draws.normal(size=(8, 2)), lambda t, y: torch.sin(speed * y.flip(1)), options={})  # noqa: B023  # called here
        indices, shares = seen.trace.worst(3)
        assert len(indices) == len(shares) == 3
        assert (np.diff(shares) <= 0).all()
        found += indices[0] == planted
    assert found == TRIALS


def test_planted_hard_sample_is_found_in_every_trial_of_diffrax():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    import jax.numpy as jnp

    @jax.jit
    def traced(y0, speed):
        with tap.observe(trace=200, by="sample") as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, _: jnp.sin(speed[:, None] * y[:, ::-1])),
                diffrax.Tsit5(), 0.0, 1.0, 0.1, y0, stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5),
            )  # fmt: skip
        return seen.trace

    draws = np.random.default_rng(3)
    found = 0
    for _ in range(TRIALS):
        planted = int(draws.integers(8))
        speed = jnp.ones(8).at[planted].set(10.0)
        trace = traced(jnp.asarray(draws.normal(size=(8, 2))), speed)
        assert trace.sample_squares.shape == (200, 8)
        assert abs(trace.shares().sum(1) - 1).max() < SUM
        found += trace.worst(1)[0][0] == planted
    assert found == TRIALS
    assert traced._cache_size() == 1


# --- What the groups are ----------------------------------------------------------------------------------------------
def test_parts_of_a_tuple_are_its_arrays_and_samples_are_in_all_of_them():
    y0 = (torch.tensor(Y0), torch.zeros(5, 1).double())

    def pair(t, state):
        y, s = state
        return field(t, y), torch.sin(30 * t + y[:, :1]) + 0 * s

    with tap.observe(trace=True, by=("part", "sample")) as seen:
        solve(y0, pair)
    trace = seen.trace
    assert trace.part_squares.shape == (len(trace.t), 2)
    assert trace.sample_squares.shape == (len(trace.t), 5)
    np.testing.assert_allclose(trace.part_squares.sum(1), trace.sample_squares.sum(1), rtol=1e-12)
    alone = [adapting.Groups(("part",), ((5, 3),)), adapting.Groups(("part",), ((5, 1),))]
    assert [groups.counts for groups in alone] == [(None, 3), (None, 1)]
    assert trace.worst(2, "part")[0][0] == 1  # it oscillates, the other does not


def test_parts_of_a_pytree_and_of_a_tuple_of_torchdiffeq_are_the_same():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    import jax.numpy as jnp

    y0 = (torch.tensor(Y0), torch.zeros(5, 1).double())
    with tap.observe(trace=True, by="part", align=True) as seen:
        solve(y0, lambda t, s: (field(t, s[0]), torch.sin(30 * t + s[0][:, :1])), tolerance=1e-4)

    def solved():
        with tap.observe(trace=100, by="part", align=True) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(
                    lambda t, y, _: {
                        "a": 4 * jnp.tanh(y["a"] @ WEIGHTS) - y["a"],
                        "b": jnp.sin(30 * t + y["a"][:, :1]),
                    }
                ),
                diffrax.Dopri5(), 0.0, 1.0, 0.5, {"a": jnp.asarray(Y0), "b": jnp.zeros((5, 1))},
                stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4, norm=_largest_of_parts),
            )  # fmt: skip
        return seen.trace

    with jax.enable_x64(True):
        trace = jax.jit(solved)()
    np.testing.assert_allclose(trace.numpy()["h"], seen.trace.h, rtol=1e-9)
    np.testing.assert_allclose(trace.shares(), seen.trace.shares(), rtol=1e-6)


def _largest_of_parts(state):  # torchdiffeq's norm of a tuple: misc.py::_mixed_norm
    import jax
    import jax.numpy as jnp

    return jnp.max(jnp.stack([jnp.sqrt(jnp.mean(x**2)) for x in jax.tree.leaves(state)]))


def test_samples_of_a_tuple_backwards_and_under_the_adjoint_are_the_same():
    y0 = (torch.tensor(Y0), torch.zeros(5, 1).double())
    times = torch.tensor([1.0, 0.0]).double()

    def pair(t, s):
        return field(t, s[0]), torch.sin(30 * t + s[0][:, :1])

    options = {"rtol": 1e-5, "atol": 1e-5}
    with tap.observe(trace=True, by="sample") as plain:
        torchdiffeq.odeint(pair, y0, times, **options)
    with tap.observe(trace=True, by="sample") as adjoint:
        torchdiffeq.odeint_adjoint(pair, y0, times, adjoint_params=(), **options)
    assert plain.trace.sample_squares.shape[1] == 5
    assert (plain.trace.sample_squares == adjoint.trace.sample_squares).all()


def test_complex_state_has_the_shares_of_absolute_values():
    y0 = torch.tensor([[1.0 + 1.0j, 2.0j], [0.1j, 0.2]], dtype=torch.complex128)
    with tap.observe(trace=True, by="sample") as seen:
        solve(y0, lambda t, y: 5j * y * abs(y))
    trace = seen.trace
    np.testing.assert_allclose(np.sqrt(trace.sample_squares.sum(1) / 4), trace.local_error, rtol=1e-10)
    assert trace.worst(1)[0] == 0


def test_squares_are_constants_and_add_up_to_the_local_error():
    y0 = torch.tensor(Y0, requires_grad=True)
    with tap.observe(tap.LocalError(), trace=True, by="sample") as seen:
        solve(y0)
    (gradient,) = torch.autograd.grad(seen.penalty, y0)
    with tap.observe(tap.LocalError()) as bare:
        solve(y0)
    assert (gradient == torch.autograd.grad(bare.penalty, y0)[0]).all()
    trace = seen.trace
    np.testing.assert_allclose(np.sqrt(trace.sample_squares.sum(1) / Y0.size), trace.local_error, rtol=1e-12)


def test_two_blocks_that_ask_for_different_shares_both_have_theirs():
    with tap.observe(trace=True, by="sample") as outer, tap.observe(trace=True, by="part") as inner:
        solve()
    assert outer.trace.shares("sample").shape[1] == 5
    assert inner.trace.shares("part").shape[1] == 3


# --- Shares where there is little to share ----------------------------------------------------------------------------
def test_steps_without_any_error_have_equal_shares():
    with tap.observe(trace=True, by="sample") as seen:
        solve(field=lambda t, y: torch.zeros_like(y))
    assert (seen.trace.local_error == 0).all()
    assert (seen.trace.shares() == 1 / 5).all()
    np.testing.assert_allclose(seen.trace.worst(9)[1], np.full(5, 1 / 5))


@fault(
    "shares are asked of a solver that estimates no error",
    "all are equal, and `trace.worst` says that there is no estimate",
)
def test_solver_without_an_estimate_has_equal_shares_and_nobody_is_the_worst():
    with tap.observe(trace=True, by="sample") as seen:
        solve(method="rk4", options={"step_size": 0.25})
    assert np.isnan(seen.trace.sample_squares).all()
    assert np.isnan(seen.trace.local_error).all()
    assert (seen.trace.shares() == 1 / 5).all()
    with pytest.raises(errors.NoEstimateError, match=r"no attempt has an error .* use a method with an error estimate"):
        seen.trace.worst(1)


@fault(
    "one sample of a traced solve is not finite",
    "`trace.worst(1)` names it",
)
def test_sample_that_is_not_finite_has_the_whole_share():
    def spoiled(t, y):
        slope = field(t, y)
        slope[2] = float("nan")
        return slope

    with tap.observe(trace=True, by="sample") as seen, pytest.raises(AssertionError, match="underflow in dt"):
        solve(field=spoiled)
    assert seen.trace.worst(1)[0][0] == 2
    np.testing.assert_array_equal(seen.trace.shares()[0], [0, 0, 1, 0, 0])


def test_a_rejected_attempt_that_is_far_off_counts_no_more_than_one():
    squares = np.array([[1e12, 1.0], [0.1, 0.9], [0.1, 0.9]])
    ones = np.ones(3)
    trace = tap.Trace(ones, ones, np.sqrt(squares.sum(1) / 2), ones, np.array([False, True, True]), 3, squares)
    indices, shares = trace.worst(2)
    shares_of = squares / squares.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, np.sort((np.array([1, 0.5, 0.5]) @ shares_of) / 2)[::-1])
    assert set(indices) == {0, 1}


# --- What is refused --------------------------------------------------------------------------------------------------
def test_words_that_mean_nothing_are_refused_when_the_block_is_made():
    with pytest.raises(errors.InvalidInputError, match=r"`by` is 'row'; it is \"sample\", \"part\" or"):
        tap.observe(trace=True, by="row")
    with pytest.raises(errors.InvalidInputError, match=r"`by` is \(\); it is"):
        tap.observe(trace=True, by=())
    with pytest.raises(errors.InvalidInputError, match=r"`by='sample'` was asked without a trace.*add `trace=True`"):
        tap.observe(by="sample")
    with pytest.raises(errors.InvalidInputError, match="add `trace=True`"):
        tap.tapped(solve, by="part")()


@fault(
    "shares of samples are asked of a state without samples along its first axis",
    "refused before the solve begins, with the shapes and the remedy",
)
@pytest.mark.parametrize("y0", [np.array(1.0), (Y0, np.zeros(1))], ids=["a number", "arrays that do not agree"])
def test_state_without_samples_is_refused_before_the_solve_starts(y0):
    called = []

    def noted(t, y):
        called.append(t)
        return y

    y0 = tuple(map(torch.tensor, y0)) if isinstance(y0, tuple) else torch.tensor(y0)
    with (
        tap.observe(trace=True, by="sample") as seen,
        pytest.raises(errors.InvalidInputError, match=r'no samples along a first axis .* Ask for `by="part"`'),
    ):
        solve(y0, noted)
    assert not called
    assert not seen.solves


def test_steps_that_show_the_size_of_their_error_alone_are_refused():
    step = tap.Step(t0=0.0, t1=0.1, y0=Y0, y1=Y0, error_ratio=np.float64(0.5), rtol=1e-3, atol=1e-3)
    assert np.isnan(adapting.trace_row(step, lambda x: x).local_error)
    groups = adapting.Groups(("part",), (Y0.shape,))
    with pytest.raises(errors.NoEstimateError, match=r"size of its error .* hand over `error`"):
        adapting.trace_row(step, lambda x: x, groups)


def test_shares_that_were_not_kept_and_a_wrong_number_are_refused_when_they_are_read():
    with tap.observe(trace=True) as seen:
        solve()
    with pytest.raises(
        errors.InvalidInputError, match=r"No shares were kept; .* `observe\(trace=True, by=\"sample\"\)`"
    ):
        seen.trace.worst(1)
    with tap.observe(trace=True, by=("sample", "part")) as seen:
        solve()
    with pytest.raises(errors.InvalidInputError, match='pass `by="sample"` or `by="part"`'):
        seen.trace.shares()
    for wrong in (0, True, 1.5):
        with pytest.raises(errors.InvalidInputError, match=f"`worst` was asked for {wrong!r}; give it a number"):
            seen.trace.worst(wrong, "part")


def test_mapped_traces_are_read_one_by_one():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    import jax.numpy as jnp

    def traced(y0):
        with tap.observe(trace=50, by=("sample", "part")) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, _: jnp.sin(8 * y)), diffrax.Dopri5(), 0.0, 1.0, 0.5, y0,
                stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
            )  # fmt: skip
        return seen.trace

    starts = jnp.asarray(np.random.default_rng(4).normal(size=(3, 2, 4)))
    together, single = jax.jit(jax.vmap(traced))(starts), jax.jit(traced)
    with pytest.raises(
        errors.InvalidInputError, match=r"is of a batch of shape \(3,\).* read one of `trace.samples\(\)`"
    ):
        together.worst(1, "sample")
    assert len(set(map(int, together.length))) > 1
    for trace, y0 in zip(together.samples(), starts, strict=True):
        alone = single(y0)
        for by, count in (("sample", 2), ("part", 4)):
            assert trace.shares(by).shape == (int(alone.length), count)
            np.testing.assert_allclose(trace.shares(by), alone.shares(by), rtol=1e-6)
            assert trace.worst(1, by)[0] == alone.worst(1, by)[0]


def test_rows_beyond_the_number_asked_for_are_dropped():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    import jax.numpy as jnp

    def traced(rows):
        with tap.observe(trace=rows, by="part") as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, _: jnp.sin(8 * y)), diffrax.Dopri5(), 0.0, 1.0, 0.5, jnp.arange(3.0),
                stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
            )  # fmt: skip
        return seen.trace

    every, few = (jax.jit(lambda rows=rows: traced(rows))() for rows in (50, 3))
    assert int(every.length) > 3
    assert few.part_squares.shape == (3, 3)
    assert (every.numpy()["part_squares"][:3] == few.numpy()["part_squares"]).all()


def test_trace_without_shares_is_the_program_it_was():
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")
    import jax.numpy as jnp

    def leaves(by):
        def traced(y0):
            with tap.observe(trace=50, by=by) as seen:
                diffrax.diffeqsolve(diffrax.ODETerm(lambda t, y, _: -y), diffrax.Dopri5(), 0.0, 1.0, 0.5, y0)
            return seen.trace

        return jax.make_jaxpr(traced)(jnp.ones((2, 3)))

    plain, shared = leaves(None), leaves("sample")
    assert len(plain.out_avals) == 6
    assert len(shared.out_avals) == 7
    assert "[50,2]" in str(shared)
    assert "[50,2]" not in str(plain)
