"""The derivatives that are written out, against those that the frameworks find by themselves."""

from contextlib import contextmanager, nullcontext

import pytest

import solvertap as tap
from solvertap import adapting, errors
from solvertap_torch import TorchArrays
from tests.faults import fault

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint

# Two ways to the same derivative, each with its roundings; errors are differences of nearly equal numbers.
RELATIVE = 1e-9

TERMS = {
    "local_error": tap.LocalError(),
    "raw": tap.LocalError(scale="raw", reduce="max"),
    "squared": tap.SquaredLocalError(reduce="mean"),
    "own tolerances": tap.LocalError(rtol=1e-3, atol=1e-2),
    "stiffness": tap.Stiffness(stability_size="solver", weigh_by_step=True),
    "both": 3 * tap.LocalError() + tap.Stiffness(reduce="max"),
}


@contextmanager
def told_nothing(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TorchArrays, "analytic", adapting.Adapter.analytic)
        patch.setattr(TorchArrays, "steps_together", adapting.Adapter.steps_together)
        yield


def _weights():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, generator=generator, dtype=torch.float64).requires_grad_()


def _solve(term, field=None, method="dopri5", state=None, times=(1.0, 0.0)):
    weights = _weights()
    y0 = torch.tensor([[1.0, -0.5, 0.3], [0.0, 0.8, -1.2]], dtype=torch.float64) if state is None else state
    field = field or (lambda w, t, y: 4 * torch.tanh(y @ w.to(y.dtype)) + torch.sin(20 * t.to(y.real.dtype)))
    with tap.observe(term) as seen:
        odeint(
            lambda t, y: field(weights, t, y),
            y0,
            torch.tensor(times, dtype=torch.float64),
            rtol=1e-5,
            atol=1e-5,
            method=method,
            options={"first_step": 0.5},
        )
    return weights, seen


def _gradients(term, **kwargs):
    """The penalty, its gradient, and the gradient of the square of that."""
    weights, seen = _solve(term, **kwargs)
    assert seen.stats.accepted > 2
    assert seen.stats.rejected > 0
    (first,) = torch.autograd.grad(seen.penalty, weights, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), weights)
    return seen.penalty.detach(), first.detach(), second


@pytest.mark.parametrize("method", ["dopri5", "dopri8"])
@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_derivative_that_is_written_out_is_the_one_that_torch_finds(term, method, monkeypatch):
    found = _gradients(term, method=method)
    with told_nothing(monkeypatch):
        expected = _gradients(term, method=method)
    for a, b, looser in zip(found, expected, (1, 1, 10), strict=True):
        assert torch.norm(a - b) <= looser * RELATIVE * torch.norm(b)


