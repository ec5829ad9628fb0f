"""Measures the numbers that docs/mathematics.md states about the definitions, and writes docs/definitions.md.

    python docs/definitions.py

Everything is in float64. The figures are ratios and sums of fixed problems: to a few digits, the same on every machine.
"""

import warnings
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchdiffeq
import torchsde
from torchsde._core import adaptive_stepping

import solvertap as tap

jax.config.update("jax_enable_x64", True)

WEIGHTS = 2 * np.random.default_rng(0).normal(size=(3, 3))
Y0 = np.random.default_rng(1).normal(size=(4, 3))

READINGS = {
    "steps": None,
    "R_E text: sum E h, unscaled": tap.LocalError(scale="raw", name="text"),
    "R_E here: sum E h": tap.LocalError(),
    "R_E code: mean E h": tap.LocalError(reduce="mean", name="code"),
    "R_S text and here: sum S": tap.Stiffness(),
    "R_S thesis: sum S h": tap.Stiffness(weigh_by_step=True, name="thesis"),
    "R_S code: max S / 3.5068": tap.Stiffness(reduce="max", stability_size=tap.TSIT5_STABILITY_SIZE, name="peak"),
}


def in_torchdiffeq(term, tolerance=1e-6, method="dopri5", **options):
    """The observation of a solve with a random tanh field, and the weights of the field."""
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    with tap.observe(term, trace=True, align=True) as seen:
        torchdiffeq.odeint(
            lambda t, y: 3 * torch.tanh(y @ weights) + 5 * torch.sin(8 * t) - y,
            torch.tensor(Y0),
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            rtol=tolerance,
            atol=tolerance,
            method=method,
            options=options,
        )
    return seen, weights


def by_tolerance():
    """One row for each tolerance: every reading of R_E and R_S on the same steps."""
    titles = ["tolerance", *READINGS, "angle of the gradients of R_E, text and code"]
    rows = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for exponent in range(3, 9):
        seen, weights = in_torchdiffeq(sum((t for t in READINGS.values() if t), start=0), 10.0**-exponent)
        values = [f"{seen.values[t.name].item():.3g}" if t else str(seen.stats.accepted) for t in READINGS.values()]
        pair = [torch.autograd.grad(seen.values[n], weights, retain_graph=True)[0] for n in ("text", "code")]
        angle = torch.rad2deg(torch.arccos(torch.nn.functional.cosine_similarity(*(g.ravel() for g in pair), dim=0)))
        rows.append(f"| 1e-{exponent} | " + " | ".join([*values, f"{angle.item():.0f} degrees"]) + " |")
    return "\n".join(rows)


def heun():
    """How far torchdiffeq's adaptive_heun is from diffrax's Heun over 16 equal steps."""
    grid = np.linspace(0, 1, 17)
    term = tap.LocalError(rtol=1e-6, atol=1e-6) + tap.Stiffness()
    step_t = torch.tensor(grid[1:])
    seen, _ = in_torchdiffeq(term, 1e3, "adaptive_heun", first_step=1.0, step_t=step_t)
    with tap.observe(term) as other:
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, _: 3 * jnp.tanh(y @ WEIGHTS) + 5 * jnp.sin(8 * t) - y),
            diffrax.Heun(),
            0.0,
            1.0,
            None,
            jnp.asarray(Y0),
            stepsize_controller=diffrax.StepTo(grid),
        )
    return {name: abs(float(other.values[name]) / value.item() - 1) for name, value in seen.values.items()}


