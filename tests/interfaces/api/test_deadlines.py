"""What is due next, over HTTP: in the order of time, in pages, and only of the own account."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, update
from sqlmodel import SQLModel

from pipeline.accounts import leads
from pipeline.core.db import database_now, table
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.models import Export
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.api.test_errors import assert_refused
from tests.support import factories, stored
from tests.support.query_counter import record_plans

MINUTES = [f"{each}Minutes" for each in leads.STATUSES]
#: The open handoffs of the test, and how many of them are due together.
OPEN, TOGETHER = 200, 4


def read_row(harness: ApiHarness, model: type[SQLModel]) -> dict[str, Any]:
    with harness.runtime.db.read() as session:
        return dict(session.execute(select(table(model))).one()._mapping)


def open_handoffs(harness: ApiHarness) -> datetime:
    """Hand off an export, and add copies of it, which are due by the hour; return when the first is due."""
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    with harness.runtime.db.read() as session:
        first: datetime = session.execute(select(database_now(1800))).scalar_one()
    stored.change(harness.runtime, update(BrokerSubmission).values(deadline_at=first))
    export, submission = read_row(harness, Export), read_row(harness, BrokerSubmission)
    copies = range(1, OPEN)
    exports = [export | {"id": f"exp_{n:03}", "batch_id": f"batch_{n:03}"} for n in copies]
    handoffs = [
        submission
        | {"id": f"sub_{n:03}", "export_id": f"exp_{n:03}", "deadline_at": first + timedelta(hours=n // TOGETHER)}
        for n in copies
    ]
    with harness.runtime.db.write() as session:
        session.execute(insert(table(Export)), exports)
        session.execute(insert(table(BrokerSubmission)), handoffs)
    return first


def read_pages(client: httpx.Client, **query: Any) -> list[list[dict[str, Any]]]:
    pages: list[list[dict[str, Any]]] = []
    after: dict[str, str] = {}
    while True:
        page = client.get("/api/deadlines", params=query | after).raise_for_status().json()
        pages.append(page["items"])
        if page["nextAfter"] is None:
            return pages
        after = {"after": page["nextAfter"]}


@pytest.mark.databases
def test_what_is_due_next_is_paged_in_the_order_of_time(open_harness: Open, database_url: str) -> None:
    harness = open_harness(database_url)
    first, client = open_handoffs(harness), harness.client("read")
    with record_plans(harness.runtime.db) as plans:
        pages = read_pages(client, limit=30)
    assert any("ix_broker_submissions_account_id_deadline_at" in each for each in plans), plans
    assert not any("Sort" in each or "TEMP B-TREE" in each for each in plans), plans
    assert [len(page) for page in pages] == [*[30] * 6, 20]
    places = [(item["deadlineAt"], item["submissionId"]) for page in pages for item in page]
    assert places == sorted({*places})
    assert len(places) == OPEN
    (item, *_) = pages[-1][-1:]
    assert item == {
        "kind": "handoff",
        "exportId": "exp_199",
        "batchId": "batch_199",
        "revision": 1,
        "test": False,
        "partnerId": factories.BROKER,
        "partnerName": "of a test",
        "submissionId": "sub_199",
        "submissionStatus": "delivered",
        "deadlineAt": (first + timedelta(hours=49)).astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "overdueAt": None,
        "arrivesAt": None,
    }
    assert [len(page) for page in read_pages(client, within=1)] == [TOGETHER]
    assert [len(page) for page in read_pages(client, partner=factories.BROKER, limit=200)] == [OPEN]
    assert read_pages(client, partner=factories.WAREHOUSE) == [[]]
    # A page begins after the last one, though the handoff at its end was answered meanwhile.
    page = client.get("/api/deadlines", params={"limit": 1}).json()
    answered = table(BrokerSubmission).c.id == page["items"][0]["submissionId"]
    stored.change(harness.runtime, update(BrokerSubmission).where(answered).values(deadline_at=None))
    assert sum(len(each) for each in read_pages(client, after=page["nextAfter"], limit=200)) == OPEN - 1
    assert read_pages(harness.client(account=OTHER)) == [[]]


@pytest.mark.databases
def test_summaries_stand_between_the_handoffs(open_harness: Open, database_url: str) -> None:
    harness = open_harness(database_url)
    open_handoffs(harness)
    client, row = harness.client("read"), table(BrokerSubmission).c
    # Each handoff has a summary as well, at the same instant; a page may end between the two.
    stored.change(harness.runtime, update(BrokerSubmission).values(summary_due_at=row.deadline_at))
    with record_plans(harness.runtime.db) as plans:
        pages = read_pages(client, limit=33)
    assert any("ix_broker_submissions_account_id_summary_due_at" in each for each in plans), plans
    assert not any("Sort" in each or "TEMP B-TREE" in each for each in plans), plans
    found = [(item["deadlineAt"], item["submissionId"], item["kind"]) for page in pages for item in page]
    assert found == sorted({*found})
    assert len(found) == 2 * OPEN
    assert [item["kind"] for item in read_pages(client, within=1)[0]] == ["handoff", "summary"] * TOGETHER
    token = harness.client("admin").post("/api/deadlines/calendar").raise_for_status().json()["url"]
    feed = harness.client_with_key(None).get(token.removeprefix(harness.runtime.settings.public_url)).text
    assert feed.count("must file the entry summary") == OPEN


@pytest.mark.parametrize(
    "after", ["x", "2026-11-26T16:00:00Z", "2026-11-26T16:00:00.sub_1", "0001-01-01T00:00:00+23:00.sub_1"]
)
def test_unknown_place_is_refused(harness: ApiHarness, after: str) -> None:
    assert_refused(
        harness.client().get("/api/deadlines", params={"after": after}), 400, "VALIDATION_ERROR", "/query/after"
    )


LEADS = "/api/deadlines/leads"


def test_leads_are_of_their_account_and_replaced_by_mode(harness: ApiHarness) -> None:
    client, none = harness.client("admin"), dict.fromkeys(MINUTES)
    assert client.get(LEADS).json() == dict.fromkeys(leads.MODES, none)
    client.patch(LEADS, json={"truck": {"filedMinutes": 60}, "air": {"filedMinutes": 0}})
    changed = client.patch(LEADS, json={"truck": {"receivedMinutes": 43_200}, "air": None, "rail": {}}).json()
    assert changed == dict.fromkeys(leads.MODES, none) | {"truck": none | {"receivedMinutes": 43_200}}
    assert harness.client("read").get(LEADS).json() == client.patch(LEADS, json={}).json() == changed
    assert harness.client("read", account=OTHER).get(LEADS).json() == dict.fromkeys(leads.MODES, none)
    acts = client.get("/api/audit").json()["items"]
    assert [each["detail"] for each in acts if each["action"] == "deadline_leads_changed"] == [
        {"truck": "received 43200 min", "rail": "default", "air": "default"},
        {"truck": "filed 60 min", "air": "filed 0 min"},
    ]


@pytest.mark.parametrize("minutes", [-1, 43_201, 1.5, "60", True])
def test_lead_beyond_its_bounds_names_field_and_remedy(harness: ApiHarness, minutes: object) -> None:
    refused = harness.client("admin").patch(LEADS, json={"air": {"filedMinutes": minutes}})
    assert (refused.status_code, refused.json()["pointer"]) == (400, "/air/filedMinutes")
    assert "must be" in refused.json()["message"]
