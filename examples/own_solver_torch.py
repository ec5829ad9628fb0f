"""An adapter for a solver of your own, in torch: a Python loop around a Runge-Kutta pair written by hand.

The solver knows nothing of solvertap and is not edited. The adapter patches the loop and the function that it calls
for every step. It has no state of its own between the two: the loop passes on the field, which identifies the solve, in
threads as well.
"""

import sys

import torch

import solvertap as tap
from solvertap import adapting
from solvertap.errors import GradientDisabledError
from solvertap_torch import TorchArrays


# --- the solver -----------------------------------------------------------------------------------------------
def bogacki_shampine(field, t, y, h):
    k1 = field(t, y)
    k2 = field(t + h / 2, y + h / 2 * k1)
    k3 = field(t + 3 * h / 4, y + 3 * h / 4 * k2)
    y1 = y + h * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
    k4 = field(t + h, y1)
    return y1, h * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)


def is_accepted(error, y0, y1, tolerance):
    ratio = torch.sqrt(torch.mean((error / (tolerance + tolerance * torch.maximum(y0.abs(), y1.abs()))) ** 2))
    return bool(ratio <= 1), float(ratio.detach())


def integrate(field, y, t0, t1, tolerance=1e-4, h=0.5):
    t = t0
    while t < t1:
        h = min(h, t1 - t)
        y1, error = bogacki_shampine(field, t, y, h)
        accepted, ratio = is_accepted(error, y, y1, tolerance)
        t, y = (t + h, y1) if accepted else (t, y)
        h *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-8) ** (-1 / 3)))
    return y


# --- its adapter -----------------------------------------------------------------------------------------------
class Tapped:
    """The field of one observed solve. The loop passes it to every step, so it holds the state of the solve."""

    def __init__(self, field, solve, tolerance):
        self.field, self.solve, self.tolerance, self.attempt = field, solve, tolerance, None

    def __call__(self, t, y):
        self.solve.counts.evaluations += 1
        with tap.unobserved():  # a solve inside the field is part of the field
            return self.field(t, y)

    def settle(self, accepted):
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            tolerances = dict(rtol=self.tolerance, atol=self.tolerance)
            self.solve.step(tap.Step(**attempt, **tolerances, field=self, accepted=accepted))


class OwnSolver(TorchArrays):
    name = "own-solver-torch"
    module = __name__

    def attach(self, patches):
        self.patches = patches
        patches.replace(sys.modules[__name__], "integrate", self.tapped_integrate)
        patches.replace(sys.modules[__name__], "bogacki_shampine", self.tapped_pair)

    def tapped_integrate(self, original):
        def integrate(field, y, t0, t1, tolerance=1e-4, h=0.5):
            solve = adapting.open_solve(self, like=y)  # None unless somebody observes
            if solve is None:
                return original(field, y, t0, t1, tolerance, h)
            if solve.terms and not torch.is_grad_enabled():
                solve.refuse(GradientDisabledError("A penalty was asked under `no_grad`, where it has no gradient."))
            undone = self.patches.undone
            with solve:
                tapped = Tapped(field, solve, tolerance)
                y = original(tapped, y, t0, t1, tolerance, h)
                tapped.settle(accepted=True)  # the loop ends with a step that it accepts
                if self.patches.undone != undone:  # detached during the solve: steps are missing
                    solve.abandon()
            return solve.through(y)  # with the gradient that `regularize` adds

        return integrate

    def tapped_pair(self, original):
        def bogacki_shampine(field, t, y, h):
            if type(field) is not Tapped:
                return original(field, t, y, h)
            # The loop has accepted the last attempt if it goes on from the tensor that the attempt returned.
            field.settle(accepted=field.attempt is not None and y is field.attempt["y1"])
            y1, error = original(field, t, y, h)
            field.attempt = dict(t0=t, t1=t + h, y0=y, y1=y1, error=error)
            return y1, error

        return bogacki_shampine


def main(epochs=60):
    tap.register(OwnSolver())
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    x = torch.linspace(-1, 1, 64)[:, None]
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    term = 0.1 * tap.LocalError() + 1e-3 * tap.Stiffness(reduce="mean")
    losses = []
    for _ in range(epochs):
        optimiser.zero_grad()
        with tap.observe(term) as seen:
            y = integrate(lambda t, y: 5 * net(y), x, 0.0, 1.0)
        loss = torch.mean((y - x**3) ** 2)
        (loss + seen.penalty).backward()
        optimiser.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.4f} to {losses[-1]:.4f}, penalty {seen.penalty.item():.4f}, {seen.stats}")
    return losses, seen


if __name__ == "__main__":
    main()
