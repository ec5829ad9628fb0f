"""A batch of solves whose samples take steps of their own: each is as if it were solved alone."""

from dataclasses import dataclass

import numpy as np
import pytest

import solvertap as tap
from solvertap import errors
from solvertap.adapting import Serves, open_solve
from tests.batch_loop import TOLERANCES, BatchAdapter, solve_alone, solve_together
from tests.faults import fault
from tests.oracle import TERMS

torch = pytest.importorskip("torch")

from solvertap_torch import TorchArrays

# Steps that begin with a rejection, end early, or are the only one; the last two samples never accept one together.
GRIDS = [
    [(0.3, False), (0.1, True), (0.2, True)],
    [(0.2, True), (0.25, False), (0.1, True), (0.2, True), (0.15, True)],
    [(0.35, True)],
    [(0.1, True), (0.3, False)],
]
Y0 = np.random.default_rng(0).normal(size=(4, 3))
WEIGHTS = np.random.default_rng(1).normal(size=(3, 3))
# Summed in another order.
VALUE, GRADIENT = 1e-12, 1e-10


class TorchBatches(TorchArrays):
    name = "torch-batches"
    module = __name__
    serves = Serves(batches=True, samples=True, regularize=True)

    def attach(self, patches):
        pass


@dataclass(frozen=True, kw_only=True)
class Product(tap.LocalError):
    """A fold of its own."""

    name: str = "product"

    def start(self, zero):
        return zero + 1

    def update(self, total, value, h):
        return total * (1 + value).prod()

    def value(self, total, accepted):
        return total / (1 + accepted)


OWN = {
    # Of a rejected, or a finished, sample the logarithm has no derivative.
    "log of the error": tap.term(lambda step: step.error.abs().mean().log(), name="log", reduce="mean"),
    "field at the end": tap.term(lambda step: (step.field(step.t1, step.y1) ** 2).mean(), name="field", reduce="max"),
    "length": tap.term(lambda step: step.h, name="length", weigh_by_step=True),
    "fold": Product(),
    "unscaled": tap.LocalError(scale="raw", reduce="max", name="raw"),
    "number": tap.term(lambda step: 2.0, name="number"),
}


def torch_field(weights):
    """A field that depends on which sample it is given, as one with data of each sample does."""

    def field(t, y):
        late = t[:, None] if getattr(t, "ndim", 0) else t
        return torch.tanh(y @ weights) + 0.3 * late

    return field


def _alone(term, i, weights, **options):
    with tap.observe(term, **options) as seen:
        solve = solve_alone(TorchBatches(), torch_field(weights), torch.tensor(Y0[i]), GRIDS[i])
    return seen, solve


def _together(term, weights, spoil=None, **options):
    with tap.observe(term, **options) as seen:
        solve = solve_together(TorchBatches(), torch_field(weights), torch.tensor(Y0), GRIDS, spoil)
    return seen, solve


@fault(
    "samples of a batch take steps of their own, and what a rejected or finished one computes is no number",
    "value and gradient of each sample are those of the sample alone",
)
@pytest.mark.parametrize("spoil", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [*TERMS, *OWN])
def test_each_sample_is_as_if_it_were_solved_alone(name, spoil):
    term = (TERMS | OWN)[name]
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    seen, _ = _together(term, weights, spoil)
    alone = [torch.as_tensor(_alone(term, i, weights)[0].penalty).double() for i in range(len(GRIDS))]
    torch.testing.assert_close(seen.values[term.name], torch.stack(alone), rtol=VALUE, atol=0)
    torch.testing.assert_close(seen.penalty, torch.stack(alone).mean(), rtol=VALUE, atol=0)
    if name in ("length", "number"):
        return
    for i, value in enumerate(alone):
        (found,) = torch.autograd.grad(seen.values[term.name][i], weights, retain_graph=True)
        (wanted,) = torch.autograd.grad(value, weights)
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=0, atol=GRADIENT * wanted.abs().max().item())


@pytest.mark.parametrize("term", [None, tap.LocalError() + tap.Stiffness()])
def test_counts_and_traces_have_an_entry_for_each_sample(term):
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    seen, _ = _together(term, weights, trace=True)
    assert seen.stats.accepted.tolist() == [2, 4, 1, 1]
    assert seen.stats.rejected.tolist() == [1, 1, 0, 1]
    assert seen.stats.solves == 1
    assert seen.trace.length.tolist() == [len(grid) for grid in GRIDS]
    for i, trace in enumerate(seen.trace.samples()):
        wanted = _alone(term, i, weights, trace=True)[0].trace.numpy()
        for name, column in trace.numpy().items():
            np.testing.assert_allclose(column, wanted[name], rtol=1e-9, atol=1e-15)


