import numpy as np
import pytest

from solvertap import Step, errors, local_error, stiffness
from solvertap.adapting import Stages, Tableau
from solvertap.steps.arithmetic import mean_square, safe_ratio, safe_sqrt
from tests import numpy_solver
from tests.oracle import rms, scaled_error


def _step(**changes):
    rng = np.random.default_rng(0)
    y0, y1, error = rng.normal(size=(3, 4, 2))
    given = {"t0": 0.0, "t1": 0.1, "y0": y0, "y1": y1, "error": 1e-3 * error, "rtol": 1e-3, "atol": 1e-4}
    return Step(**(given | changes))


def test_local_error_is_the_number_the_solver_compares_with_one():
    step = _step()
    assert local_error(step) == pytest.approx(scaled_error(step.error, step.y0, step.y1, 1e-3, 1e-4), rel=1e-15)


def test_raw_local_error_knows_no_tolerance():
    step = _step(rtol=None, atol=None)
    assert local_error(step, scale="raw") == pytest.approx(rms(step.error), rel=1e-15)


def test_tolerances_of_the_term_replace_those_of_the_solve():
    step = _step()
    expected = scaled_error(step.error, step.y0, step.y1, 1e-2, 0.0)
    assert local_error(step, rtol=1e-2, atol=0.0) == pytest.approx(expected, rel=1e-15)


def test_second_solution_stands_for_the_error():
    step = _step()
    by_solution = _step(error=None, y1_embedded=step.y1 - step.error)
    assert local_error(by_solution) == pytest.approx(local_error(step), rel=1e-12)


def test_parts_of_a_state_weigh_by_their_elements():
    rng = np.random.default_rng(1)
    whole = rng.normal(size=6)
    split = (whole[:1], whole[1:].reshape(5, 1))
    assert mean_square(split) == pytest.approx(rms(whole) ** 2, rel=1e-15)
    step = _step(y0=split, y1=split, error=split, rtol=0.0, atol=1.0)
    assert local_error(step) == pytest.approx(rms(whole), rel=1e-15)


def test_norm_of_the_solve_is_used_and_fed_no_zeros():
    fed = []

    def largest(x):
        fed.append(x)
        return np.max(np.abs(x))

    step = _step(norm=largest)
    assert local_error(step, scale="raw") == np.max(np.abs(step.error))
    assert local_error(_step(norm=largest, error=np.zeros((4, 2))), scale="raw") == 0
    assert np.all(fed[-1] == 1)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_error_has_a_real_size(dtype):
    error = np.array([3 + 4j, 0], dtype=dtype)
    found = local_error(_step(y0=error, y1=error, error=error), scale="raw")
    assert found.dtype == np.finfo(dtype).dtype
    assert found == pytest.approx(5 / np.sqrt(2), rel=1e-6)


def test_stiffness_from_stages_is_the_quotient_of_the_rebuilt_states():
    matrix = np.array([[-3.0, 1.0], [0.5, -20.0]])
    t, y, h = 0.3, np.array([1.0, 2.0]), 0.05
    field = lambda t, y: np.tanh(matrix @ y) + t  # noqa: E731  # a one-line field
    y1, error, slopes = numpy_solver.rk_step(field, t, y, h)
    before = y + h * sum(a * k for a, k in zip(numpy_solver.A[5], slopes[:5], strict=True))
    expected = rms(field(t + h, y1) - field(t + h, before)) / rms(y1 - before)
    tableau = numpy_solver.TABLEAU
    for slopes_as_stored in (slopes, h * slopes, list(slopes)):
        stages = Stages(slopes=slopes_as_stored, tableau=tableau)
        step = Step(t0=t, t1=t + h, y0=y, y1=y1, error=error, stages=stages)
        assert stiffness(step) == pytest.approx(expected, rel=1e-9)


def test_stiffness_of_a_linear_field_is_at_most_its_norm_and_exact_for_a_multiple_of_one():
    step = Step(t0=0.0, t1=1.0, y0=np.ones(3), y1=np.ones(3), error=np.full(3, 0.1), field=lambda t, y: -7.0 * y)
    assert stiffness(step) == pytest.approx(7.0, rel=1e-12)


def test_everything_is_zero_at_zero_and_nan_at_nan():
    zero, nan = np.asarray(0.0), np.asarray(np.nan)
    assert safe_sqrt(zero) == 0
    assert safe_ratio(zero, zero) == 0
    assert safe_ratio(np.asarray(1.0), zero) == 0
    assert np.isnan(safe_sqrt(nan))
    assert np.isnan(safe_ratio(np.asarray(1.0), nan))
    assert local_error(_step(error=np.zeros((4, 2)))) == 0
    assert local_error(_step(y0=np.zeros(0), y1=np.zeros(0), error=np.zeros(0))) == 0


def test_error_over_a_zero_scale_is_infinite_unless_it_is_zero():
    zeros = np.zeros((4, 2))
    assert local_error(_step(y0=zeros, y1=zeros, error=zeros, atol=0.0)) == 0
    with np.errstate(divide="ignore"):  # NumPy says that it divides by zero
        assert local_error(_step(y0=zeros, y1=zeros, atol=0.0)) == np.inf


@pytest.mark.parametrize(
    ("measure", "step", "refusal"),
    [
        (local_error, _step(error=None), errors.NoEstimateError),
        (local_error, _step(rtol=None), errors.NoToleranceError),
        (stiffness, _step(), errors.NoEstimateError),
    ],
    ids=["no estimate", "no tolerance", "no stiffness"],
)
def test_missing_estimate_is_refused(measure, step, refusal):
    with pytest.raises(refusal):
        measure(step)


def test_two_stages_at_the_end_are_recognised():
    gap = numpy_solver.TABLEAU.end_gaps[1]
    assert gap is not None
    assert sum(gap) == pytest.approx(0, abs=1e-14)
    assert Tableau(c=(0, 1 / 2, 1), b=(1 / 6, 2 / 3, 1 / 6), a=((), (1 / 2,), (-1, 2))).end_gaps is None
