"""Every adaptive method of torchode, every term: value and gradient of each sample against a replay of its steps."""

from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchode")

import torchode

import solvertap as tap
from solvertap import errors
from tests.cells import proves, refuses
from tests.oracle import TERMS, TakenStep, assert_gradient_matches, total
from tests.torchode_problem import METHODS, TOLERANCE, WEIGHTS, Y0, Field, exact, gradient, integral, pid, solve, spans


@cache
def observe(method, name, controller=integral, backwards=False):
    """The block, the gradient of the penalty, and the accepted steps of each sample."""
    field = Field()
    with tap.observe(TERMS[name], trace=True) as seen:
        solve(field, method, controller, backwards=backwards)
    return seen, gradient(seen.penalty, field).numpy(), accepted(seen)


def replay(method, weights, y, steps):
    """The recorded steps of each sample with other weights: the stage states rebuilt, and the field evaluated there.

    All samples at once; one that has taken its steps goes on with steps of size zero, which are dropped.
    """
    field, tableau = Field(torch.as_tensor(weights)), METHODS[method].TABLEAU
    rows, nodes = tableau.a.tolist(), tableau.c.tolist()
    b, e = tableau.b.tolist(), tableau.b_err.tolist()
    replayed = [[] for _ in steps]
    with torch.no_grad():
        for n in range(max(map(len, steps))):
            t, h = torch.tensor(np.stack([each[n] if n < len(each) else [each[-1].sum(), 0.0] for each in steps])).T
            size, slopes, stages = h[:, None], [], []
            for node, row in zip(nodes, rows, strict=True):
                stages.append(y + size * sum((a * k for a, k in zip(row, slopes, strict=False)), 0 * y))
                slopes.append(field(t + node * h, stages[-1]))
            y1, error = (size * sum(x * k for x, k in zip(row, slopes, strict=True)) for row in (b, e))
            y1 = y + y1
            first, last = (stages[-1], stages[-2]) if nodes[-2] == 1 else (y1, stages[-1])
            arrays = y, y1, error, first, last, field(t + h, first), field(t + h, last)
            for i, each in enumerate(steps):
                if n < len(each):
                    own = [x[i].numpy() for x in arrays]
                    k = torch.stack([k[i] for k in slopes]).numpy()
                    replayed[i].append(TakenStep(h[i].item(), *own, k=k, c=nodes))
            y = y1
    return replayed


def values(name, method, weights, steps, *norm, tolerance=None):
    """The value of a term for each sample."""
    tolerance = TOLERANCE[method] if tolerance is None else tolerance
    return np.array([total(name, each, tolerance, tolerance, *norm) for each in replay(method, weights, Y0, steps)])


def accepted(seen):
    """The accepted steps of each sample."""
    traces = [trace.numpy() for trace in seen.trace.samples()]
    return [np.stack([trace["t"], trace["h"]], axis=1)[trace["accepted"]] for trace in traces]


def assert_close(found, wanted):
    """To rounding, of the largest: the error of one short step is the difference of much larger numbers."""
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-9, atol=1e-9 * abs(wanted).max())


CASES = [
    pytest.param(method, name, integral, False, marks=proves("torchode", method, [name], "value", "gradient"))
    for method in METHODS
    for name in TERMS
] + [("dopri5", name, pid, backwards) for name, backwards in zip(TERMS, [False, True, False, True, False], strict=True)]


@pytest.mark.parametrize(("method", "name", "controller", "backwards"), CASES)
def test_value_and_gradient_are_those_of_the_frozen_grid_of_each_sample(method, name, controller, backwards):
    seen, found, steps = observe(method, name, controller, backwards)
    assert seen.stats.rejected.sum() > 0
    assert len({len(each) for each in steps}) > 1  # the samples take steps of their own

    wanted = values(name, method, WEIGHTS.numpy(), steps)
    assert_close(seen.values[name], wanted)
    assert seen.penalty.item() == pytest.approx(wanted.mean(), rel=1e-9)
    assert_gradient_matches(lambda weights: values(name, method, weights, steps).mean(), WEIGHTS.numpy(), found)


@pytest.mark.parametrize("method", METHODS)
def test_stiffness_costs_what_the_tableau_leaves_open(method):
    seen, bare = observe(method, "stiffness")[0], observe(method, "local_error")[0]
    # The trace is measured as well, on every attempt of the batch.
    attempts = int((seen.stats.accepted + seen.stats.rejected).max())
    assert torch.equal(seen.stats.evaluations, bare.stats.evaluations)
    assert (seen.stats.measuring - bare.stats.measuring).tolist() == [0 if method != "heun" else attempts] * 5


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=refuses("torchode", "euler", [name], "no error estimate, whichever controller takes its steps")
        )
        for name in TERMS
    ],
)
def test_euler_is_refused_and_counted(name):
    field = Field()
    term = torchode.ODETerm(field)
    adjoint = torchode.AutoDiffAdjoint(torchode.Euler(term), torchode.FixedStepController())
    for sample in (lambda x: x, tap.LocalSample):
        with (
            pytest.raises(errors.FixedStepError, match=r"`Euler`.*Use a method such as"),
            tap.observe(sample(TERMS[name])),
        ):
            adjoint.solve(spans(), dt0=torch.full((5,), 0.1, dtype=torch.float64))
    assert field.calls == 0
    with tap.observe() as seen:
        solution = adjoint.solve(spans(), dt0=torch.full((5,), 0.1, dtype=torch.float64))
    assert torch.equal(seen.stats.accepted, solution.stats["n_accepted"])


def test_fixed_steps_have_the_estimate_of_their_method_and_no_tolerance():
    field = Field()
    term = torchode.ODETerm(field)
    adjoint = torchode.AutoDiffAdjoint(torchode.Dopri5(term), torchode.FixedStepController())
    steps = torch.full((5,), 0.25, dtype=torch.float64)
    with pytest.raises(errors.NoToleranceError), tap.observe(tap.LocalError()):
        adjoint.solve(spans(), dt0=steps)
    with tap.observe(tap.LocalError(rtol=1e-6, atol=1e-6), trace=True) as seen:
        adjoint.solve(spans(), dt0=steps)
    assert seen.stats.rejected.tolist() == [0] * 5
    assert_close(seen.values["local_error"], values("local_error", "dopri5", WEIGHTS.numpy(), accepted(seen)))


def test_norm_of_the_controller_is_that_of_the_measure():
    def norm(y):
        return y.abs().amax(1)

    def controller(term, tolerance):
        return exact(torchode.IntegralController(tolerance, tolerance, term=term, norm=norm), tolerance)

    field = Field()
    with tap.observe(tap.LocalError(), trace=True) as seen:
        solve(field, controller=controller)
    wanted = values("local_error", "dopri5", WEIGHTS.numpy(), accepted(seen), lambda x: np.max(abs(x)))
    assert_close(seen.values["local_error"], wanted)
    assert torch.isfinite(gradient(seen.penalty, field)).all()
