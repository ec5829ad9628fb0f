"""The documentation site: built strictly, every public name on it once, every page opened in a browser."""

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import solvertap as tap
from solvertap import adapting
from tests.browser import look_at

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WIDTHS = (1280, 380)


class _Page(HTMLParser):
    """What a page links to and loads, and the anchors that it has."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        # Not the canonical or next page, which a browser does not load.
        is_loaded = tag != "link" or values.get("rel") in ("stylesheet", "icon")
        if tag in ("link", "script", "img", "source", "iframe") and is_loaded:
            self.loads += [values[name] for name in ("src", "href") if values.get(name)]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site, its notebooks not executed."""
    pytest.importorskip("material", reason="needs the extra `site`")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"SITE_EXECUTE": "false", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def pages(site):
    """Every page by its path."""
    return {path: _Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_public_name_has_its_place_in_the_reference_once():
    written = Counter()
    for path in (DOCS / "reference").glob("*.md"):
        written.update(re.findall(r"^::: (\S+)", path.read_text(), re.M))
    assert {name for name, times in written.items() if times > 1} == set()
    own = set(adapting.__all__) - set(tap.__all__)
    assert set(written) == {f"solvertap.{name}" for name in tap.__all__} | {f"solvertap.adapting.{n}" for n in own}


def test_every_public_name_is_on_the_site_once(pages):
    anchors = Counter(anchor for page in pages.values() for anchor in page.anchors if anchor.startswith("solvertap."))
    names = [f"solvertap.{name}" for name in tap.__all__ if name != "errors"]
    names += [f"solvertap.adapting.{name}" for name in adapting.__all__ if name not in tap.__all__]
    assert {name: anchors[name] for name in names if anchors[name] != 1} == {}
    drawn = [name for name, value in vars(tap.errors).items() if isinstance(value, type) and name.endswith("Error")]
    assert {name for name in drawn if not anchors[f"solvertap.errors.{name}"]} == set()


def test_every_link_leads_to_a_page_and_an_anchor_of_it(pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and target in pages and unquote(parts.fragment) not in anchors):
                dead.append((str(path), link))
    assert dead == []


def test_nothing_is_loaded_from_a_network_host(pages):
    """Nor would be by a script: the search runs on files, and no page has a diagram or a formula to be drawn."""
    hosts = {(path.name, load) for path, page in pages.items() for load in page.loads if urlsplit(load).netloc}
    assert hosts == set()


def test_every_page_opens_in_a_browser_and_fits(pages):
    assert len(pages) > 50
    seen = look_at([*pages], *WIDTHS)
    assert len(seen) == len(pages) * len(WIDTHS)
    wrong = {}
    for shown in seen:
        said = [line for line in shown["said"] if not line.startswith(("asks for file:", "asks for data:"))]
        if said or shown["dead"] or shown["width"] > shown["asked"] or not shown["text"].strip():
            wrong[shown["url"].split("/", 5)[-1], shown["asked"]] = said, shown["dead"], shown["width"]
    assert wrong == {}


def test_search_finds_without_a_server(site):
    (shown,) = look_at([(site / "index.html").as_uri() + "?q=stability_size"], 1280)
    assert re.search(r"\d+ matching document", shown["text"])


def test_front_picture_and_table_are_current():
    pytest.importorskip("matplotlib")
    done = subprocess.run([sys.executable, str(DOCS / "front.py"), "--check"], check=False)
    assert done.returncode == 0, "run `python docs/front.py`"
