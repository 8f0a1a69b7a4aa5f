"""Every link of a Markdown page leads to an existing file, and to an existing heading of it."""

import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

PAGES = sorted(
    path
    for folder in ("", "docs", "docs/*", "config/rules", "examples", "examples/*", "clients/*", "tests/system/*")
    for path in ROOT.glob(f"{folder}/*.md" if folder else "*.md")
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: its headings as a forge writes them, and its own ids."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | {
        *re.findall(r'<a id="([^"]+)">', text)
    }


def broken(page: Path) -> list[str]:
    """Return the broken links of a page."""
    found = []
    for name, part in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = page.parent / name if name else page
        if not target.exists() or (part and target.suffix == ".md" and part not in anchors(target)):
            found.append(f"{name}#{part}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_has_no_broken_link(page: Path) -> None:
    assert broken(page) == []


def test_broken_finds_a_broken_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, `here`\n[a](#a-heading-here) [b](#none) [c](none.md) [d](https://example.com/none)\n")
    assert broken(page) == ["#none", "none.md#"]