def test_steps_of_several_tableaus_are_measured_each_by_its_own(monkeypatch):
    def value():
        adapter = type(
            "Own", (TorchArrays,), {"name": "own", "module": "torch", "attach": lambda self, patches: None}
        )()
        generator, zero = torch.Generator().manual_seed(0), torch.zeros(3, dtype=torch.float64)
        with tap.observe(tap.Stiffness()) as seen, adapting.open_solve(adapter, like=zero) as solve:
            for i in range(6):
                y0, y1, *slopes = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
                tableau = adapting.Tableau(c=(0, 1, 1), b=(0, 1, 0), a=((), (1,), (0.2 * (1 + i // 2), 0.5)))
                stages = adapting.Stages(slopes=slopes, tableau=tableau)
                solve.step(adapting.Step(t0=float(i), t1=i + 1.0, y0=y0, y1=y1, error=y1, stages=stages))
        return seen.penalty.item()

    together = value()
    with told_nothing(monkeypatch):
        assert value() == pytest.approx(together, rel=1e-12)


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_steps_measured_together_are_those_measured_one_by_one(term, monkeypatch):
    together = []
    analytic = TorchArrays.analytic
    monkeypatch.setattr(TorchArrays, "analytic", lambda self, *a: together.append(len(a[1])) or analytic(self, *a))
    found = _gradients(term)
    monkeypatch.setattr(TorchArrays, "steps_together", adapting.Adapter.steps_together)
    expected = _gradients(term)
    assert max(together) > 2
    assert together[-1] == 1
    for a, b in zip(found, expected, strict=True):
        assert torch.norm(a - b) <= RELATIVE * torch.norm(b)


def test_complex_state_has_the_derivative_that_torch_finds(monkeypatch):
    state = torch.tensor([[1.0 + 0.5j, -0.5, 0.3j]], dtype=torch.complex128)
    found = _gradients(TERMS["both"], state=state)
    with told_nothing(monkeypatch):
        expected = _gradients(TERMS["both"], state=state)
    for a, b, looser in zip(found, expected, (1, 1, 10), strict=True):
        assert torch.norm(a - b) <= looser * RELATIVE * torch.norm(b)


def test_state_of_no_dimensions_has_the_derivative_that_torch_finds(monkeypatch):
    def gradients():
        return _gradients(
            TERMS["both"],
            field=lambda w, t, y: 4 * torch.tanh(w.sum() * y) + torch.sin(20 * t),
            state=torch.tensor(0.3, dtype=torch.float64),
        )

    found = gradients()
    with told_nothing(monkeypatch):
        expected = gradients()
    for a, b, looser in zip(found, expected, (1, 1, 10), strict=True):
        assert torch.norm(a - b) <= looser * RELATIVE * torch.norm(b)


def test_derivative_has_all_its_digits_where_a_matrix_product_would_lose_some():
    def gradient(context):
        weights = _weights().detach().float().requires_grad_()
        with tap.observe(TERMS["both"]) as seen:
            odeint(
                lambda t, y: 4 * torch.tanh((y.unsqueeze(-1) * weights).sum(-2)), torch.ones(2, 3), torch.arange(2.0)
            )
        with context:
            return torch.autograd.grad(seen.penalty, weights)[0]

    whole = gradient(nullcontext())
    assert torch.norm(gradient(torch.autocast("cpu", torch.bfloat16)) - whole) <= 1e-5 * torch.norm(whole)


def test_states_of_several_tensors_are_left_to_torch():
    class Own(TorchArrays):
        name = "own"
        module = "torch"

        def attach(self, patches):
            pass

    y0, y1 = ((torch.ones(2) * x, torch.ones(3) * x) for x in (1.0, 2.0))
    error = tuple((x * 1e-3).requires_grad_() for x in y1)
    with tap.observe(tap.LocalError(weigh_by_step=False)) as seen, adapting.open_solve(Own(), like=y0) as solve:
        t0, t1 = torch.tensor(0.0), torch.tensor(0.5)
        solve.step(tap.Step(t0=t0, t1=t1, y0=y0, y1=y1, error=error, rtol=1e-3, atol=0.0))
    assert seen.penalty.item() == pytest.approx(1.0)
    # sqrt(mean (e / s)^2) by e is e / (5 s^2 E), with s = 2e-3 and e = s.
    for x in torch.autograd.grad(seen.penalty, error):
        assert torch.allclose(x, torch.full_like(x, 1 / (5 * 2e-3)))


def test_buffer_that_the_field_writes_to_again_is_read_as_it_was():
    def into_a_buffer(w, t, y):
        buffer.copy_(4 * torch.tanh(y @ w) + torch.sin(20 * t))
        return buffer

    buffer = torch.zeros(2, 3, dtype=torch.float64)
    plain = _solve(TERMS["both"])[1]
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        buffered = _solve(TERMS["both"], field=into_a_buffer)[1]
        values = {name: value.item() for name, value in buffered.values.items()}
    assert values == pytest.approx({name: value.item() for name, value in plain.values.items()}, rel=1e-12)


def test_slope_of_a_buffer_is_what_it_was_when_a_later_step_is_rejected():
    def solve():
        weights, buffer = _weights(), torch.zeros(2, 3, dtype=torch.float64)

        def field(t, y):
            return buffer.copy_(4 * torch.tanh(y @ weights) + 200 * torch.relu(t - 0.5))

        state, times = torch.ones(2, 3, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
        return odeint(field, state, times, rtol=1e-5, atol=1e-5, options={"first_step": 1e-3})

    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        bare = solve()
        with tap.observe(TERMS["both"], trace=True) as seen:
            observed = solve()
        assert seen.trace.accepted[0]
        assert not seen.trace.accepted.all()
        assert torch.equal(observed, bare)


class Cubing:
    def measure(self, step):
        return super().measure(step) ** 3


class CubedByMixin(Cubing, tap.LocalError):
    pass


class CubedByItself(tap.LocalError):
    def measure(self, step):
        return super().measure(step) ** 3


@fault(
    "a term, or a mixin before it, measures something else than its base class", "it does not inherit the derivative"
)
@pytest.mark.parametrize("cubed", [CubedByItself(), CubedByMixin()], ids=["itself", "mixin"])
def test_term_that_measures_another_thing_does_not_inherit_the_derivative(monkeypatch, cubed):
    found = _gradients(cubed)
    with told_nothing(monkeypatch):
        expected = _gradients(cubed)
    for a, b in zip(found, expected, strict=True):
        assert torch.norm(a - b) <= RELATIVE * torch.norm(b)
    own = tap.term(lambda step: tap.local_error(step) ** 3, name="own", weigh_by_step=True)
    assert found[0].item() == pytest.approx(_gradients(own)[0].item(), rel=1e-12)
    assert tap.LocalError.has_gradient is not type(cubed).has_gradient


def test_zero_error_and_zero_stiffness_have_zero_derivatives():
    weights, seen = _solve(TERMS["both"], field=lambda w, t, y: 0 * (y @ w) + 1)
    (gradient,) = torch.autograd.grad(seen.penalty, weights)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("states", [1, 2, 3], ids=["local_error", "stiffness", "both"])
def test_sums_of_slopes_are_kept_and_not_the_slopes(states):
    """One for the error and two for the stiffness, where the field keeps none of its results."""
    term = [tap.LocalError(), tap.Stiffness(), TERMS["both"]][states - 1]
    state = torch.randn(512, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def kept(term):
        storages = {}

        def pack(x):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            _, seen = _solve(term, lambda w, t, y: torch.tanh(9 * torch.sin(9 * t) + y @ w) @ w, state=state)
        return sum(storage.nbytes() for storage in storages.values()), seen

    bare, _ = kept(tap.term(lambda step: 0 * step.t0, name="nothing"))
    told, seen = kept(term)
    assert seen.stats.accepted > 2
    assert told - bare <= 1.01 * states * seen.stats.accepted * state.nbytes


def test_row_that_a_term_does_not_name_is_refused():
    class Unnamed(tap.Stiffness):
        def rows(self, step):
            return ()

    with pytest.raises(errors.InvalidInputError, match="`rows` do not name"):
        _solve(Unnamed())
