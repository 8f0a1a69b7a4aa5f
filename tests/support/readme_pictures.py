"""Make the pictures of the README: the console's first page after the demo, light and dark, and an invoice."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from pipeline.core.clock import utc_now
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.invoice.builder import build_invoice
from pipeline.exports import examples
from pipeline.exports.schemas.plan import Plan
from tests.documents.samples import build_facts
from tests.support.browser import BROWSER, FLAGS, Scheme

IMAGES: Final = Path(__file__).parents[2] / "docs/images"
MAX_BYTES: Final = 500_000
#: Dots per inch of the invoice.
INVOICE_DPI: Final = 144
_LINK: Final = re.compile(r"http://\S+/console/links/\S+")


@contextmanager
def serve_demo() -> Iterator[str]:
    """Run the demo in a folder of its own, and yield the link that signs in to its console once."""
    with tempfile.TemporaryDirectory() as home:
        command = [str(Path(sys.executable).parent / "exports"), "demo", "--home", home, "--serve"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
            try:
                assert demo.stdout is not None
                yield next(found[0] for line in demo.stdout if (found := _LINK.search(line)))
            finally:
                demo.terminate()


def take_pictures_of_console(link: str) -> None:
    """Write the pictures of the first page. Raises ValueError for a file that is too large."""
    if BROWSER is None:
        raise FileNotFoundError("Chromium is not installed; the package is chromium")
    with sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=BROWSER, args=list(FLAGS)).new_page(
            viewport={"width": 1280, "height": 800}, locale="en-CA", timezone_id="America/Toronto"
        )
        page.goto(link)
        page.get_by_role("button", name="Enter the console").click()
        page.get_by_role("heading", name="Today").wait_for()
        # The three exports are counted within a minute.
        deadline = time.monotonic() + 120
        while page.locator('#brokers td[data-label="Handoffs"]').all_inner_texts() != ["3"]:
            if time.monotonic() > deadline:
                raise TimeoutError("the first page does not count three handoffs after two minutes")
            page.wait_for_timeout(1000)
            page.reload()
        schemes: tuple[Scheme, ...] = ("light", "dark")
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            file = IMAGES / f"console-{scheme}.png"
            page.screenshot(path=file)
            check_size(file)


def take_picture_of_invoice() -> None:
    """Write the invoice of the example plan `cookware`, as of a live export. Raises ValueError for a file that is too large."""
    (unit,) = Plan.model_validate(examples.load_plan("cookware", utc_now().date())).units
    pdf = invoice_pdf(build_invoice(unit, replace(build_facts(unit), ssccs={})))
    file = IMAGES / "invoice.png"
    command = ["pdftoppm", "-png", "-f", "1", "-singlefile", "-r", str(INVOICE_DPI), "-", str(file.with_suffix(""))]
    subprocess.run(command, input=pdf, check=True)
    check_size(file)


def check_size(file: Path) -> None:
    """Raise ValueError if the file is too large for a page that people open on a phone."""
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file} has {size} bytes; make it smaller than {MAX_BYTES}")


if __name__ == "__main__":
    take_picture_of_invoice()
    with serve_demo() as link:
        take_pictures_of_console(link)
