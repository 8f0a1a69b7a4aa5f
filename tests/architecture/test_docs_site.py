"""The documentation as a site: complete, without a broken link, and without a file of another server."""

import fcntl
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.sources import ROOT

pytestmark = pytest.mark.system

#: The attributes by which a page loads a file, by tag. `a` only leads there.
LOADED: Final = {"script": "src", "link": "href", "img": "src", "source": "srcset", "iframe": "src"}
NOT_LOADED: Final = {"canonical", "next", "prev", "alternate"}


class LoadedFiles(HTMLParser):
    """Collects the addresses of all files that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(LOADED.get(tag, ""))
        if address and not NOT_LOADED & {*(given.get("rel") or "").split()}:
            self.found.add(address)


def list_loaded(page: Path) -> set[str]:
    """Return the addresses of all files that a page loads."""
    reader = LoadedFiles()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.found


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """The site; a broken link or a page without a place in the navigation fails the build."""
    with (ROOT / "mkdocs.yml").open() as one_at_a_time:  # another process of pytest may have tests of this file, too
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        built = subprocess.run(["make", "site"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
        assert built.returncode == 0, built.stderr
        yield ROOT / "var" / "site"


def test_site_loads_only_its_own_files(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    foreign = {(page.name, each) for page in pages for each in list_loaded(page) if each.startswith(("http", "//"))}
    assert foreign == set()
    for page in pages:
        assert "```" not in page.read_text(encoding="utf-8"), f"{page} shows a fence"
        assert set(re.findall("<!--.*", page.read_text(encoding="utf-8"))) <= {"<!-- -->"}, f"{page} has a marker"
        files = {
            (page.parent / each.partition("?")[0]).resolve()
            for each in list_loaded(page)
            if not each.startswith(("data:", "/"))
        }
        assert [each.name for each in files if not each.is_file()] == [], page


def test_site_has_the_tables_and_is_searched_without_a_server(site: Path) -> None:
    assert "EXPORTS_SECRET_KEY" in (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "130: ended by Ctrl-C" in (site / "docs" / "cli.html").read_text(encoding="utf-8")


def test_pages_that_people_write_stay_short() -> None:
    """A word has a letter or a digit; code samples count. Tables that come from the code stand only in the site."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    pages = [page for page in listed.split() if not page.startswith((".github", "CHANGELOG", "CODE_OF_CONDUCT"))]
    words = {page: len(re.findall(r"\S*\w\S*", (ROOT / page).read_text(encoding="utf-8"))) for page in pages}
    assert sum(count for page, count in words.items() if page.startswith(("README", "docs/"))) <= 24_000
    assert sum(words.values()) <= 30_000
