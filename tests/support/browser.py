"""Pages in Chromium: an album of all, what is wrong with their layout, and a browser for a person who is signed in."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from playwright.sync_api import Page, sync_playwright

from pipeline.core.templating import TEMPLATES, environment
from tests.conftest import skip_or_fail
from tests.support import on_day

BROWSER: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

_KITS: Final = Path(__file__).parents[1] / "interfaces/console/javascript/node_modules"
_AXE: Final = _KITS / "axe-core/axe.min.js"
#: Pages have the same widths on each machine: the browser sees these fonts alone.
_DEJAVU: Final = _KITS / "dejavu-fonts-ttf/ttf"
_FONT_SETTINGS: Final = f"""<fontconfig>
  <dir>{_DEJAVU}</dir>
  <match><edit name="family" mode="append"><string>DejaVu Sans</string></edit></match>
  <match>
    <test name="family"><string>monospace</string></test>
    <edit name="family" mode="prepend"><string>DejaVu Sans Mono</string></edit>
  </match>
</fontconfig>"""
#: The headers of a page that matter when it is opened later.
_KEPT: Final = ("content-type", "content-security-policy", "referrer-policy")
_WCAG: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")

_RUN_AXE: Final = """
async (rules) => {
  const { passes, violations } = await axe.run(document, { ...rules, resultTypes: ["violations"] });
  return {
    passes: passes.length,
    violations: violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => node.html)]),
  };
}
"""
_LAYOUT: Final = (Path(__file__).parent / "layout.js").read_text(encoding="utf-8")

Scheme = Literal["light", "dark"]

#: The forms in which every page is looked at: no rule of the styles depends on both.
FORMS: Final[tuple[tuple[int, Scheme], ...]] = ((1440, "light"), (390, "dark"))


@dataclass
class Album:
    """Pages as a server answered them, by name, and the templates that made them."""

    pages: dict[str, httpx.Response] = field(default_factory=dict)
    templates: set[str] = field(default_factory=set)

    def add(self, name: str, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Keep and return the page that `send` gets."""
        assert name not in self.pages, name
        # An empty cache, to see which templates this page takes.
        environment.cache_clear()
        answer = send()
        assert answer.headers["content-type"].startswith("text/html"), (name, answer)
        self.pages[name] = answer
        cache: Any = environment().cache
        self.templates |= {template for _, template in cache}
        return answer

    def find_missing(self, folder: str) -> set[str]:
        """Return the templates of a folder below templates/ that make a page but none of these pages."""
        files = (TEMPLATES / folder).rglob("*.html")
        made = {
            each.relative_to(TEMPLATES).as_posix()
            for each in files
            if each.read_text(encoding="utf-8").startswith("{% extends")
        }
        assert made
        return made - self.templates


def look_at_pages(client: httpx.Client, album: Album, folder: str, *, width: int, scheme: Scheme) -> dict[str, Any]:
    """Return what is wrong with each page, by name; pages without a fault are left out.

    If PICTURES names a folder, a picture of each page, light and dark, stands there below `folder`.
    """
    pictures = Path(os.environ["PICTURES"], folder) if "PICTURES" in os.environ else None
    found = {}
    with open_browser(client, width=width) as page:
        for name, answer in album.pages.items():
            _open_answer(page, answer)
            if pictures is not None:
                _take_pictures(page, pictures, f"{name} {width}")
            page.emulate_media(color_scheme=scheme)
            # Open folded parts, to look at them too.
            page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            if faults := measure_layout(page, width) | find_violations(page):
                found[name] = faults
    return found


def measure_layout(page: Page, width: int) -> dict[str, Any]:
    """Return the faults of an open page's layout at this width."""
    page.set_viewport_size({"width": width, "height": 900})
    measured: dict[str, Any] = page.evaluate(_LAYOUT)
    faults: dict[str, Any] = {
        name: measured[name] for name in ("broken", "clipped", "overlapped", "faint") if measured[name]
    }
    if measured["wide"] > width:
        faults["wide"] = measured["wide"]
    if measured["wider"]:
        faults["wider"] = measured["wider"]
    if measured["letters"] < 40:
        faults["letters"] = measured["letters"]
    return faults


def find_violations(page: Page) -> dict[str, Any]:
    """Return the rules of WCAG 2.2 AA that an open page violates, with some of the elements.

    axe-core checks the rules that a program can check.
    """
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    rules = {"runOnly": {"type": "tag", "values": _WCAG}, "rules": {"target-size": {"enabled": True}}}
    result = page.evaluate(_RUN_AXE, rules)
    assert result["passes"] > 1, page.url
    return dict(result["violations"])


def _open_answer(page: Page, answer: httpx.Response) -> None:
    """Open a page that a server has sent already; what it loads comes from the server."""
    address = str(answer.request.url)
    headers = {name: value for name, value in answer.headers.items() if name in _KEPT}
    # A page that leads on at once is looked at as well, and none shows what happened later.
    body = re.sub(r'<meta http-equiv="refresh"[^>]*>|<div id="live"[^>]*></div>', "", answer.text)
    page.route(address, lambda route: route.fulfill(body=body, headers=headers), times=1)
    page.goto(address)


def _take_pictures(page: Page, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / (re.sub(r"\W+", "-", f"{name} {scheme}") + ".png"), full_page=True)


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
    if not _DEJAVU.exists():
        skip_or_fail("the fonts and axe-core are not installed; install them with `make kits`")
    complaints: list[str] = []
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "fonts.conf")
        settings.write_text(_FONT_SETTINGS, encoding="utf-8")
        # A browser on a fake clock waits for ever, and no page looks different on another day.
        clock = on_day.clock_environment()
        machine: dict[str, str | float | bool] = {name: os.environ[name] for name in os.environ if name not in clock}
        machine |= {"FONTCONFIG_FILE": str(settings), "XDG_CACHE_HOME": folder}
        chromium = driver.chromium.launch(executable_path=BROWSER, args=list(FLAGS), env=machine)
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
