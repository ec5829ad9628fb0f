"""Pages in a real browser."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSTALLED = Path(sys.prefix) / "browser"


def look(page, *widths):
    """What headless Chromium shows of a file at each width, and what it said; skips where there is none."""
    return look_at([page], *widths)


def look_at(pages, *widths):
    """The same of several files, or addresses, one after another, each at every width."""
    if shutil.which("node") is None or not (INSTALLED / "node_modules" / "puppeteer-core").is_dir():
        pytest.skip("no node, or no browser in the environment: `make setup` installs one where npm is")
    urls = [page if isinstance(page, str) else page.resolve().as_uri() for page in pages]
    done = subprocess.run(
        ["node", str(HERE / "look.mjs"), *urls, *map(str, widths)],
        env=os.environ | {"BROWSER": str(INSTALLED)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
