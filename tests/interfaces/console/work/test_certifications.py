"""The console's page of USMCA certifications, and the line of the first page that leads to it before one ends."""

from datetime import date, timedelta
from typing import Any

from pipeline.customs import certifications
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories


def keep(harness: ApiHarness, sku: str, days: int, **changes: Any) -> None:
    """Keep the certification of a product that ends in so many days."""
    ends: date = harness.runtime.clock().date() + timedelta(days=days)
    row = {
        "account_id": factories.ACCOUNT, "hs_code": "610910", "sku": sku, "blanket_to": ends,
        "blanket_from": ends - timedelta(days=364), "certifier_name": "Maple <Goods> Ltd", "ref": "C1",
        "certifier_role": "producer", "criterion": "B", "signed_on": ends - timedelta(days=364), "export_id": "exp_1",
    }  # fmt: skip
    with harness.runtime.db.write() as session:
        certifications.keep_certifications(session, [row | changes])


def test_page_lists_certifications_of_the_account_by_their_end(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    assert "No live export claims USMCA" in client.get("/console/certifications").text
    keep(harness, "LATER", 200)
    keep(harness, "SOON & <NEAR>", 30)
    keep(harness, "ENDED", -1)
    page = client.get("/console/certifications").text
    assert page.index("SOON &amp; &lt;NEAR&gt;") < page.index("LATER")
    assert "ENDED" not in page
    assert "<bdi>Maple &lt;Goods&gt; Ltd</bdi> (producer)" in page
    assert '<span class="pill bad">30 days</span>' in page
    assert '<a href="/console/exports/exp_1">its documents</a>' in page


def test_first_page_says_how_many_end_soon(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "read")
    quiet = '<a href="/console/certifications">USMCA certifications</a> in use.'
    keep(harness, "LATER", 31)
    assert quiet in client.get("/console").text
    keep(harness, "SOON", 30)
    assert '<a href="/console/certifications">1 product</a> ends within 30 days' in client.get("/console").text
    keep(harness, "SOON", 395)
    assert quiet in client.get("/console").text
