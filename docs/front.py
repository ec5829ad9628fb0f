"""Draws the picture of the README and of the site's front page, and writes the README's two tables of results.

    python docs/front.py            # write docs/assets/front.svg and front-dark.svg, and the tables in README.md
    python docs/front.py --check    # exit 1 if what is written differs from what would be

The picture and the first table are made from docs/results/paper, which `solvertap reproduce` wrote: its table says
which weight the validation data chose, its runs.csv has every seed. The second table is made from the other documents
that commands have written.
"""

import csv
import re
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean, stdev

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
PAPER = DOCS / "results" / "paper"
# What the README calls a problem, its metric, and how it is written. The spiral ODE has no row: it is the counter-
# example of docs/results.md.
WHAT = {
    "mnist": ("neural ODE, MNIST", "accuracy", "{:.1f}"),
    "mnist-full": ("neural ODE, all of MNIST", "accuracy", "{:.2f}"),
    "latent": ("latent ODE, clinical series", "error", "{:.4f}"),
    "mnist-sde": ("neural SDE, MNIST", "accuracy", "{:.1f}"),
    "spiral-sde": ("neural SDE, noisy spiral", "error", "{:.4f}"),
    "cnf": ("flow, density in the plane", "nats", "{:.3f}"),
}
HEAD = """| model | in | evaluations of a prediction | test metric | its change | training time |
| --- | --- | --- | --- | --- | --- |"""
# Ink, of the plain model, of the penalized one (Okabe and Ito's blue and sky blue: told apart by the colour-blind).
LIGHT, DARK = ("#222222", "#999999", "#0072b2"), ("#e8e8e8", "#8c8c8c", "#56b4e9")


@dataclass
class Row:
    """One experiment: its plain runs, those with the chosen weight, and the cells of the table of the paper.

    Attributes:
        problem, where: what is learned, and in which library.
        plain, penalized: evaluations of a prediction and test metric, for each seed.
        ratio: of the evaluations, in the mean over the seeds.
        training: the ratio of the training times, with its range over the seeds.
    """

    problem: str
    where: str
    plain: list[tuple[float, float]]
    penalized: list[tuple[float, float]]
    ratio: str
    training: str

    @property
    def title(self):
        return f"{WHAT[self.problem][0]}, {self.where}"

    @property
    def metric(self):
        """The metric of both, and the change with its spread over the seeds."""
        before, after = ([metric for _, metric in runs] for runs in (self.plain, self.penalized))
        _, name, form = WHAT[self.problem]
        both = f"{name} {form.format(mean(before))} to {form.format(mean(after))}"
        if name == "accuracy":
            changes, both, unit = [b - a for a, b in zip(before, after, strict=True)], f"{both} %", " points"
        else:
            changes, unit = [100 * (b / a - 1) for a, b in zip(before, after, strict=True)], " %"
        return both, f"{mean(changes):+.1f} ± {stdev(changes):.1f}{unit}"

    @property
    def evaluations(self):
        return [mean(count for count, _ in runs) for runs in (self.plain, self.penalized)]


def rows():
    """One row for each experiment in each library, with the weight that the validation data chose."""
    with open(PAPER / "runs.csv", newline="") as file:
        runs = list(csv.DictReader(file))
    chosen = (PAPER / "table.md").read_text().split("## ")[0]
    for cells in cells_of(chosen):
        if not re.match(r"`local-error=", cells[2] if len(cells) > 2 else ""):
            continue
        problem, where, method, ratio, training = cells[0], cells[1], cells[2].strip("`"), cells[4].split()[0], cells[7]
        if problem not in WHAT:
            continue
        experiment = f"{problem}-{where.replace(' ', '-')}"
        found = {
            each: [
                (float(run["evaluations"]), float(run["metric"]))
                for run in sorted(runs, key=lambda run: int(run["seed"]))
                if (run["experiment"], run["method"]) == (experiment, each)
            ]
            for each in ("vanilla", method)
        }
        yield Row(problem, where, found["vanilla"], found[method], ratio, training)


