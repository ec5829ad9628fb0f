"""Where arithmetic ends: zeros, NaNs, no steps, no elements, narrow numbers. A defined value or one clear error."""

import numpy as np
import pytest

import solvertap as tap
from solvertap import Step
from solvertap.adapting import Stages
from solvertap.solves.fold import Fold
from tests import numpy_solver
from tests.faults import fault
from tests.oracle import TERMS

EVERY = sum(TERMS.values(), start=0)
ZERO = dict.fromkeys(TERMS, 0.0)


def _step(dtype=np.float64, **changes):
    """A step of two stages at its end, every number one."""
    ones = np.ones((3, 2), dtype=dtype)
    tableau = numpy_solver.TABLEAU
    slopes = np.arange(7, dtype=dtype).reshape(7, 1, 1) * ones
    stages = Stages(slopes=slopes, tableau=tableau)
    given = {"t0": 0.0, "t1": 0.5, "y0": ones, "y1": ones, "error": ones, "rtol": 1e-3, "atol": 1e-3, "stages": stages}
    return Step(**(given | changes))


def _values(*steps):
    fold = Fold(tuple(TERMS.values()))
    carry = fold.start(steps[0].y0)
    for step in steps:
        carry = fold.update(carry, step)
    return {term.name: value for term, value in fold.values(carry).items()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_measures_are_at_least_single_precision(dtype):
    # A scaled error of 500 squared is beyond float16.
    values = _values(_step(dtype))
    assert all(value.dtype == (np.float64 if dtype == np.float64 else np.float32) for value in values.values())
    assert values["squared_local_error"] == pytest.approx(500**2 * 0.5, rel=1e-3)


def test_attempt_that_may_yet_be_rejected_gives_nan_as_its_value_where_it_is_not_finite():
    nan = np.full((3, 2), np.nan)
    for broken in ({"y1": nan}, {"error": nan}, {"error": nan * np.inf}, {"y0": nan}):
        with np.errstate(invalid="ignore"):  # NumPy says that a NaN comes up, and it is to come up
            values = _values(_step(accepted=None, **broken))
        assert all(np.isnan(value) for value in values.values()), broken
    good = _values(_step(accepted=None))
    assert good == _values(_step())
    with np.errstate(invalid="ignore"):
        rejected = _values(_step(), _step(accepted=np.asarray(False), error=nan))
    assert rejected == _values(_step())


def test_step_of_no_length_weighs_nothing():
    values = _values(_step(t1=0.0))
    assert all(np.isfinite(value) for value in values.values())
    assert values["local_error"] == 0


def test_nan_of_an_accepted_step_stays_a_nan():
    assert all(np.isnan(_values(_step(y1=np.full((3, 2), np.nan)))[name]) for name in ("local_error",))


class TestTorch:
    @pytest.fixture(autouse=True)
    def _frameworks(self):
        self.torch = pytest.importorskip("torch")
        self.torchdiffeq = pytest.importorskip("torchdiffeq")
        self.torchsde = pytest.importorskip("torchsde")

    def solve(self, field=None, y0=(1.0, 0.5), times=(0.0, 1.0), dtype="float64", method="dopri5", **options):
        torch = self.torch
        self.weight = torch.tensor(1.3, dtype=getattr(torch, dtype), requires_grad=True)
        field = (lambda t, y: -self.weight * y) if field is None else field
        tolerance = {"rtol": options.pop("tolerance", 1e-3), "atol": 1e-3}
        with tap.observe(EVERY, trace=True) as seen:
            self.torchdiffeq.odeint(
                field,
                torch.as_tensor(y0, dtype=getattr(torch, dtype)),
                torch.tensor(times, dtype=torch.float64),
                method=method,
                options=options,
                **tolerance,
            )
        return seen

    def finite(self, seen):
        (gradient,) = self.torch.autograd.grad(seen.penalty, self.weight)
        return bool(self.torch.isfinite(gradient)) and all(map(self.torch.isfinite, seen.values.values()))

    def test_zero_slopes(self):
        seen = self.solve(lambda t, y: 0 * self.weight * y)
        assert {name: value.item() for name, value in seen.values.items()} == ZERO
        assert self.finite(seen)

    def test_zero_error_of_slopes_that_are_not_zero(self):
        seen = self.solve(lambda t, y: self.weight * self.torch.ones_like(y), first_step=1.0)
        assert self.finite(seen)
        assert seen.values["kinetic_energy"] > 0

    @pytest.mark.parametrize("how", ["embedded", "doubled", "sde"])
    @fault("a part of the state is always zero, and the `atol` of a term is 0", "its 0/0 is 0, and so is the gradient")
    def test_zero_error_over_a_zero_scale(self, how):
        torch, found = self.torch, []
        y0, times = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
        weight = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

        class SDE(torch.nn.Module):
            noise_type, sde_type = "diagonal", "stratonovich"

            def f(self, t, y):
                return -weight * y**3

            def g(self, t, y):
                return 0.1 * y

        for atol in (0.0, 1e-30):
            estimate = "doubling" if how == "doubled" else "solver"
            with tap.observe(tap.LocalError(rtol=1e-3, atol=atol, estimate=estimate)) as seen:
                if how == "sde":
                    path = self.torchsde.BrownianInterval(0.0, 1.0, (1, 3), dtype=torch.float64, entropy=3)
                    self.torchsde.sdeint(SDE(), y0, times, bm=path, method="heun", adaptive=True, dt=0.1, atol=1e-4)
                else:
                    method = {"method": "rk4", "options": {"step_size": 0.1}} if how == "doubled" else {"rtol": 1e-3}
                    self.torchdiffeq.odeint(lambda t, y: -weight * y**3, y0, times, **method)
            found.append((seen.penalty.item(), torch.autograd.grad(seen.penalty, weight)[0].item()))
        assert found[0] == pytest.approx(found[1], rel=1e-12)
        assert all(map(np.isfinite, found[0]))

    def test_nan_is_torchdiffeqs_to_report(self):
        with pytest.raises(AssertionError, match="underflow in dt"):
            self.solve(lambda t, y: float("nan") * y)

    def test_infinite_step_is_torchdiffeqs_to_report(self):
        with pytest.raises(AssertionError, match="underflow in dt"):
            self.solve(first_step=float("inf"))

    def test_one_step(self):
        seen = self.solve(tolerance=1e3, first_step=1.0)
        assert seen.stats.accepted == 1
        assert self.finite(seen)

    def test_one_time_takes_no_step(self):
        seen = self.solve(times=(1.0,))
        assert seen.stats.accepted == 0
        assert {name: value.item() for name, value in seen.values.items()} == ZERO

    def test_same_times_are_torchdiffeqs_to_report(self):
        with pytest.raises(AssertionError, match="strictly increasing"):
            self.solve(times=(1.0, 1.0))

    def test_no_elements_are_torchdiffeqs_to_report(self):
        with pytest.raises(AssertionError, match="underflow in dt"):
            self.solve(y0=np.zeros((0, 3)))

    def test_no_dimensions(self):
        assert self.finite(self.solve(y0=1.0))

    @pytest.mark.parametrize("method", ["dopri5", "bosh3"])
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_is_measured_in_single(self, dtype, method):
        seen = self.solve(dtype=dtype, method=method, tolerance=1e-1, first_step=0.25)
        assert seen.penalty.dtype == self.torch.float32
        assert self.finite(seen)

    def test_nan_and_no_elements_are_torchsdes_to_report(self):
        torch = self.torch

        class SDE:
            noise_type, sde_type = "diagonal", "stratonovich"

            def __init__(self, factor):
                self.f = lambda t, y: factor * y
                self.g = lambda t, y: 0.1 * y

        times = torch.tensor([0.0, 1.0], dtype=torch.float64)
        for factor, rows in ((float("nan"), 2), (1.0, 0)):
            y0 = torch.ones(rows, 2, dtype=torch.float64)
            with pytest.raises(AssertionError, match="Found nans"), tap.observe(EVERY):
                self.torchsde.sdeint(SDE(factor), y0, times, method="heun", adaptive=True)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_sde_without_noise_is_measured_in_single(self, dtype):
        torch = self.torch
        weight = torch.tensor(1.3, requires_grad=True)

        class SDE:
            noise_type, sde_type = "diagonal", "stratonovich"
            f = staticmethod(lambda t, y: -weight.to(y.dtype) * y)
            g = staticmethod(lambda t, y: 0 * y)

        dtype = getattr(torch, dtype)
        with tap.observe(EVERY) as seen:
            self.torchsde.sdeint(
                SDE(),
                torch.ones(2, 2, dtype=dtype),
                torch.tensor([0.0, 1.0], dtype=dtype),
                method="heun",
                dt=0.25,
                adaptive=True,
                rtol=0.1,
                atol=0.1,
            )
        assert seen.penalty.dtype == torch.float32
        (gradient,) = torch.autograd.grad(seen.penalty, weight)
        assert torch.isfinite(gradient)


class TestDiffrax:
    @pytest.fixture(autouse=True)
    def _frameworks(self):
        self.jax = pytest.importorskip("jax")
        self.diffrax = pytest.importorskip("diffrax")

    def solve(self, field=None, y0=(1.0, 0.5), t1=1.0, dt0=0.5, controller=None, term=EVERY, dtype=None, **options):
        diffrax, jnp = self.diffrax, self.jax.numpy
        field = (lambda t, y, weight: -weight * y) if field is None else field
        controller = diffrax.PIDController(rtol=1e-3, atol=1e-3) if controller is None else controller
        start = jnp.asarray(y0, dtype=dtype)

        def penalty(weight):
            with tap.observe(term) as seen:
                solution = diffrax.diffeqsolve(
                    diffrax.ODETerm(field),
                    diffrax.Dopri5(),
                    0.0,
                    t1,
                    dt0,
                    start,
                    weight,
                    stepsize_controller=controller,
                    **({"max_steps": 64} | options),
                )
            return seen.penalty, (seen.values, seen.stats, solution)

        (_, (values, stats, solution)), gradient = self.jax.value_and_grad(penalty, has_aux=True)(1.3)
        return {name: float(value) for name, value in values.items()}, gradient, stats, solution

    def test_zero_slopes(self):
        values, gradient, _, _ = self.solve(lambda t, y, weight: 0 * weight * y)
        assert values == ZERO
        assert gradient == 0

    def test_no_time_takes_no_step(self):
        values, gradient, stats, _ = self.solve(t1=0.0)
        assert (values, float(gradient), int(stats.accepted)) == (ZERO, 0.0, 0)

    def test_no_elements(self):
        values, gradient, _, _ = self.solve(y0=np.zeros((0, 3)))
        assert (values, float(gradient)) == (ZERO, 0.0)

    def test_no_dimensions(self):
        values, gradient, _, _ = self.solve(y0=1.0)
        assert min(values.values()) > 0
        assert np.isfinite(gradient)

    @pytest.mark.parametrize(
        ("options", "accepted"),
        [
            ({"controller": "wide", "dt0": 1.0}, 1),  # one step
            ({"dt0": np.inf}, 2),  # an infinite step, which diffrax cuts at the end
        ],
    )
    def test_long_steps(self, options, accepted):
        if options.get("controller") == "wide":
            options = options | {"controller": self.diffrax.PIDController(rtol=1e3, atol=1e3)}
        values, gradient, stats, _ = self.solve(**options)
        assert int(stats.accepted) == accepted
        assert np.isfinite(gradient)
        assert min(values.values()) > 0

    def test_no_end_but_a_steady_state(self):
        event = self.diffrax.Event(self.diffrax.steady_state_event(rtol=1e-3, atol=1e-3))
        values, gradient, _, solution = self.solve(
            lambda t, y, weight: 1 - weight * y, t1=np.inf, event=event, y0=(0.1, 0.5)
        )
        assert np.isfinite(solution.ts).all()
        assert np.isfinite(gradient)
        assert min(values.values()) > 0

    def test_nan_that_nothing_rejects_is_nan_in_the_solution_and_in_every_value(self):
        grid = self.diffrax.StepTo(self.jax.numpy.linspace(0, 1, 4))
        term = sum((tap.LocalError(rtol=1e-3, atol=1e-3), tap.Stiffness(), tap.KineticEnergy()), start=0)
        late = lambda t, y, weight: self.jax.numpy.where(t > 0.5, np.nan, -weight) * y  # noqa: E731  # one field
        values, _, _, solution = self.solve(late, controller=grid, dt0=None, term=term)
        assert np.isnan(solution.ys).all()
        assert all(np.isnan(value) for value in values.values())

    def test_nan_that_is_rejected_until_the_steps_run_out_is_diffraxs_to_report(self):
        with pytest.raises(Exception, match="maximum number of solver steps"):
            self.solve(lambda t, y, weight: np.nan * weight * y)

    def test_half_precision_is_measured_in_single(self):
        grid = self.diffrax.StepTo(np.linspace(0, 1, 4, dtype=np.float16))
        jnp = self.jax.numpy
        for dtype in (jnp.float16, jnp.bfloat16):
            with tap.observe(tap.Stiffness() + tap.LocalError(rtol=0.1, atol=0.1)) as seen:
                solution = self.diffrax.diffeqsolve(
                    self.diffrax.ODETerm(lambda t, y, args: (-y).astype(y.dtype)),
                    self.diffrax.Dopri5(),
                    dtype(0),
                    dtype(1),
                    None,
                    jnp.ones(2, dtype),
                    stepsize_controller=self.diffrax.StepTo(jnp.asarray(grid.ts, dtype)),
                )
            assert solution.ys.dtype == dtype
            assert seen.penalty.dtype == np.float32
            assert np.isfinite(seen.penalty)
