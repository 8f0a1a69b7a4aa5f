"""The console's inbox: what needs a person is grouped by cause, and a remedy is applied only after it was reviewed."""

from __future__ import annotations

import re

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core.db import database_now
from pipeline.deliveries import overdue
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.exports.models import Export
from pipeline.workflow import inbox
from pipeline.workflow.inbox import Cause
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories


def fail_exports(harness: ApiHarness, *batches: str, reason: str = "the renderer died") -> list[str]:
    """Accept exports and mark them as failed."""
    export_ids = [harness.execute(factories.plan(batch=batch)) for batch in batches]
    with harness.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id).in_(export_ids)).values(state="failed", failure=reason))
    return export_ids


def read_csrf_token(client: httpx.Client) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', client.get("/console/inbox").text)
    assert found
    return found[1]


def post(client: httpx.Client, step: str, remedy: str, *targets: str) -> httpx.Response:
    form = {"csrf_token": read_csrf_token(client), "remedy": remedy, "target": list(targets)}
    return client.post(f"/console/inbox/{step}", data=form)


def read_states(harness: ApiHarness) -> dict[str, str]:
    with harness.runtime.db.read() as session:
        return {row.id: row.state for row in session.scalars(select(Export))}


def test_empty_inbox_says_so(harness: ApiHarness) -> None:
    assert "Nothing needs a person." in sign_in_browser(harness, "read").get("/console/inbox").text


def test_failed_exports_are_grouped_by_reason_and_retried_in_bulk(harness: ApiHarness) -> None:
    first, second = fail_exports(harness, "a", "b")
    (other,) = fail_exports(harness, "c", reason="<script>no room</script>")
    client = sign_in_browser(harness, "read", "operate")
    page = client.get("/console/inbox").text
    assert page.count('<section class="card">') == 2
    assert "<script>" not in page
    reviewed = post(client, "review", "retry", first, second)
    assert "Retry 2 exports?" in reviewed.text
    assert set(read_states(harness).values()) == {"failed"}
    harness.publisher.tasks.clear()
    done = post(client, "apply", "retry", first, second)
    assert done.text.count("continues") == 2
    assert read_states(harness) == {first: "executing", second: "executing", other: "failed"}
    assert {task.export_id for task in harness.publisher.tasks} == {first, second}


def test_refused_item_does_not_stop_the_others(harness: ApiHarness) -> None:
    first, second = fail_exports(harness, "a", "b")
    client = sign_in_browser(harness, "read", "operate")
    post(client, "apply", "cancel", first)
    done = post(client, "apply", "retry", first, "exp_unknown", second)
    assert done.text.count("not done") == 2
    assert read_states(harness) == {first: "cancelled", second: "executing"}


def test_reader_sees_no_button_and_may_apply_nothing(harness: ApiHarness) -> None:
    (failed,) = fail_exports(harness, "a")
    client = sign_in_browser(harness, "read")
    page = client.get("/console/inbox").text
    assert "<button" not in page.split("<main")[1]
    for step in ("review", "apply"):
        assert post(client, step, "retry", failed).status_code == 403
    assert read_states(harness) == {failed: "failed"}


@pytest.mark.parametrize("step", ["review", "apply"])
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"csrf_token": "0" * 64}, 403),
        ({"remedy": "delete"}, 400),
        ({"remedy": ""}, 400),
        ({"target": []}, 400),
    ],
)
def test_hostile_form_changes_nothing(
    harness: ApiHarness, step: str, changes: dict[str, str | list[str]], status: int
) -> None:
    (failed,) = fail_exports(harness, "a")
    client = sign_in_browser(harness, "read", "operate")
    form = {"csrf_token": read_csrf_token(client), "remedy": "retry", "target": [failed], **changes}
    assert client.post(f"/console/inbox/{step}", data=form).status_code == status
    assert read_states(harness) == {failed: "failed"}
    assert harness.client_with_key(None).post(f"/console/inbox/{step}", data=form).status_code == 303


def test_export_of_another_account_is_not_changed(harness: ApiHarness) -> None:
    (failed,) = fail_exports(harness, "a")
    stranger = sign_in_browser(harness, "read", "operate", account="acc_other")
    assert "a</a>" not in stranger.get("/console/inbox").text
    assert "not done" in post(stranger, "apply", "cancel", failed).text
    assert read_states(harness) == {failed: "failed"}


def test_overdue_handoff_is_first_and_can_be_resent(harness: ApiHarness) -> None:
    fail_exports(harness, "failed")
    export_id = harness.execute(factories.plan(batch="late"))
    harness.run(export_id)
    with harness.runtime.db.write() as session:
        session.execute(update(BrokerSubmission).values(deadline_at=database_now(-3600)))
    overdue.notify_overdue(harness.runtime)
    client = sign_in_browser(harness, "read", "operate")
    page = client.get("/console/inbox").text
    assert page.index("Overdue") < page.index("Failed")
    (target,) = re.findall(r'name="target" value="(dlv_\w+)"', page)
    assert "1 message?" in post(client, "review", "resend", target).text
    assert "is pending again" in post(client, "apply", "resend", target).text
    with harness.runtime.db.read() as session:
        assert session.get_one(Delivery, target).state == "pending"


@pytest.mark.parametrize("status", ["rejected", "query", "held"])
def test_answers_that_need_a_person_lead_to_the_export(harness: ApiHarness, status: str) -> None:
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    with harness.runtime.db.write() as session:
        session.execute(update(BrokerSubmission).values(state=status))
    page = sign_in_browser(harness, "read", "operate").get("/console/inbox").text
    assert f'href="/console/exports/{export_id}"' in page
    assert 'name="target"' not in page


def test_dead_letters_are_grouped_by_partner_and_failure(harness: ApiHarness) -> None:
    for batch in ("a", "b"):
        harness.run(harness.execute(factories.plan(batch=batch)))
    with harness.runtime.db.write() as session:
        session.execute(
            update(Delivery)
            .where(col(Delivery.audience) == "warehouse")
            .values(state="dead", error="the queue is full", due_at=None)
        )
    (group,) = [
        each for each in inbox.load_inbox(harness.runtime, factories.ACCOUNT) if each.cause is Cause.DEAD_LETTER
    ]
    assert (group.partner_id, {each.batch_id for each in group.items}) == (factories.WAREHOUSE, {"a", "b"})
    page = sign_in_browser(harness, "read", "operate").get("/console/inbox").text
    assert "Test the connection" in page


def test_cause_with_many_exports_lists_the_oldest(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MOST_ITEMS", 2)
    oldest = fail_exports(harness, "a", "b", "c")
    (group,) = inbox.load_inbox(harness.runtime, factories.ACCOUNT)
    assert (group.more, [each.export_id for each in group.items]) == (True, oldest[:2])
    assert "the oldest 2" in sign_in_browser(harness, "read").get("/console/inbox").text