def test_numpy_maps_own_functions_sample_by_sample():
    def field(t, y):
        # `y @ WEIGHTS` rounds a batch and a vector differently on some processors, and the error is a difference.
        product = (y[..., None] * WEIGHTS).sum(-2)
        return np.tanh(product) + 0.3 * (t[:, None] if getattr(t, "ndim", 0) else t)

    own = tap.term(lambda step: abs(step.field(step.t1, step.y1)).mean(), name="own")
    for term in (*TERMS.values(), own):
        with tap.observe(term) as seen:
            solve_together(BatchAdapter(), field, Y0, GRIDS)
        values = []
        for y, grid in zip(Y0, GRIDS, strict=True):
            with tap.observe(term) as one:
                solve_alone(BatchAdapter(), field, y, grid)
            values.append(one.penalty)
        np.testing.assert_allclose(seen.values[term.name], values, rtol=VALUE)
        np.testing.assert_allclose(seen.penalty, np.mean(values), rtol=VALUE)


@pytest.mark.parametrize("name", [*TERMS, "log of the error"])
def test_jax_measures_each_sample_as_if_it_were_solved_alone(name):
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    from solvertap_jax import JaxArrays

    class JaxBatches(JaxArrays):
        name = "jax-batches"
        module = __name__
        serves = Serves(batches=True)

        def attach(self, patches):
            pass

    own = tap.term(lambda step: jnp.log(abs(step.error).mean()), name="log", reduce="mean")
    term = TERMS.get(name, own)

    def field(weights):
        return lambda t, y: jnp.tanh(y @ weights) + 0.3 * (t[:, None] if getattr(t, "ndim", 0) else t)

    def together(weights):
        with tap.observe(term) as seen:
            solve_together(JaxBatches(), field(weights), jnp.asarray(Y0), GRIDS, float("nan"))
        return seen.penalty

    def alone(weights):
        values = []
        for y, grid in zip(Y0, GRIDS, strict=True):
            with tap.observe(term) as seen:
                solve_alone(JaxBatches(), field(weights), jnp.asarray(y), grid)
            values.append(seen.penalty)
        return sum(values) / len(values)

    (found, gradient), (wanted, other) = (jax.value_and_grad(f)(jnp.asarray(WEIGHTS)) for f in (together, alone))
    np.testing.assert_allclose(found, wanted, rtol=VALUE)
    np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-9 * abs(other).max())


@pytest.mark.parametrize("draw", ["steps", "uniform"])
@pytest.mark.parametrize("number", [0.0, 0.3, 0.7, 0.999])
def test_each_sample_draws_from_its_own_accepted_steps(draw, number):
    term = tap.LocalSample(tap.LocalError(), draw=draw)
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    seen, _ = _together(term, weights, float("nan"), key=lambda n: number)
    alone = [_alone(term, i, weights, key=lambda n: number)[0].penalty for i in range(len(GRIDS))]
    torch.testing.assert_close(seen.values[term.name], torch.stack(alone), rtol=1e-9, atol=0)
    (found,) = torch.autograd.grad(seen.penalty, weights)
    (wanted,) = torch.autograd.grad(torch.stack(alone).mean(), weights)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-15)


def test_samples_of_a_batch_draw_independently_and_each_step_as_likely():
    grids = [[(0.1, True), (0.1, False), (0.1, True), (0.1, True)]] * 300
    y0 = torch.ones(300, 3, dtype=torch.float64)
    term = tap.LocalSample(tap.term(lambda step: step.t0, name="t0"), draw="steps")
    with tap.observe(term, key=torch.Generator().manual_seed(0)) as seen:
        solve_together(TorchBatches(), torch_field(torch.tensor(WEIGHTS)), y0, grids)
    starts = np.round(seen.values["sampled_t0"].numpy(), 6)
    found, counts = np.unique(starts, return_counts=True)
    np.testing.assert_allclose(found, [0.0, 0.1, 0.2])
    assert counts.min() > 70  # of 100 each; 70 is four standard deviations below


def test_sample_that_accepts_no_step_has_none_drawn():
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    grids = [[(0.1, True)], [(0.1, False)]]
    with tap.observe(tap.LocalSample(tap.LocalError()) + tap.LocalError(reduce="max", name="most")) as seen:
        solve_together(TorchBatches(), torch_field(weights), torch.tensor(Y0[:2]), grids)
    assert seen.values["sampled_local_error"][1] == 0
    assert seen.values["most"][1] == 0
    assert seen.values["sampled_local_error"][0] > 0
    assert torch.isfinite(torch.autograd.grad(seen.penalty, weights)[0]).all()


@pytest.mark.parametrize("batch", ["mean", "sum"])
def test_regularize_adds_the_mean_or_the_sum_over_samples(batch):
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=0.0)
    records = []
    with tap.regularize("3*local_error", batch=batch, listener=records.append):
        solve = solve_together(TorchBatches(), torch_field(weights), torch.tensor(Y0), GRIDS)
        solution = solve.through(torch.zeros(4, requires_grad=True) + 0)
        solution.sum().backward()
        optimiser.step()
    seen, _ = _together(tap.LocalError(), weights)
    value = getattr(seen.values["local_error"], batch)()
    torch.testing.assert_close(weights.grad, 3 * torch.autograd.grad(value, weights)[0], rtol=1e-9, atol=1e-12)
    # As of a mapped diffrax solve: one record, the sums of the counts, each sample a solve.
    (record,) = records
    assert record.stats[:3] == (4, 8, 3)
    torch.testing.assert_close(record.values["local_error"], value.detach(), rtol=1e-12, atol=0)


