"""The documentation: the site builds without a warning, needs no network, and says what is so."""

from __future__ import annotations

import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from safetransfer import cli
from safetransfer.errors import UnknownNameError

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    pytest.importorskip("mkdocstrings_handlers.python", reason="needs the extra 'docs'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    out = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(out))
    build(config)  # raises Abort at the first warning
    return out


class _Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.needed: list[str] = []  # what a browser fetches by itself
        self.links: list[str] = []
        self.math = 0
        self.text = ""
        self.code = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "video", "source") and found.get("src"):
            self.needed.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "shortcut icon"):
            self.needed.append(found["href"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        self.math += tag == "math"
        self.code += tag in ("code", "pre", "script")

    def handle_endtag(self, tag):
        self.code -= tag in ("code", "pre", "script")

    def handle_data(self, data):
        if not self.code:
            self.text += data


def test_every_page_is_there_and_nothing_is_fetched_from_the_network(site):
    for page in PAGES:
        read = _Page(site / f"{page.stem}.html")
        assert len(read.text) > 500
        for needed in read.needed:
            assert not needed.startswith(("http", "//")), f"{page.name} fetches {needed}"
            assert (site / needed.partition("?")[0]).is_file(), f"{page.name} lacks {needed}"


def test_links_within_the_site_lead_somewhere(site):
    for page in site.glob("*.html"):
        for link in _Page(page).links:
            target = link.partition("#")[0].partition("?")[0]
            if target and not target.startswith(("http", "mailto", "/")):
                assert (site / target).exists(), f"{page.name} links to {link}"


def test_formulas_are_set_and_none_is_left_as_source(site):
    read = _Page(site / "concepts.html")
    assert read.math > 30
    assert "$" not in read.text and r"\alpha" not in read.text and "β" in read.text


def test_the_api_page_has_what_it_names(site):
    names = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    page = (site / "api.html").read_text(encoding="utf-8")
    assert len(names) > 20
    for name in names:
        assert f'id="{name}"' in page or name == "safetransfer.errors", name
    assert "the interval speaks of new agents" in re.sub(r"\s+", " ", page)  # a docstring's words


def _commands() -> list[tuple[str, str]]:
    """Every `safetransfer` command line in a console block, continued lines joined."""
    found = []
    for page in [*PAGES, ROOT / "README.md"]:
        for block in re.findall(
            r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
        ):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("safetransfer "):
                    found.append((page.name, line.partition("  #")[0]))
    return found


@pytest.mark.parametrize(("page", "line"), _commands())
def test_commands_in_the_documents_are_understood(page, line, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    if page == "own-environment.md":
        monkeypatch.chdir(ROOT / "examples")
    line = line.replace("my_module", "costly_region")  # the reader's own, in the README
    if "[" in line:  # a usage line, not a command
        name = shlex.split(line)[1]
        assert name in cli.COMMANDS
        return
    argv = shlex.split(line)[1:]
    try:
        cli._parse(argv[0], cli.COMMANDS.get(argv[0]), argv)  # raises for what it does not know
    except UnknownNameError as error:
        # The guides to one's own robot and environment name what the reader is about to write.
        if not (page.startswith("own-") and error.kind == "environment"):
            raise
