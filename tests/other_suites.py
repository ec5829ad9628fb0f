"""Runs the frameworks' own test suites with every solve observed, and writes docs/suites.md.

python -m tests.other_suites torchdiffeq=CLONE/tests torchsde=CLONE/tests diffrax=CLONE/test

Each suite comes from a clone of the installed release, without the package itself beside it, so that the installed
one is tested; what the suite needs (diffrax's: beartype, tqdm) has to be installed. Every file runs in a process of
its own, and where that does not survive, every test of it. What fails is run once more without the plugin: a failure of
the bare suite is not ours. Results are kept in results/suites, and what has a result there is not run again.
"""

import platform
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "suites.md"
RESULTS = ROOT / "results" / "suites"
PLUGIN = ("-p", "solvertap.testing.everywhere")


@dataclass
class Outcome:
    """What came of one suite."""

    passed: int = 0
    skipped: int = 0
    solves: int = 0
    bare_failures: list[str] = field(default_factory=list)
    own_failures: list[str] = field(default_factory=list)

    def row(self, name):
        failed = [f"{len(self.bare_failures)} (bare as well)"] if self.bare_failures else []
        failed += [f"**{len(self.own_failures)} of ours**"] if self.own_failures else []
        counts = f"{self.passed} | {self.skipped} | {', '.join(failed) or 0}"
        return f"| {name} {metadata.version(name)} | {counts} | {self.solves} |"


def _pytest(folder, log, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    with log.open("w") as out:
        return subprocess.run(command, cwd=folder.parent, stdout=out, stderr=subprocess.STDOUT).returncode


def _observed(folder, kept, name, target):
    """The JUnit file and the log of a file or of one test, run under the plugin if no result of it is kept."""
    result, log = kept / f"{name}.xml", kept / f"{name}.log"
    if not result.exists() and not log.exists():
        print(f"{folder.parent.name}: {name}", flush=True)
        _pytest(folder, log, *PLUGIN, f"--junitxml={result}", target)
    return result, log


def _pieces(folder, kept, file):
    """The results of one file, or of its tests one by one where the process did not survive all of them."""
    result, log = _observed(folder, kept, file.stem, str(file))
    if result.exists():
        return [(str(file), result, log)]
    listing = kept / f"{file.stem}.tests"
    _pytest(folder, listing, "--collect-only", str(file))
    found = listing.read_text().partition("\n\n")[0]  # warnings follow
    tests = [f"{folder.parent}/{line}" for line in found.splitlines() if "::" in line]
    return [(test, *_observed(folder, kept, f"{file.stem}.{i}", test)) for i, test in enumerate(tests)]


def _tests(result):
    """(test, the kind of its failure or None) of one file's result."""
    for case in ElementTree.parse(result).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        classes = case.get("classname", "").split(".")[2:]  # beyond the folder and the file
        yield "::".join([*classes, case.get("name", "")]), kinds[0] if kinds else None


def run(name, folder):
    """The outcome of the suite in a folder."""
    outcome = Outcome()
    kept = RESULTS / name
    kept.mkdir(parents=True, exist_ok=True)
    for file in sorted([*folder.glob("test_*.py"), *folder.glob("*_tests.py")]):
        for target, result, log in _pieces(folder, kept, file):
            observed = re.search(r"solvertap observed (\d+) solves", log.read_text())
            outcome.solves += int(observed[1]) if observed else 0
            crashed = [(target.partition("::")[2], "crash")]
            for test, failure in _tests(result) if result.exists() else crashed:
                if failure is None:
                    outcome.passed += 1
                elif failure == "skipped":
                    outcome.skipped += 1
                else:
                    bare = _pytest(folder, kept / "bare.log", f"{file}::{test}")
                    failures = outcome.bare_failures if bare else outcome.own_failures
                    failures.append(f"{name}: {test}" + " (ends the process)" * (failure == "crash"))
    if not outcome.solves:
        sys.exit(f"{name}: not one solve was observed; results/suites/{name} has the logs.")
    return outcome


def document(outcomes):
    """The whole of docs/suites.md."""
    known = [failure for outcome in outcomes.values() for failure in outcome.bare_failures]
    return "\n".join(
        [
            "# Other people's tests",
            "",
            "The frameworks' own test suites, with an observation of statistics open around every test "
            "(`-p solvertap.testing.everywhere`). Written by `python -m tests.other_suites`, with Python "
            f"{platform.python_version()}, torch {metadata.version('torch')} and jax {metadata.version('jax')}.",
            "",
            "| suite | passed | skipped | failed | solves observed |",
            "|---|---|---|---|---|",
            *(outcome.row(name) for name, outcome in outcomes.items()),
            *(["", "Fails without solvertap as well:", ""] if known else []),
            *(f"- {failure}" for failure in known),
            "",
        ]
    )


if __name__ == "__main__":
    suites = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if not suites:
        sys.exit(__doc__)
    outcomes = {name: run(name, Path(folder).resolve()) for name, folder in suites.items()}
    DOCUMENT.write_text(document(outcomes))
    ours = [failure for outcome in outcomes.values() for failure in outcome.own_failures]
    sys.exit("\n".join(["These fail with solvertap alone:", *ours]) if ours else 0)