def table(found):
    """The table of the README."""
    lines = [HEAD]
    for row in found:
        before, after = row.evaluations
        metric, change = row.metric
        counts = f"{before:.0f} to **{after:.0f}** ({row.ratio})"
        lines.append(f"| {WHAT[row.problem][0]} | {row.where} | {counts} | {metric} | {change} | {row.training} |")
    return "\n".join(lines)


def picture(found, ink, plain, penalized):
    """Two bars for each experiment, as an SVG: evaluations of the plain and of the penalized model."""
    settings = {"svg.hashsalt": "front", "text.color": ink, "axes.labelcolor": ink, "font.size": 11}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9, 0.8 + 0.55 * len(found)), layout="constrained")
        figure.patch.set_alpha(0)
        axis = figure.subplots()
        axis.patch.set_alpha(0)
        for place, row in enumerate(found):
            counts = row.evaluations
            for shift, count, colour, label in zip((-0.2, 0.2), counts, (plain, penalized), _LABELS, strict=True):
                axis.barh(place + shift, count, 0.36, color=colour, label=label if not place else None)
            axis.text(counts[0] + 4, place - 0.2, f"{counts[0]:.0f}", va="center")
            axis.text(counts[1] + 4, place + 0.2, f"{counts[1]:.0f};  {row.metric[0]}", va="center")
        axis.set_yticks(range(len(found)), [row.title for row in found])
        axis.invert_yaxis()
        axis.set_xlabel("evaluations of the field in one prediction, mean over the seeds")
        axis.set_xlim(0, 1.08 * max(max(row.evaluations) for row in found))
        axis.tick_params(colors=ink, length=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color(ink)
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


_LABELS = ("plain", "with the local error penalized")


def cells_of(text):
    """The cells of every row of every table in Markdown."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def checked():
    """The second table: what else was measured, and by which command."""
    costs = [
        float(cells[3])
        for cells in cells_of((DOCS / "results" / "overhead" / "table.md").read_text())
        if cells[0] in ("torchdiffeq", "diffrax")
        and cells[1].startswith("MNIST, ")
        and cells[2] in ("local error", "stiffness", "both")
    ]
    less, more = round(100 * (1 - min(costs))), round(100 * (max(costs) - 1))
    right, of_all = re.search(r"\*\*(\d+) of (\d+)\*\* verdicts", (DOCS / "explained.md").read_text()).groups()
    ratios = [
        float(found[1])
        for cells in cells_of((DOCS / "examples.md").read_text())
        if len(cells) > 4 and (found := re.search(r"\(([\d.]+)\)$", cells[4]))
    ]
    return f"""| what | found | measured by |
| --- | --- | --- |
| what a term costs a training step at MNIST size, torchdiffeq and diffrax | \
[from {less} % less to {more} % more](docs/results.md#what-observing-costs) | `make bench` |
| how often `explain` names the known illness of a problem | [{right} of {of_all}](docs/explained.md) | \
`python -m tests.explained` |
| evaluations of the frameworks' own examples under `solvertap run`, over the unregularized | \
[{min(ratios):.2f} to {max(ratios):.2f}](docs/examples.md) | `python -m tests.other_examples` |"""


def between(text, name, inside):
    """The text with what stands between two marks replaced."""
    begin, end = f"<!-- --8<-- [start:{name}] -->\n", f"<!-- --8<-- [end:{name}] -->"
    before, rest = text.split(begin)
    return f"{before}{begin}{inside}\n{end}{rest.split(end)[1]}"


def contents():
    """The text of each file by its path."""
    found = list(rows())
    readme = between(README.read_text(), "measured", table(found))
    return {
        DOCS / "assets" / "front.svg": picture(found, *LIGHT),
        DOCS / "assets" / "front-dark.svg": picture(found, *DARK),
        README: between(readme, "checked", checked()),
    }


def main():
    """Writes the files, or says which are not current."""
    written = contents()
    if "--check" in sys.argv:
        sys.exit(int(any(not path.exists() or path.read_text() != text for path, text in written.items())))
    for path, text in written.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
