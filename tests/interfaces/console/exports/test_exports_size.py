"""Pages of a large export: what they ask the database, and their size, do not grow with its units."""

from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from pipeline.deliveries import history
from pipeline.interfaces.console.exports import amendments, exports
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.portal.conftest import open_portal
from tests.support import factories
from tests.support.query_counter import count_reads, record_statements

#: More units than any page shows.
FEW, MANY = 21, 42
#: The groups of units in the chart, and the list of an export's finished steps, may have some more rows.
ROWS: Final = 20
#: Page -> the most bytes that it has for an export of any size.
PAGES: Final = {
    "": 150_000,
    "/units": 140_000,
    "/lines": 110_000,
    "/findings": 40_000,
    "/findings?notes=true": 40_000,
    "/deliveries": 60_000,
    "/events": 70_000,
    "/amend": 20_000,
}
HANDOFF_BYTES: Final = 100_000


@dataclass(frozen=True)
class Cost:
    """What a page costs: the statements, the rows that they find, and the bytes of the page."""

    statements: list[str]
    rows: int
    size: int


def reject_export(harness: ApiHarness, units: int) -> tuple[str, str]:
    """Return an export of so many units whose customs broker rejects a field of the last one, and its submission."""
    export_id = harness.execute(
        factories.plan(units=units, lines=1, packages=1, batch=f"batch_{units}", invoice=f"N{units}")
    )
    harness.run(export_id)
    api = harness.client()
    submission = str(api.get(f"/api/exports/{export_id}").json()["broker_submission"]["id"])
    fields = [{"pointer": f"/units/{place}/lines/0/htsCode", "message": "another one"} for place in (0, units - 1)]
    answer = {"id": "a1", "status": "rejected", "fields": fields}
    api.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).raise_for_status()
    return export_id, submission


def measure_page(harness: ApiHarness, client: httpx.Client, address: str) -> Cost:
    client.get(address)  # what is read once in a process
    with count_reads(harness.runtime.db) as rows, record_statements(harness.runtime.db) as statements:
        page = client.get(address)
    assert page.status_code == 200, page.text
    return Cost([each for each in statements if not each.startswith("BEGIN")], sum(rows), len(page.content))


@pytest.mark.system
@pytest.mark.timeout(300)
def test_pages_do_not_grow_with_the_units(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    # As for 500 units: their plan is not shown as a text, and each list has more rows than its page.
    monkeypatch.setattr(amendments, "MAX_TEXT", 20_000)
    monkeypatch.setattr(history, "MAX_DELIVERIES", 15)
    monkeypatch.setattr(exports, "PAGE_SIZE", 20)
    browser, portal = sign_in_browser(harness, "read", "operate"), open_portal(harness, factories.BROKER)
    small, large = (reject_export(harness, units) for units in (FEW, MANY))
    costs = {
        page: [measure_page(harness, browser, f"/console/exports/{export}{page}") for export, _ in (small, large)]
        for page in PAGES
    }
    costs["handoff"] = [
        measure_page(harness, portal, f"/portal/handoffs/{submission}") for _, submission in (small, large)
    ]
    for page, (few, many) in costs.items():
        assert len(many.statements) <= len(few.statements), page
        assert many.rows <= few.rows + ROWS, page
        assert many.size <= few.size * 1.1, page
        assert many.size <= PAGES.get(page, HANDOFF_BYTES), page
    assert [each for each in costs["/amend"][1].statements if "plans.document," in each] == []


def test_counted_rows_are_those_of_each_statement(harness: ApiHarness) -> None:
    with count_reads(harness.runtime.db) as rows:
        harness.client().get("/api/partners").raise_for_status()
    assert max(rows) == 5
