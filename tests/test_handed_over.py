"""What an adapter hands over is looked at where it comes in: what does not fit is named, what fits is right."""

import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest

import solvertap as tap
from solvertap import adapting, errors
from solvertap.steps.checking import every_step
from tests.faults import fault

Y = np.ones((2, 3))
ERROR = np.array([[1.0] * 3, [10.0] * 3])
TABLEAU = adapting.Tableau(c=(0, 1), b=(0.5, 0.5), a=((), (1,)))
EVERYTHING = tap.LocalError() + tap.Stiffness() + tap.KineticEnergy()


class Somebody(adapting.Adapter):
    name = "somebody"
    module = __name__

    def attach(self, patches):
        pass


def _step(**changes):
    stages = adapting.Stages(slopes=np.stack([Y, 2 * Y]), tableau=TABLEAU)
    whole = {
        "t0": 0.0,
        "t1": 1.0,
        "y0": Y,
        "y1": Y,
        "error": ERROR,
        "rtol": 0.0,
        "atol": 1.0,
        "stages": stages,
        "field": lambda t, y: y,
    }
    return tap.Step(**whole | changes)


def _handed(*steps, term=EVERYTHING, like=Y):
    """What is seen of a solve with these steps, of a Python loop."""
    with tap.observe(term) as seen, adapting.open_solve(Somebody(), like=like) as solve:
        for step in steps:
            solve.step(step)
    return seen


def _folded(step, term=EVERYTHING):
    """The same of one step of a traced loop."""
    with tap.observe(term) as seen, adapting.open_solve(Somebody()) as solve:
        solve.finish(solve.fold.update(solve.fold.start(Y), step))
    return seen


def _stages(slopes, tableau=TABLEAU, unit=1.0):
    return adapting.Stages(slopes=slopes, tableau=tableau, unit=unit)


EACH = np.array([0.0, 0.0])
UNFIT = {
    "times of a batch": ({"t0": EACH, "t1": EACH + 1}, r"t0 of shape \(2,\); it is a scalar.*open_solve.*batch"),
    "one time of a batch": ({"t1": EACH + 1}, r"t1 of shape \(2,\)"),
    "verdicts of a batch": ({"accepted": np.array([True, True])}, r"accepted of shape \(2,\).*open_solve.*batch"),
    "no time": ({"t0": None}, "t0 = None"),
    "error of another shape": ({"error": np.ones(3)}, r"error of shape \(3,\); it is like y1, \(2, 3\)"),
    "second solution of another shape": ({"y1_embedded": np.ones((2, 1))}, r"y1_embedded of shape \(2, 1\)"),
    "start of another shape": ({"y0": np.ones(3)}, r"y0 of shape \(3,\)"),
    "start of another structure": ({"y0": (Y,)}, r"y0 of shape \(\(2, 3\)\), a tuple"),
    "states that are lists": ({"y0": [1.0], "y1": [1.0]}, "y1 of type `list`"),
    "too few slopes": ({"stages": _stages([Y])}, "1 slopes; the tableau has 2 stages"),
    "slopes of another shape": ({"stages": _stages([Y, Y[0]])}, r"a slope of shape \(3,\); the tableau has 2 stages"),
    "a stack of too few slopes": ({"stages": _stages(Y[None])}, r"slopes of shape \(1, 2, 3\)"),
    "a stack along the last axis": ({"stages": _stages(np.ones((2, 3, 2)))}, r"slopes of shape \(2, 3, 2\)"),
    "a unit for each sample": ({"stages": _stages([Y, Y], unit=np.ones(2))}, r"unit of the slopes of shape \(2,\)"),
    "a size of the error and a norm": ({"error_ratio": np.float64(1), "norm": np.max}, "`error_ratio` and a `norm`"),
    "a size for each sample": ({"error_ratio": np.ones(2)}, r"error_ratio of shape \(2,\)"),
    "a tolerance of another shape": ({"atol": np.ones(2)}, r"atol of shape \(2,\).*fits y1, \(2, 3\)"),
    "a norm for each sample": ({"norm": lambda e: np.sqrt(np.mean(e**2, axis=1))}, r"array of shape \(2,\).*`norm`"),
}


