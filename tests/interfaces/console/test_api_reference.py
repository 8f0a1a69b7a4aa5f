"""The API reference in a real browser: whole, on a desktop and a phone, and without one request to another host."""

import httpx
import pytest

from pipeline.interfaces.api.openapi import REFUSALS_BY_CODE
from pipeline.interfaces.api.remedies import REMEDIES
from pipeline.interfaces.pages import assets
from pipeline.interfaces.pages.assets import VIEWER
from tests.interfaces.api.conftest import ApiHarness
from tests.support.browser import find_violations, open_browser


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_reference_shows_every_call_and_loads_from_its_own_host(harness: ApiHarness, width: int, *, dark: bool) -> None:
    client = harness.client_with_key(None)
    document = client.get("/openapi.json").json()
    asked: list[str] = []
    # At the end, it fails if the content security policy refused anything.
    with open_browser(client, width=width, dark=dark) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/docs")
        page.get_by_role("heading", name="Execute an approved plan").first.wait_for(timeout=60_000)
        page.wait_for_load_state("networkidle")
        # On a phone, the page shows what comes near.
        names = [tag["name"] for tag in document["tags"]]
        page.wait_for_function(
            "(names) => { window.scrollBy(0, 2000); return names.every((name) => document.body.innerText.includes(name)) }",
            arg=names,
            polling=200,
            timeout=60_000,
        )
        shown = page.evaluate("document.body.innerText")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate(
            "getComputedStyle(document.querySelector('.scalar-app')).getPropertyValue('--scalar-background-1')"
        )
        violations = find_violations(page)
    assert violations == {}
    assert "curl" in shown
    assert "/api/exports/execute" in shown
    assert [tag["name"] for tag in document["tags"] if tag["name"] not in shown] == []
    assert (background.strip().lower() in {"#fff", "#ffffff"}) is not dark
    base = str(client.base_url)
    assert f"{base.rstrip('/')}/console/assets/{VIEWER}" in asked
    assert [url for url in asked if httpx.URL(url).host != client.base_url.host and not url.startswith("data:")] == []
    # The browser asks for the icon again when the address names another section.
    assert len(set(asked)) <= 6, asked


def test_reference_needs_no_key_and_allows_no_inline_script(harness: ApiHarness) -> None:
    answer = harness.client_with_key(None).get("/docs")

    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["default-src"] == "'none'"
    assert "<script>" not in answer.text
    assert f'"/console/assets/{VIEWER}"' in answer.text


def test_viewer_is_compressed_for_those_that_accept_it(harness: ApiHarness) -> None:
    address = f"/console/assets/{VIEWER}"
    plain = harness.client_with_key(None).get(address, headers={"Accept-Encoding": "identity"})
    packed = harness.client_with_key(None).get(address, headers={"Accept-Encoding": "gzip"})

    assert plain.headers.get("content-encoding") is None
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert len(plain.content) > 3 * int(packed.headers["content-length"])
    assert b"1.76.0" in plain.content
    # Many callers that do not take their answer share its bytes.
    assert assets._viewer_response(False).body is assets._viewer_response(False).body


def test_every_error_code_has_a_cause_and_a_remedy() -> None:
    assert REMEDIES.keys() == REFUSALS_BY_CODE.keys()


def test_problem_leads_to_the_section_of_its_code(harness: ApiHarness) -> None:
    nobody = harness.client_with_key(None)
    problem = nobody.get("/api/exports").json()
    assert problem["type"] == "/docs/problems#INVALID_API_KEY"

    page, _, anchor = problem["help"].partition("#")
    with open_browser(nobody) as browser:
        browser.goto(f"{page}#{anchor}")
        section = browser.locator(f"#{anchor}")
        assert "What to do:" in section.inner_text()
        assert section.locator("h2").inner_text().startswith("INVALID_API_KEY")
        assert section.bounding_box() is not None
        shown = browser.locator("section").all_inner_texts()
    assert len(shown) == len(REMEDIES)
    assert all(code in "".join(shown) for code in REMEDIES)