def torchsde_acceptance():
    """The range of E here over the number that torchsde compares with 1, on the attempts of a solve."""
    pairs = []
    compute_error = adaptive_stepping.compute_error

    def recorded(*args):
        pairs.append(compute_error(*args))
        return pairs[-1]

    class SDE:
        noise_type, sde_type = "diagonal", "stratonovich"
        f = staticmethod(lambda t, y: 3 * torch.tanh(y) + torch.sin(20 * t))
        g = staticmethod(lambda _, y: 0.3 * torch.sin(y))

    path = torchsde.BrownianInterval(0.0, 1.0, (3, 2), torch.float64, entropy=0)
    adaptive_stepping.compute_error = recorded
    try:
        with tap.observe(trace=True) as seen:
            y0, times = torch.ones(3, 2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
            torchsde.sdeint(SDE(), y0, times, bm=path, method="heun", adaptive=True, rtol=1e-2, atol=1e-3, dt=0.1)
    finally:
        adaptive_stepping.compute_error = compute_error
    ours = seen.trace.numpy()["local_error"] / np.array(pairs)
    return ours.min(), ours.max()


def implicit():
    """Maximum and mean of the relative error of S of Kvaerno5, on Van der Pol, against its field at the same states."""
    off = []

    def relative(step):
        rows = np.array(step.stages.tableau.a)
        slopes = step.stages.slopes
        last, before = (step.y0 + jnp.tensordot(jnp.asarray(row), slopes, 1) for row in (rows[-1], rows[-2]))
        exact = jnp.linalg.norm(step.field(step.t1, last) - step.field(step.t1, before)) / jnp.linalg.norm(
            last - before
        )
        return abs(tap.stiffness(step) / exact - 1)

    def van_der_pol(_, y, args):
        return jnp.stack([y[1], 20 * (1 - y[0] ** 2) * y[1] - y[0]])

    for reduce in ("max", "mean"):
        with tap.observe(tap.term(relative, name="off", reduce=reduce)) as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(van_der_pol),
                diffrax.Kvaerno5(),
                0.0,
                2.0,
                0.01,
                jnp.array([2.0, 0.0]),
                stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
            )
        off.append(float(seen.penalty))
    return off


def first_step():
    """The share of the solution's gradient that the automatic first step carries in torchdiffeq."""
    gradients = []
    for term in (tap.LocalError(), None):
        weights = torch.tensor(WEIGHTS, requires_grad=True)
        with tap.observe(term):
            y = torchdiffeq.odeint(
                lambda t, y, w=weights: 3 * torch.tanh(y @ w) + 5 * torch.sin(8 * t) - y,
                torch.tensor(Y0),
                torch.tensor([0.0, 1.0], dtype=torch.float64),
                rtol=1e-3,
                atol=1e-3,
            )
        gradients.append(torch.autograd.grad(y[-1].square().sum(), weights)[0])
    held, free = gradients
    return ((held - free).norm() / free.norm()).item()


def main():
    """Writes the document."""
    low, high = torchsde_acceptance()
    heun_error, heun_stiffness = heun().values()
    most, mean = implicit()
    lines = [
        "# The definitions, in numbers",
        "Written by `make docs`. [What is computed](mathematics.md) explains the terms.",
        "## Every reading of R_E and R_S, on the same steps",
        "A random tanh field, torchdiffeq's dopri5, `align=True`.",
        by_tolerance(),
        "## What else differs, and by how much",
        f"- torchdiffeq's `adaptive_heun` and diffrax's `Heun`, 16 equal steps: E differs by {heun_error:.1%}, S by "
        f"{heun_stiffness:.1%}. One step: not at all.\n"
        f"- E over the number that torchsde compares with 1, on the attempts of one solve: {low:.3f} to {high:.3f}.\n"
        "- S of `Kvaerno5` on Van der Pol (mu = 20), from the slopes of its stages (root finder at its default "
        f"tolerance), against its field at the same two states: off by {mean:.1e} on average, {most:.1e} at most.\n"
        "- The gradient of a solution in torchdiffeq, at tolerance 1e-3, with the automatic first step held constant "
        f"and not: {first_step():.1e} apart.",
    ]
    (Path(__file__).parent / "definitions.md").write_text("\n\n".join(lines) + "\n")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
