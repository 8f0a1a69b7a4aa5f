"""Pages in Chromium: their layout, and a browser for a person who is signed in."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Page, sync_playwright

from tests.conftest import skip_or_fail
from tests.support import on_day

BROWSER: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_AXE: Final = Path(__file__).parents[1] / "interfaces/console/javascript/node_modules/axe-core/axe.min.js"
_WCAG: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

_MEASURE: Final = """
function broken(frame) {
  const page = frame.contentDocument, found = new Set();
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    if (node.parentElement.closest(".long")) continue;
    for (const word of node.data.matchAll(/[\\p{L}\\p{N}_]+/gu)) {
      const range = page.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].filter((box) => box.width > 0).map((box) => Math.round(box.top)));
      if (lines.size > 1) found.add(word[0]);
    }
  }
  return [...found];
}
addEventListener("load", () => {
  const measured = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument.documentElement;
    measured[frame.title] = { broken: broken(frame), wide: page.scrollWidth, words: page.innerText.length };
  }
  document.getElementById("measured").textContent = JSON.stringify(measured);
});
"""


def measure_pages(pages: Mapping[str, str], style: str, widths: Sequence[int], folder: Path) -> dict[str, Any]:
    """Return for each `name at width` the broken words, the page's width and the length of its text.

    Elements marked as long, such as a digest, do not count as words.
    """
    frames = []
    for name, page in pages.items():
        whole = re.sub(r"<link[^>]*>", lambda _: f"<style>{style}</style>", page)
        # Open folded parts, to measure them too.
        whole = whole.replace("<details", "<details open")
        frames += [
            f'<iframe title="{name} at {width}" width="{width}" height="800" style="border: 0" srcdoc="{html.escape(whole)}"></iframe>'
            for width in widths
        ]
    page_file = folder / "pages.html"
    page_file.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><pre id="measured"></pre>{"".join(frames)}<script>{_MEASURE}</script>',
        encoding="utf-8",
    )
    if BROWSER is None:
        skip_or_fail("Chromium is not installed; the package is chromium")
    shown = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page_file.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        # A browser on a fake clock waits for ever, and no page looks different on another day.
        env={name: value for name, value in os.environ.items() if name not in on_day.clock_environment()},
    ).stdout
    measured_json = re.search(r'<pre id="measured">(.*?)</pre>', shown, re.DOTALL)
    assert measured_json is not None, shown[:2000]
    found: dict[str, Any] = json.loads(html.unescape(measured_json[1]))
    return found


def list_cookies(client: httpx.Client) -> Sequence[Any]:
    """Return the client's cookies as a browser takes them."""
    return [
        {"name": each.name, "value": each.value or "", "url": str(client.base_url.join(each.path))}
        for each in client.cookies.jar
    ]


@contextmanager
def open_browser(
    client: httpx.Client,
    *,
    width: int = 1440,
    dark: bool = False,
    expected: Collection[str] = (),
    bypass_csp: bool = False,
) -> Iterator[Page]:
    """Yield a page of a browser in Toronto that has the client's cookies.

    At the end, no script may have failed, and the content security policy may have refused nothing. The browser may have
    complained only of what contains one of the `expected` texts.
    """
    if BROWSER is None:
        skip_or_fail("Chromium is not installed; the package is chromium")
    complaints: list[str] = []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        context = chromium.new_context(
            base_url=str(client.base_url),
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            timezone_id="America/Toronto",
            locale="en-CA",
            bypass_csp=bypass_csp,
        )
        context.add_cookies(list_cookies(client))
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        yield page
        chromium.close()
    unexpected = [each for each in complaints if not any(text in each for text in expected)]
    assert unexpected == [], unexpected


def find_violations(page: Page, addresses: Mapping[str, str]) -> dict[str, Any]:
    """Return the rules of WCAG 2.2 AA that pages violate, with some of the elements, by the pages' names.

    axe-core checks the rules that a program can check.
    """
    if not _AXE.exists():
        skip_or_fail("axe-core is not installed; install it with `make kits`")
    found = {}
    for name, address in addresses.items():
        page.goto(address)
        # Open folded parts, to check them too.
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        page.evaluate(_AXE.read_text(encoding="utf-8"))
        options = {"runOnly": {"type": "tag", "values": _WCAG}}
        result = page.evaluate("options => axe.run(document, options)", options)
        assert len(result["passes"]) > 5, name
        found[name] = [(rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in result["violations"]]
    return {name: violations for name, violations in found.items() if violations}