@pytest.mark.parametrize("way", [_handed, _folded], ids=["Python loop", "traced loop"])
@pytest.mark.parametrize("what", UNFIT)
@fault(
    "an adapter hands over times of a batch, or an error, slopes, a norm or a tolerance that do not fit the state",
    "one sentence with its name, what it handed over and what is wanted; a batch is not mixed into one number",
)
def test_what_does_not_fit_is_named_with_its_adapter(what, way):
    changes, found = UNFIT[what]
    with pytest.raises(errors.StepError, match=rf"The adapter 'somebody' .*{found}"):
        way(_step(**changes))


@pytest.mark.parametrize("way", [_handed, _folded], ids=["Python loop", "traced loop"])
def test_what_fits_has_the_value_it_should(way):
    values = way(_step()).values
    # E: the root mean square of the error. |k|^2 is 1 at the one end and 4 at the other.
    assert values["local_error"] == pytest.approx(np.sqrt((1 + 100) / 2))
    assert values["kinetic_energy"] == pytest.approx(2.5)
    for fitting in ({"atol": np.ones(3)}, {"atol": np.ones((2, 1))}, {"error": None, "y1_embedded": Y - ERROR}):
        assert way(_step(**fitting)).values["local_error"] == pytest.approx(values["local_error"])


@fault("a term of one's own gives an array", "refused, and not summed without a word")
def test_term_that_measures_an_array_is_refused_by_name():
    with pytest.raises(errors.StepError, match=r"term 'own' measures an array of shape \(2, 3\)"):
        _handed(_step(), term=tap.term(lambda step: step.error, name="own"))


@fault("an adapter hands over a step after the end of its solve, or two kinds of steps", "refused, never added")
def test_step_out_of_its_time_is_refused():
    with tap.observe(tap.LocalError()) as seen:
        with adapting.open_solve(Somebody(), like=Y) as solve:
            solve.step(_step())
        before = seen.penalty
        for late in (lambda: solve.step(_step()), lambda: solve.count(True)):
            with pytest.raises(errors.StepError, match="'somebody' handed over a step after the end of its solve"):
                late()
        assert seen.penalty == before
        assert seen.stats.accepted == 1
        solve = adapting.open_solve(Somebody(), like=Y)
        with pytest.raises(errors.StepError, match=r"of which more is asked; hand it to `Solve\.step`"):
            solve.count(True)
        solve.count(False)  # nothing is measured on a rejected step
        with pytest.raises(errors.StepError, match=r"error of shape \(3,\)"):
            solve.step(_step(error=np.ones(3)))
    with tap.observe() as seen, adapting.open_solve(Somebody(), like=Y) as solve:
        solve.count(True)
    assert seen.stats.accepted == 1


def test_trace_of_a_norm_for_each_sample_is_refused_too():
    step = _step(norm=lambda e: np.sqrt(np.mean(e**2, axis=1)))
    with tap.observe(trace=True), pytest.raises(errors.StepError, match=r"array of shape \(2,\).*`norm`"):
        adapting.open_solve(Somebody(), like=Y).step(step)


def test_state_of_another_shape_than_the_solve_was_opened_with_is_refused():
    with pytest.raises(errors.StepError, match=r"y1 of shape \(2, 3\); the state of its solve.* is of shape \(6,\)"):
        _handed(_step(), like=np.ones(6))
    with pytest.raises(errors.StepError, match="the initial state of type `list`"), tap.observe():
        adapting.open_solve(Somebody(), like=[1.0])


def test_python_loop_says_what_its_state_is_like_and_what_it_accepts():
    with pytest.raises(errors.StepError, match=r"open it with `open_solve\(self, like=y0\)`"):
        _handed(_step(), like=None)
    with pytest.raises(errors.StepError, match="says True or False"):
        _handed(_step(accepted=None))