def test_observers_hear_numbers_of_each_sample():
    heard = []

    class Listener:
        @tap.hookimpl
        def solvertap_solve_finished(self, adapter, stats):
            heard.append(stats)

    from solvertap.plugins.registry import plugins

    listener = Listener()
    plugins().register(listener, "listener")
    try:
        _together(None, torch.tensor(WEIGHTS))
    finally:
        plugins().unregister(listener)
    assert [stats[:3] for stats in heard] == [(1, 2, 1), (1, 4, 1), (1, 1, 0), (1, 1, 1)]
    assert all(isinstance(stats.accepted, int) for stats in heard)


def test_second_derivatives_are_those_of_each_sample():
    weights = torch.tensor(WEIGHTS, requires_grad=True)

    def second(value):
        (gradient,) = torch.autograd.grad(value, weights, create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), weights)[0]

    term = tap.LocalError() + tap.Stiffness()
    seen, _ = _together(term, weights, float("nan"))
    alone = torch.stack([_alone(term, i, weights)[0].penalty for i in range(len(GRIDS))]).mean()
    wanted = second(alone)
    torch.testing.assert_close(second(seen.penalty), wanted, rtol=1e-8, atol=1e-8 * wanted.abs().max().item())


# --- What is refused --------------------------------------------------------------------------------------------------
def test_adapter_that_does_not_declare_batches_cannot_open_one():
    class Undeclared(TorchBatches):
        serves = Serves()

    with tap.observe(), pytest.raises(errors.StepError, match=r"does not declare.*Serves\(batches=True\)"):
        open_solve(Undeclared(), like=torch.tensor(Y0), batch=4)


@pytest.mark.parametrize(
    ("like", "found"), [(None, "without its state"), (torch.ones(3, 2), r"state of shape \(3, 2\)")]
)
def test_batch_is_opened_with_its_state(like, found):
    with tap.observe(), pytest.raises(errors.StepError, match=found):
        open_solve(TorchBatches(), like=like, batch=4)


UNFIT = {
    "time of one solve": ({"t0": 0.0}, "t0 = 0.0; it has one entry for each of the 4 samples"),
    "times of another batch": ({"t1": torch.ones(3)}, r"t1 of shape \(3,\)"),
    "accepted of one solve": ({"accepted": torch.tensor(True)}, r"accepted of shape \(\)"),
    "attempted of one solve": ({"attempted": False}, "attempted = False"),
    "states of another batch": ({"y1": torch.ones(3, 3)}, r"y1 of shape \(3, 3\)"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_step_that_does_not_fit_its_batch_is_named(what):
    changes, found = UNFIT[what]
    times, y = torch.zeros(4), torch.ones(4, 3)
    step = {"t0": times, "t1": times + 1, "y0": y, "y1": y, "error": y} | changes
    with tap.observe(tap.LocalError()), pytest.raises(errors.StepError, match=found):
        open_solve(TorchBatches(), like=y, batch=4).step(tap.Step(**step, **TOLERANCES))


def test_only_samples_of_a_batch_have_attempted():
    y = torch.ones(3)
    step = tap.Step(t0=0.0, t1=1.0, y0=y, y1=y, error=y, attempted=torch.tensor(True), **TOLERANCES)
    with tap.observe(tap.LocalError()), pytest.raises(errors.StepError, match="which only the samples of a batch have"):
        open_solve(TorchBatches(), like=y).step(step)


def test_function_that_gives_no_scalar_for_a_sample_is_named():
    term = tap.term(lambda step: step.y1, name="state")
    with tap.observe(term), pytest.raises(errors.StepError, match=r"'state' measures an array of shape \(3,\)"):
        solve_together(TorchBatches(), torch_field(torch.tensor(WEIGHTS)), torch.tensor(Y0), GRIDS)


def test_entries_of_different_batches_are_not_added_but_their_penalty_is():
    weights = torch.tensor(WEIGHTS)
    with tap.observe(tap.LocalError()) as seen:
        for size in (4, 2):
            solve_together(TorchBatches(), torch_field(weights), torch.tensor(Y0[:size]), GRIDS[:size])
    for read in (lambda: seen.values, lambda: seen.stats):
        with pytest.raises(errors.InvalidInputError, match=r"2 samples, 4 samples.*seen\.solves"):
            read()
    means = [solve.values[tap.LocalError()].mean() for solve in seen.solves]
    torch.testing.assert_close(seen.penalty, sum(means), rtol=1e-12, atol=0)
