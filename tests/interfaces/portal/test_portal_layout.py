"""Every page of the portal in a real browser, on a desktop and a phone; and its entrance with a script."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.conftest import skip_or_fail
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.portal.conftest import create_link, find_ids, open_portal, submit
from tests.interfaces.portal.test_handoffs import BROKER, answer, hand_off
from tests.support import factories
from tests.support.browser import BROWSER, FLAGS, find_violations, measure_pages, open_browser

WIDTHS = (1440, 390)


def build_addresses(harness: ApiHarness) -> tuple[httpx.Client, str, dict[str, str]]:
    """Return a customs broker's client, a handoff that it has rejected, and the address of every page, each with content."""
    hand_off(harness, batch="BATCH-of-a-quite-long-name")
    broker = open_portal(harness, BROKER)
    (handoff,) = find_ids(broker, "/portal/handoffs", "handoffs")
    (delivery,) = find_ids(broker, "/portal/deliveries", "deliveries")
    found = {"field": "U2, line 3 (BAG-00003): country of origin", "problem": "It differs from the certificate"}
    answer(broker, handoff, status="rejected", place0=found["field"], wrong0=found["problem"])
    return (
        broker,
        handoff,
        {
            "overview": "/portal",
            "deliveries": "/portal/deliveries",
            "delivery": f"/portal/deliveries/{delivery}",
            "handoffs": "/portal/handoffs",
            "handoff": f"/portal/handoffs/{handoff}",
            "endpoint": "/portal/endpoint",
            "samples": "/portal/samples",
            "entrance": "/portal/open",
        },
    )


def pages(harness: ApiHarness) -> dict[str, str]:
    """Return every page of the portal, each with content."""
    broker, handoff, addresses = build_addresses(harness)
    headers = "webhook-id: m_1\nwebhook-timestamp: 1764000000\nwebhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="
    return {name: broker.get(address).text for name, address in addresses.items()} | {
        "refused answer": answer(broker, handoff, status="filed", entryNumber="not a number").text,
        "rotated": submit(broker, "/portal/secret", "/portal/secret/rotate", overlap="24").text,
        "verified": submit(broker, "/portal/verify", "/portal/verify", headers=headers, body='{"id": "m_1"}').text,
        "missing": broker.get("/portal/deliveries/none").text,
        "packages": open_portal(harness, factories.WAREHOUSE).get("/portal/deliveries").text,
    }


def test_portal_breaks_no_word_and_fits_the_window(harness: ApiHarness, tmp_path: Path) -> None:
    made = pages(harness)
    assets = [harness.client_with_key(None).get(f"/console/assets/{name}.css") for name in ("style", "portal")]
    assert {each.status_code for each in assets} == {200}
    found = measure_pages(made, "".join(each.text for each in assets), WIDTHS, tmp_path)
    assert found.keys() == {f"{name} at {width}" for name in made for width in WIDTHS}
    assert [name for name, layout in found.items() if layout["words"] < 40] == []
    assert {name: layout["broken"] for name, layout in found.items() if layout["broken"]} == {}
    assert [name for name, layout in found.items() if layout["wide"] > int(name.rsplit(" ", 1)[1])] == []


@pytest.mark.parametrize(("width", "dark"), [(1440, True), (390, False)])
def test_portal_is_accessible(harness: ApiHarness, *, width: int, dark: bool) -> None:
    client, _, addresses = build_addresses(harness)
    with open_browser(client, width=width, dark=dark) as page:
        assert find_violations(page, addresses) == {}


def test_every_input_has_a_label_and_every_form_its_token(harness: ApiHarness) -> None:
    for name, page in pages(harness).items():
        labels = set(re.findall(r'<label for="(\w+)"', page))
        for tag in re.findall(r"<(?:input|textarea)[^>]*>", page):
            if 'type="hidden"' in tag or 'type="radio"' in tag or "aria-label=" in tag:
                continue
            identifier = re.search(r' id="(\w+)"', tag)
            assert identifier is not None, (name, tag)
            assert identifier[1] in labels, (name, tag)
        for form in re.findall(r'<form[^>]*method="post".*?</form>', page, re.DOTALL):
            assert "csrf_token" in form or 'action="/portal/open"' in form, name
        headings = [int(level) for level in re.findall(r"<h([1-6])", page)]
        assert headings[0] == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(headings)), name


def test_script_opens_the_link_and_removes_the_token(harness: ApiHarness, tmp_path: Path) -> None:
    if BROWSER is None:
        skip_or_fail("Chromium is not installed; the package is chromium")
    address = f"{harness.url}/portal/open#{create_link(harness, factories.WAREHOUSE).partition('#')[2]}"
    shown = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=8000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert f"<code>{factories.WAREHOUSE}</code>, warehouse" in shown