@fault("a traced loop does not thread its carry, or never gives it", "a sentence with the name of the adapter")
def test_traced_loop_that_loses_its_carry_is_told():
    def opened(term):
        with tap.observe(term) as seen:
            return seen, adapting.open_solve(Somebody())

    seen, solve = opened(tap.LocalError())
    with pytest.raises(errors.StepError, match=r"end its solve with `finish\(carry\)`"):
        _ = seen.penalty  # never finished
    with pytest.raises(errors.StepError, match=r"end its solve with `finish\(carry\)`"):
        solve.finish()
    with pytest.raises(errors.StepError, match="has 3 for a carry; thread"):
        solve.finish(3)
    _, other = opened(EVERYTHING)
    with pytest.raises(errors.StepError, match="the carry of another fold"):
        solve.fold.update(other.fold.start(Y), _step())
    with tap.observe(tap.LocalError()):
        solve = adapting.open_solve(Somebody(), like=Y)
    solve.step(_step())
    with pytest.raises(errors.StepError, match="do the one or the other"):
        solve.finish(solve.fold.start(Y))


def test_traced_loop_without_its_draws_is_told():
    class Sampler(Somebody):
        serves = adapting.Serves(samples=True)

    with tap.observe(tap.LocalSample(tap.LocalError()), key=lambda n: 0.5):
        solve = adapting.open_solve(Sampler())
    for accepted, draws in ((True, None), (np.array(True), solve.extra_step.source)):
        with pytest.raises(errors.StepError, match=r"hand `extra_step\.source` to `fold\.update`"):
            solve.fold.update(solve.fold.start(Y), _step(accepted=accepted), draws)


def test_extra_step_of_a_sample_is_looked_at_too():
    class Sampler(Somebody):
        serves = adapting.Serves(samples=True)

    with tap.observe(tap.LocalSample(tap.LocalError()), key=lambda n: 0.5):
        solve = adapting.open_solve(Sampler(), like=Y)
    solve.extra_step.begin(lambda t0, y0, t1: _step(t0=t0, t1=t1, error=np.ones(3)))
    solve.step(_step())
    with pytest.raises(errors.StepError, match=r"'somebody' handed over error of shape \(3,\)"):
        solve.finish()


def test_unfinished_solve_of_a_python_loop_is_read_as_far_as_it_got():
    with tap.observe(tap.LocalError()) as seen:
        solve = adapting.open_solve(Somebody(), like=Y)
        solve.step(_step())
    assert not solve.finished
    assert seen.penalty == pytest.approx(np.sqrt(50.5))


@fault(
    "a later step of a solve does not fit, or has no length",
    "found where every step is looked at: with `SOLVERTAP_CHECK_STEPS=1`, and by `solvertap doctor`",
)
def test_every_step_is_looked_at_where_that_is_asked_for():
    late = _step(t0=1.0, t1=2.0, y0=Y[0], y1=Y[0], error=ERROR[0], stages=None)
    _handed(_step(), late, term=tap.LocalError())  # the first step alone is looked at
    with every_step(), pytest.raises(errors.StepError, match=r"y1 of shape \(3,\)"):
        _handed(_step(), late, term=tap.LocalError())
    with every_step(), pytest.raises(errors.StepError, match="to the same time; a step has a length"):
        _handed(_step(), _step(t0=1.0, t1=1.0))
    with every_step():
        assert _handed(_step(), _step(t0=1.0, t1=2.0)).stats.accepted == 2


