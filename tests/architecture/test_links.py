"""Every link of a Markdown page leads to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for folder in ("", "docs", "config/rules", "examples", "examples/*", "tests/system/faults")
    for path in ROOT.glob(f"{folder}/*.md" if folder else "*.md")
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return what a link to a part of the page may name: its headings as a forge writes them, and its own ids."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | {
        *re.findall(r'<a id="([^"]+)">', text)
    }


def broken(page: Path) -> list[str]:
    """Return the links of the page that lead nowhere."""
    found = []
    for name, part in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = page.parent / name if name else page
        if not target.exists() or (part and target.suffix == ".md" and part not in anchors(target)):
            found.append(f"{name}#{part}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, `here`\n[a](#a-heading-here) [b](#none) [c](none.md) [d](https://example.com/none)\n")
    assert broken(page) == ["#none", "none.md#"]
