"""What becomes of measures where numbers are as small as their rounding."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import solvertap as tap
from solvertap import Step, adapting, errors, stiffness
from solvertap.adapting import Stages
from solvertap.solves import resolution
from solvertap.steps import stiffness as measures
from tests import numpy_solver
from tests.faults import fault
from tests.oracle import rms

# The last two stages of Dormand and Prince's method differ by about h^3: here by a tenth of the rounding of y.
SLIVER = 3e-6
SINGLE_SLIVER = 2e-3  # likewise in single precision

# So many that the slopes do not happen to be the very same.
WEIGHTS = np.random.default_rng(0).normal(size=(30, 30)) / 4
Y0 = np.random.default_rng(1).normal(size=(4, 30))
RELATIVE = 1e-9  # two ways to the same derivative, each with its roundings
TERM = tap.LocalError() + tap.Stiffness(reduce="max")


def _step(h, dtype=np.float64, y=Y0, weights=WEIGHTS):
    """A step of Dormand and Prince's method on y' = 2 tanh(y W), every number rounded to the dtype."""
    weights, y, h = weights.astype(dtype), y.astype(dtype), dtype(h)
    y1, error, slopes = numpy_solver.rk_step(lambda t, y: 2 * np.tanh(y @ weights), dtype(0), y, h)
    stages = Stages(slopes=[k.astype(dtype) for k in slopes], tableau=numpy_solver.TABLEAU)
    return Step(t0=dtype(0), t1=h, y0=y, y1=y1.astype(dtype), error=error.astype(dtype), stages=stages)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stiffness_is_right_or_zero_at_every_size_of_a_step(dtype):
    expected = stiffness(_step(1e-2))
    found = np.array([stiffness(_step(h, dtype)) for h in 2.0 ** -np.arange(4, 40)])
    assert np.all((found == 0) | ((found > expected / 3) & (found < 3 * expected)))
    assert found[0] == pytest.approx(expected, rel=0.1)
    assert np.all(found[np.argmin(found) :] == 0)  # once it says nothing, it says nothing of any smaller step
    assert found[-1] == 0


def test_stiffness_says_nothing_where_the_slopes_differ_by_no_more_than_their_rounding():
    # The states are near zero and differ by many units in their last place, the slopes are near one and do not.
    def step(dtype):
        field = lambda t, y: (1 + np.sin(3 * y)).astype(dtype)  # noqa: E731  # a one-line field
        y, h = (1e-4 * Y0).astype(dtype), dtype(1e-3)
        y1, _, slopes = numpy_solver.rk_step(field, dtype(0), y, h)
        return Step(t0=dtype(0), t1=h, y0=y, y1=y1, stages=Stages(slopes=list(slopes), tableau=numpy_solver.TABLEAU))

    assert stiffness(step(np.float64)) == pytest.approx(3, rel=0.1)
    assert stiffness(step(np.float32)) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rule_does_not_depend_on_the_units_of_the_state(dtype):
    # Whole powers of two, by which nothing is rounded.
    for h in (0.125, SLIVER):
        field = lambda t, y: 2 * np.tanh(y @ WEIGHTS.astype(dtype))  # noqa: E731  # a one-line field
        y1, _, slopes = numpy_solver.rk_step(field, dtype(0), Y0.astype(dtype), dtype(h))
        found = set()
        for unit in (2.0**-30, 1.0, 2.0**30):
            stages = Stages(slopes=[dtype(unit) * k for k in slopes], tableau=numpy_solver.TABLEAU)
            states = {"y0": dtype(unit) * Y0.astype(dtype), "y1": dtype(unit) * y1}
            found.add(float(stiffness(Step(t0=dtype(0), t1=dtype(h), stages=stages, **states))))
        assert len(found) == 1
        assert (found == {0.0}) is (h < 0.1)


def test_rounding_of_an_error_is_that_of_the_slopes_and_not_of_their_sum():
    """Why neither slopes against the first one nor a sum in double precision would make an error in float32 better."""
    weights = [x / np.sqrt(len(x)) / 2 for x in (WEIGHTS, WEIGHTS.T)]
    e = np.subtract((*numpy_solver.A[-1], 0), numpy_solver.B_EMBEDDED)

    def slopes(dtype):
        first, last = (x.astype(dtype) for x in weights)
        field = lambda t, y: np.tanh(np.tanh(y @ first) @ last)  # noqa: E731  # a one-line field
        return numpy_solver.rk_step(field, dtype(0), abs(Y0).astype(dtype), dtype(0.05))[2]

    exact, found = slopes(np.float64), slopes(np.float32)
    noise = rms(np.tensordot(np.float32(e), found, 1))
    assert noise > 20 * rms(np.tensordot(e, exact, 1))
    assert rms(np.tensordot(e, found.astype(np.float64), 1)) > 0.8 * noise
    assert rms(np.tensordot(np.float32(e), found - found[0], 1)) > 0.8 * noise


def test_infinite_and_nan_states_are_no_rounding():
    for broken in (np.inf, np.nan):
        step = _step(0.1)
        slopes = [*step.stages.slopes[:-1], np.full_like(Y0, broken)]
        stages = Stages(slopes=slopes, tableau=step.stages.tableau)
        with np.errstate(invalid="ignore"):
            found = stiffness(Step(t0=0.0, t1=0.1, y0=Y0, y1=Y0 * broken, stages=stages))
        assert not np.isfinite(found)


class TestTorchdiffeq:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch")
        self.odeint = pytest.importorskip("torchdiffeq").odeint

    def solve(self, end, term=TERM, dtype="float64", **options):
        weights = self.torch.tensor(WEIGHTS, dtype=getattr(self.torch, dtype)).requires_grad_()
        times = self.torch.tensor([0.0, end], dtype=self.torch.float64)
        with tap.observe(term, trace=True, align=not options) as seen:
            self.odeint(
                lambda t, y: 2 * self.torch.tanh(y @ weights),
                self.torch.tensor(Y0, dtype=weights.dtype),
                times,
                rtol=1e-4,
                atol=1e-4,
                options=options,
            )
        return weights, seen

    def gradient(self, end, **kwargs):
        weights, seen = self.solve(end, **kwargs)
        (first,) = self.torch.autograd.grad(seen.penalty, weights, create_graph=True)
        (second,) = self.torch.autograd.grad((first**2).sum(), weights)
        return seen.penalty.detach(), first.detach(), second

    @pytest.fixture
    def told_nothing(self, monkeypatch):
        """Has torch find the derivatives by itself, once it is called."""
        from solvertap_torch import TorchArrays

        def patch():
            for name in ("analytic", "steps_together"):
                monkeypatch.setattr(TorchArrays, name, getattr(adapting.Adapter, name))

        return patch

    @pytest.fixture
    def end(self):
        """Just past the end of the second step of a solve."""
        trace = self.solve(1.0)[1].trace.numpy()
        return float((trace["t"] + trace["h"])[trace["accepted"]][1]) + SLIVER

    @fault(
        "the last step of a solve is so short that S is a quotient of roundings",
        "S of that step is 0, and so is its derivative",
    )
    def test_stiffness_of_a_sliver_of_a_last_step_is_zero(self, end):
        for options in ({}, {"step_t": self.torch.tensor([end], dtype=self.torch.float64)}):
            trace = self.solve(end, **options)[1].trace.numpy()
            h, stiffness = (trace[name][trace["accepted"]] for name in ("h", "stiffness"))
            assert h[-1] == pytest.approx(SLIVER, rel=1e-3)
            assert stiffness[-1] == 0
            assert min(stiffness[:-1]) > 0.1

    def test_derivative_that_is_written_out_is_the_one_torch_finds_where_a_step_is_a_sliver(self, end, told_nothing):
        found = self.gradient(end)
        told_nothing()
        expected = self.gradient(end)
        for a, b, looser in zip(found, expected, (1, 1, 10), strict=True):
            assert self.torch.norm(a - b) <= looser * RELATIVE * self.torch.norm(b)

    def test_derivatives_of_a_stiffness_that_is_rounding_are_zero_in_single_precision(self, told_nothing):
        def check():
            for x in self.gradient(SINGLE_SLIVER, term=tap.Stiffness(), dtype="float32"):
                assert not x.any()

        check()
        told_nothing()
        check()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_stiffness_of_ordinary_steps_is_bitwise_what_it_is_without_the_rule(self, dtype, monkeypatch):
        found = self.gradient(1.0, term=tap.Stiffness(), dtype=dtype)
        monkeypatch.setattr(measures, "is_beyond_rounding", lambda step, slopes, *_: slopes == slopes)
        for a, b in zip(found, self.gradient(1.0, term=tap.Stiffness(), dtype=dtype), strict=True):
            assert self.torch.equal(a, b)


class TestDiffrax:
    @pytest.fixture(autouse=True)
    def _jax(self):
        self.jax = pytest.importorskip("jax")
        self.diffrax = pytest.importorskip("diffrax")

    def test_stiffness_of_a_sliver_of_a_last_step_is_zero(self):
        with self.jax.enable_x64(), tap.observe(tap.Stiffness(), trace=True) as seen:
            self.diffrax.diffeqsolve(
                self.diffrax.ODETerm(lambda t, y, args: 2 * self.jax.numpy.tanh(y @ WEIGHTS)),
                self.diffrax.Dopri5(),
                0.0,
                0.05 + SLIVER,
                0.05,
                self.jax.numpy.asarray(Y0),
                stepsize_controller=self.diffrax.PIDController(rtol=1e-4, atol=1e-4),
                max_steps=4,
            )
            trace = seen.trace.numpy()
        h, stiffness = (trace[name][trace["accepted"]] for name in ("h", "stiffness"))
        assert h[-1] == pytest.approx(SLIVER, rel=1e-3)
        assert stiffness[-1] == 0
        assert min(stiffness[:-1]) > 0.1

    def test_derivatives_of_a_stiffness_that_is_rounding_are_zero_in_single_precision(self):
        from solvertap_jax._analytic import analytic

        made = _step(SINGLE_SLIVER, np.float32)

        def told(slopes):
            return analytic([tap.Stiffness()], [replace(made, stages=replace(made.stages, slopes=slopes))])[0]

        def found(slopes):
            return stiffness(replace(made, stages=replace(made.stages, slopes=slopes)))

        def derivatives(slopes):
            first = self.jax.grad(told)
            second = self.jax.grad(lambda k: (first(k) ** 2).sum())
            return self.jax.grad(found)(slopes), first(slopes), second(slopes)

        slopes = np.stack(made.stages.slopes)
        assert np.any(slopes[-1] != slopes[-2])
        for x in self.jax.jit(derivatives)(slopes):
            assert not x.any()


def _of_rounding(adapter, caught):
    return [str(w.message) for w in caught if w.category is errors.RoundingWarning and repr(adapter) in str(w.message)]


@pytest.fixture
def nobody_told(monkeypatch):
    monkeypatch.setattr(resolution, "_warned", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


class TestToleranceBelowTheRoundingOfAState:
    def torchdiffeq(self, dtype, tolerance, term=TERM):
        torch = pytest.importorskip("torch")
        odeint = pytest.importorskip("torchdiffeq").odeint
        dtype = getattr(torch, dtype)
        with tap.observe(term) as seen:
            odeint(
                lambda t, y: 1 + 0 * y, torch.ones(2, dtype=dtype), torch.arange(2.0), rtol=tolerance, atol=tolerance
            )
        return seen

    def torchsde(self, dtype, tolerance, term=TERM):
        torch = pytest.importorskip("torch")
        torchsde = pytest.importorskip("torchsde")

        class SDE(torch.nn.Module):
            noise_type, sde_type = "diagonal", "stratonovich"
            f = staticmethod(lambda t, y: 0 * y)
            g = staticmethod(lambda t, y: 0 * y)

        y0, times = torch.ones(2, 2, dtype=getattr(torch, dtype)), torch.tensor([0.0, 0.1])
        with tap.observe(term) as seen:
            torchsde.sdeint(SDE(), y0, times, method="heun", dt=0.1, adaptive=True, rtol=tolerance, atol=tolerance)
        return seen

    def diffrax(self, dtype, tolerance, term=TERM):
        jax, diffrax = pytest.importorskip("jax"), pytest.importorskip("diffrax")

        def solve(y0):
            controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
            with tap.observe(term) as seen:
                field = diffrax.ODETerm(lambda t, y, args: 0 * y)
                diffrax.diffeqsolve(field, diffrax.Heun(), 0.0, 1.0, 0.5, y0, stepsize_controller=controller)
            return seen.penalty

        with jax.enable_x64(dtype == "float64"):
            assert jax.eval_shape(solve, np.ones(2, dtype)).dtype == dtype  # traced, and not compiled

    @pytest.mark.parametrize("adapter", ["torchdiffeq", "torchsde", "diffrax"])
    @fault(
        "the tolerance of a solve is less than the rounding of its states",
        "one `RoundingWarning` a process for each adapter and its terms, which names tolerance and dtype",
    )
    def test_is_told_once_with_its_dtype(self, adapter, nobody_told):
        for tolerance, told in ((1e-7, 0), (1.4e-8, 1), (1.4e-9, 1)):
            getattr(self, adapter)("float32", tolerance)
            assert len(_of_rounding(adapter, nobody_told)) == told
        (message,) = _of_rounding(adapter, nobody_told)
        for word in ("rtol=1.4e-08", "float32", "local_error and stiffness", "float64"):
            assert word in message

    @pytest.mark.parametrize("adapter", ["torchdiffeq", "torchsde", "diffrax"])
    def test_is_none_in_double_precision(self, adapter, nobody_told):
        getattr(self, adapter)("float64", 1e-8)
        assert not _of_rounding(adapter, nobody_told)

    def test_is_not_told_of_what_does_not_feel_it(self, nobody_told):
        for term in (None, tap.KineticEnergy()):
            self.torchdiffeq("float32", 1e-9, term)
        assert not _of_rounding("torchdiffeq", nobody_told)

    def test_raised_warning_ends_the_solve_before_it_begins(self, monkeypatch):
        monkeypatch.setattr(resolution, "_warned", set())
        with warnings.catch_warnings():
            warnings.simplefilter("error", errors.RoundingWarning)
            with pytest.raises(errors.RoundingWarning):
                self.torchdiffeq("float32", 1e-9)
        assert self.torchdiffeq("float32", 1e-9).stats.solves == 1