def test_environment_asks_for_every_step():
    script = "from solvertap.steps.checking import checks_every_step; print(checks_every_step())"
    environment = {**os.environ, "SOLVERTAP_CHECK_STEPS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "True\n", done.stderr


def test_several_steps_together_are_no_adapters_to_hand_over_and_are_measured_right():
    """`Step` has no `stack_ndim` to set; a block of steps has right values under every measure."""
    assert "stack_ndim" not in {field.name for field in fields(tap.Step)}
    with pytest.raises(TypeError):
        _step(stack_ndim=1)
    one, two = _step(), _step(t0=1.0, t1=3.0, stages=_stages(np.stack([2 * Y, 4 * Y])), error=2 * ERROR)
    arrays = {name: np.stack([getattr(x, name) for x in (one, two)]) for name in ("t0", "t1", "y0", "y1", "error")}
    slopes = np.stack([x.stages.slopes for x in (one, two)], axis=1)
    both = adapting.Steps.of(one, **arrays, stages=replace(one.stages, slopes=slopes))
    with_ends = replace(one.stages, tableau=adapting.Tableau(c=(1, 1), b=(0, 1), a=((0, 0), (0.5, 0))))
    for measure, stages in (
        (tap.local_error, one.stages),
        (tap.kinetic_energy, one.stages),
        (tap.slope_change, one.stages),
        (tap.stiffness, with_ends),
    ):
        singles = [measure(replace(x, stages=replace(stages, slopes=x.stages.slopes))) for x in (one, two)]
        together = measure(replace(both, stages=replace(stages, slopes=slopes)))
        np.testing.assert_allclose(together, singles, rtol=1e-14)
    with pytest.raises(errors.StepError, match="handed over a `Steps`"):
        _handed(both)


def test_tableau_of_uneven_rows_is_refused():
    with pytest.raises(errors.InvalidInputError, match="2 nodes `c` and 3 entries `b`"):
        adapting.Tableau(c=(0, 1), b=(0, 0, 1))


# --- Times ------------------------------------------------------------------------------------------------------------


def _torch_adapter():
    pytest.importorskip("torch")
    from solvertap_torch import TorchArrays

    class Torch(TorchArrays):
        name, module = "torch-loop", "torch"

        def attach(self, patches):
            pass

    return Torch()


@fault("an adapter hands over times that carry gradient", "they are held fixed like all times: no gradient leaks")
@pytest.mark.parametrize("first", [True, False], ids=["from the first step", "later"])
def test_gradient_of_times_does_not_leak_in_torch(first):
    torch = pytest.importorskip("torch")
    adapter, y = _torch_adapter(), torch.ones(3, dtype=torch.float64)
    h = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    own = tap.term(lambda step: step.h * (step.error**2).mean(), name="own")
    with tap.observe(tap.LocalError() + own) as seen, adapting.open_solve(adapter, like=y) as solve:
        start = h if first else torch.tensor(1.0, dtype=torch.float64)
        for t0, t1 in ((0 * start, start), (h, 2 * h)):
            solve.step(tap.Step(t0=t0, t1=t1, y0=y, y1=y, error=w * y, rtol=0.0, atol=1.0))
    leaked, through = torch.autograd.grad(seen.penalty, (h, w), allow_unused=True)
    assert leaked is None
    assert through.item() == pytest.approx(2 + 2 * 2 * 2)


def test_gradient_of_times_does_not_leak_in_jax():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    class Jax(Somebody):
        name = "jax-loop"

        def constant(self, x):
            return jax.lax.stop_gradient(x)

        def trace_context(self):
            return None

    def penalty(h, like):
        y = jnp.ones(3)
        with tap.observe(tap.LocalError()) as seen, adapting.open_solve(Jax(), like=y if like else None) as solve:
            step = tap.Step(t0=0 * h, t1=h, y0=y, y1=y, error=2 * y, rtol=0.0, atol=1.0)
            if like:
                solve.step(step)
            else:
                solve.finish(solve.fold.update(solve.fold.start(y), step))
        return seen.penalty

    for like in (True, False):
        assert jax.grad(penalty)(1.5, like) == 0
        assert penalty(1.5, like) == pytest.approx(3)


@fault("a torch loop counts its time in numbers, or in another dtype than the state's", "the value is the same")
def test_times_may_be_numbers_in_torch():
    torch = pytest.importorskip("torch")
    adapter, found = _torch_adapter(), []
    y = torch.ones(3)
    w = torch.tensor(2.0, requires_grad=True)
    for number in (float, torch.tensor, lambda x: torch.tensor(x, dtype=torch.float64), np.float64):
        e = (-1.0, 1.0)
        for count in (1, 3):
            with tap.observe(EVERYTHING, trace=True) as seen, adapting.open_solve(adapter, like=y) as solve:
                for n in range(count):
                    stages = _stages([0 * y, w * y], tableau=replace(TABLEAU, e=e))
                    h = 0.5
                    states = {"y0": y, "y1": y, "error": h * w * y, "field": lambda t, y: y}
                    times = {"t0": number(n * h), "t1": number((n + 1) * h)}
                    solve.step(tap.Step(**times, **states, rtol=0.0, atol=1.0, stages=stages))
            assert len(seen.trace.h) == count
            gradient = torch.autograd.grad(seen.penalty, w)[0].item()
            found.append((count, seen.penalty.dtype, seen.penalty.item(), gradient))
    assert len(set(found[::2])) == len(set(found[1::2])) == 1, found
