"""A batch that torchode solves: every sample has a time span of its own, and some steps of each are rejected."""

import torch
import torchode

WEIGHTS = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
STARTS = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
ENDS = torch.tensor([1.6, 1.4, 1.2, 1.0, 0.45], dtype=torch.float64)
METHODS = {"dopri5": torchode.Dopri5, "tsit5": torchode.Tsit5, "heun": torchode.Heun}
# Of a low order; it would take hundreds of steps.
TOLERANCE = {"dopri5": 1e-6, "tsit5": 1e-6, "heun": 1e-2}


class Field(torch.nn.Module):
    """A random tanh field with a kink in its forcing."""

    def __init__(self, weights=WEIGHTS):
        super().__init__()
        self.calls = 0
        self.weights = torch.nn.Parameter(weights.detach().clone())

    def forward(self, t, y):
        self.calls += 1
        kink = 20 * torch.relu(t - 0.5)
        return 4 * torch.tanh(y @ self.weights.reshape(3, 3)) + (kink[:, None] if kink.ndim else kink) - y


def integral(term, tolerance):
    """A controller whose tolerances are not rounded to torch's default dtype."""
    return exact(torchode.IntegralController(tolerance, tolerance, term=term), tolerance)


def pid(term, tolerance):
    return exact(torchode.PIDController(tolerance, tolerance, 0.2, 0.5, 0.0, term=term), tolerance)


def exact(controller, tolerance):
    controller.rtol = controller.atol = torch.tensor(tolerance, dtype=torch.float64)
    return controller


def spans(backwards=False, evaluated=False, which=slice(None)):
    """The problem of some samples."""
    start, end = (x[which] for x in ((ENDS, STARTS) if backwards else (STARTS, ENDS)))
    fractions = torch.linspace(0, 1, 4, dtype=torch.float64)
    times = start[:, None] + (end - start)[:, None] * fractions if evaluated else None
    if times is not None:
        times[:, -1] = end  # rounded beyond it, it would never be evaluated
    return torchode.InitialValueProblem(Y0[which], start, end, times)


def solve(field, method="dopri5", controller=integral, differentiated=True, first=0.5, tolerance=None, **problem):
    """The solution of the batch."""
    term = torchode.ODETerm(field)
    adjoint = torchode.AutoDiffAdjoint(
        METHODS[method](term),
        controller(term, TOLERANCE[method] if tolerance is None else tolerance),
        backprop_through_step_size_control=differentiated,
    )
    spanned = spans(**problem)
    sign = -1 if problem.get("backwards") else 1
    dt = None if first is None else torch.full_like(spanned.t_start, sign * first)
    return adjoint.solve(spanned, dt0=dt)


def gradient(value, field):
    return torch.autograd.grad(value, field.weights, retain_graph=True)[0]
