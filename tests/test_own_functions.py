"""A solve inside somebody's own `torch.autograd.Function`, such as a vendored adjoint: told, never silently zero."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")
torchsde = pytest.importorskip("torchsde")

from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from solvertap import errors
from tests.faults import fault

TIMES = torch.tensor([0.0, 1.0], dtype=torch.float64)


class Field(torch.nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([[1.2, -0.4], [0.7, 0.5]], dtype=torch.float64))

    def forward(self, t, y):
        return torch.tanh(y @ self.w)

    f = forward

    def g(self, t, y):
        return 0.1 * y


def _ode(field, y0, times=TIMES):
    return odeint(field, y0, times, rtol=1e-5, atol=1e-5)


def _sde(field, y0, times=TIMES):
    return torchsde.sdeint(field, y0, times, dt=0.1, adaptive=True, rtol=1e-2, atol=1e-2, method="heun")


class Adjoint(torch.autograd.Function):
    """The continuous adjoint, written once more."""

    @staticmethod
    def forward(ctx, solve, field, y0, *parameters):
        ctx.field = field
        with torch.no_grad():
            y1 = solve(field, y0)[-1]
        ctx.save_for_backward(y1, *parameters)
        return y1

    @staticmethod
    def backward(ctx, cotangent):
        y1, *parameters = ctx.saved_tensors

        def augmented(t, state):
            y, a, *_ = state
            with torch.enable_grad():
                y = y.detach().requires_grad_()
                slope = ctx.field(t, y)
                products = torch.autograd.grad(slope, (y, *parameters), -a)
            return slope.detach(), *products

        start = (y1, cotangent, *map(torch.zeros_like, parameters))
        _, a, *gradients = odeint(augmented, start, TIMES.flip(0), rtol=1e-5, atol=1e-5)
        return None, None, a[-1], *(x[-1] for x in gradients)


class Context(Adjoint):
    """The same, its context set apart."""

    @staticmethod
    def forward(solve, field, y0, *parameters):
        with torch.no_grad():
            return solve(field, y0)[-1]

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.field = inputs[1]
        ctx.save_for_backward(output, *inputs[3:])


def _apply(function, solve, field):
    y0 = torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)
    return function.apply(solve, field, y0, *field.parameters())


@pytest.mark.parametrize("function", [Adjoint, Context])
@pytest.mark.parametrize(("solve", "instead"), [(_ode, "`odeint`"), (_sde, "`sdeint`")])
@pytest.mark.parametrize("term", [tap.LocalError(), tap.LocalSample(tap.LocalError())])
@fault(
    "a solve inside an `autograd.Function` of somebody's own (a vendored adjoint), under `regularize`",
    "told by the function's name, with the remedy; its solves are counted as training and adjoint",
)
def test_training_inside_somebodys_own_function_is_told(function, solve, instead, term):
    (bare,) = (
        torch.autograd.grad(_apply(function, solve, field := Field()).sum(), field.w) if solve is _ode else (None,)
    )
    with tap.regularize(term, passes="all") as regularizer:
        (gradient,) = torch.autograd.grad(_apply(function, solve, field := Field()).sum(), field.w)
    assert bare is None or torch.equal(gradient, bare)
    (reason,) = regularizer.left_out
    assert f"`{function.__name__}`" in reason
    assert instead in reason
    assert reason.count(". ") <= 2  # three sentences at most
    assert {kind: stats.solves for kind, stats in regularizer.stats.items()} == {"training": 1, "adjoint": 1}


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_evaluation_inside_somebodys_own_function_is_one(around):
    with tap.regularize(tap.LocalError()) as regularizer, around():
        _apply(Adjoint, _ode, Field())
    assert list(regularizer.stats) == ["evaluation"]
    assert not regularizer.left_out
    frozen = Field().requires_grad_(False)
    with tap.regularize(tap.LocalError()) as regularizer:
        _apply(Adjoint, _ode, frozen)
    assert list(regularizer.stats) == ["evaluation"]


def test_observed_penalty_inside_somebodys_own_function_is_refused_by_its_name():
    for function in (Adjoint, Context):
        with (
            pytest.raises(errors.ContinuousAdjointError, match=f"`{function.__name__}`"),
            tap.observe(tap.LocalError()),
        ):
            _apply(function, _ode, Field())
    with pytest.raises(errors.GradientDisabledError), torch.no_grad(), tap.observe(tap.LocalError()):
        _apply(Adjoint, _ode, Field())


def test_observed_sample_inside_somebodys_own_function_has_the_gradient_that_it_has_outside():
    found = []
    for solve in (
        lambda field: _apply(Adjoint, _ode, field),
        lambda field: _ode(field, torch.tensor([[1.0, -0.5], [0.3, 0.8]], dtype=torch.float64)),
    ):
        field = Field()
        with tap.observe(tap.LocalSample(tap.LocalError()), key=lambda n: 0.4) as seen:
            solve(field)
        found.append((seen.penalty.item(), torch.autograd.grad(seen.penalty, field.w)[0]))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_function_deep_below_a_loop_of_the_scripts_own_is_found():
    def deep(field, y0, n=15):
        return deep(field, y0, n - 1) if n else _ode(field, y0)

    with tap.regularize(tap.LocalError()) as regularizer:
        _apply(Adjoint, deep, Field())
    assert len(regularizer.left_out) == 1


def test_refusal_under_an_adjoint_names_what_a_library_on_top_calls_it():
    with (
        pytest.raises(errors.ContinuousAdjointError, match=r"use `odeint` \(`adjoint=False`"),
        tap.observe(tap.LocalError()),
    ):
        odeint_adjoint(Field(), torch.zeros(2, dtype=torch.float64) + 1, TIMES)
