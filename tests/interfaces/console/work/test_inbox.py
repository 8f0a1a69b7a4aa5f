"""The console's inbox: what needs a person is grouped by cause, and a remedy is applied only after it was reviewed."""

import html
import re
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.models import PartnerChannel
from pipeline.core import tenancy
from pipeline.core.db import database_now
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.submissions import broker_answers, overdue
from pipeline.exports.audit_trail import list_acts
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from pipeline.exports.schemas.inbox import Cause
from pipeline.interfaces.console.work import inbox as inbox_pages
from pipeline.interfaces.console.work.inbox_views import ChosenItem
from pipeline.ops import work_counts
from pipeline.workflow import inbox
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
    return post_items(client, step, remedy, *(ChosenItem(export_id=each).value for each in targets))


def post_items(client: httpx.Client, step: str, remedy: str, *values: str, note: str = "") -> httpx.Response:
    """Send values of checkboxes."""
    form = {"csrf_token": read_csrf_token(client), "remedy": remedy, "target": list(values), "note": note}
    return client.post(f"/console/inbox/{step}", data=form)


def read_targets(page: str) -> list[str]:
    """Return the values of the checkboxes or hidden fields of a page."""
    return [html.unescape(each) for each in re.findall(r'name="target" value="([^"]+)"', page)]


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
    [({"csrf_token": "0" * 64}, 403), ({"remedy": "delete"}, 400), ({"remedy": ""}, 400), ({"target": []}, 400)],
)
def test_hostile_form_changes_nothing(
    harness: ApiHarness, step: str, changes: dict[str, str | list[str]], status: int
) -> None:
    (failed,) = fail_exports(harness, "a")
    client = sign_in_browser(harness, "read", "operate")
    form = {
        "csrf_token": read_csrf_token(client),
        "remedy": "retry",
        "target": [ChosenItem(export_id=failed).value],
        **changes,
    }
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
        session.execute(update(BrokerSubmission).values(deadline_at=database_now(-90 * 86_400)))
    overdue.notify_overdue(harness.runtime)
    client = sign_in_browser(harness, "read", "operate")
    page = client.get("/console/inbox").text
    assert page.index("Overdue") < page.index("Failed")
    (target,) = [each for each in read_targets(page) if "delivery=" in each]
    assert "answer due <time" in page
    assert "1 message?" in post_items(client, "review", "resend", target).text
    done = post_items(client, "apply", "resend", target).text
    assert "is pending again" in done
    assert "cannot be undone" in done
    with harness.runtime.db.read() as session:
        states = session.scalars(select(Delivery.state).where(col(Delivery.audience) == "customs_broker")).all()
    assert states == ["pending"]


def answer(harness: ApiHarness, status: str, batch: str = "asked", answer_id: str = "a-1", **facts: Any) -> str:
    """Execute an export whose customs broker answers with a status; return its id."""
    export_id = harness.execute(factories.plan(batch=batch, invoice=f"INV-{batch}"))
    harness.run(export_id)
    answer_again(harness, export_id, status, answer_id, **facts)
    return export_id


def answer_again(harness: ApiHarness, export_id: str, status: str, answer_id: str, **facts: Any) -> None:
    with harness.runtime.db.read() as session:
        query = select(BrokerSubmission.id).where(col(BrokerSubmission.export_id) == export_id)
        submission_id = session.exec(query).one()
    body = AcknowledgementBody.model_validate({"id": answer_id, "status": status, **facts})
    broker_answers.receive_answer(harness.runtime, submission_id, body, "partner:br")


@pytest.mark.parametrize(("status", "amends"), [("rejected", 1), ("query", 1), ("held", 0)])
def test_answer_has_its_remedies_and_no_others(harness: ApiHarness, status: str, amends: int) -> None:
    export_id = answer(harness, status, message="See <this>.")
    page = sign_in_browser(harness, "read", "operate").get("/console/inbox").text
    assert f'href="/console/exports/{export_id}"' in page
    assert page.count(f'href="/console/exports/{export_id}/amend"') == amends
    assert re.findall(r'name="remedy" value="(\w+)"', page) == ["acknowledge"]
    assert "See &lt;this&gt;." in page
    assert "entry on 2026-" in page


def test_acknowledged_export_leaves_the_inbox_and_is_put_back(harness: ApiHarness) -> None:
    export_id = answer(harness, "query")
    client = sign_in_browser(harness, "read", "operate")
    targets = read_targets(client.get("/console/inbox").text)
    review = post_items(client, "review", "acknowledge", *targets, note="asked <them>")
    assert "asked &lt;them&gt;</textarea>" in review.text
    done = post_items(client, "apply", "acknowledge", *targets, note="asked <them>")
    assert "is acknowledged" in done.text
    assert "Nothing needs a person." in client.get("/console/inbox").text
    listed = client.get("/console/inbox?acknowledged=true").text
    assert "asked &lt;them&gt;" in listed
    assert re.search(r"by [0-9a-f]{8}@maple.example, <time", listed)
    assert export_id in listed
    assert "is in the inbox again" in post_items(client, "apply", "reopen", *read_targets(done.text)).text
    assert export_id in client.get("/console/inbox").text
    assert "Nothing is acknowledged." in client.get("/console/inbox?acknowledged=true").text


def test_new_fact_brings_an_acknowledged_export_back(harness: ApiHarness) -> None:
    export_id = answer(harness, "query")
    client = sign_in_browser(harness, "read", "operate")
    targets = read_targets(client.get("/console/inbox").text)
    post_items(client, "apply", "acknowledge", *targets)
    answer_again(harness, export_id, "query", "a-2", message="And the weight?")
    assert "And the weight?" in client.get("/console/inbox").text


def test_fact_that_the_person_did_not_see_is_not_acknowledged(harness: ApiHarness) -> None:
    export_id = answer(harness, "query")
    client = sign_in_browser(harness, "read", "operate")
    targets = read_targets(client.get("/console/inbox").text)
    answer_again(harness, export_id, "query", "a-2", message="And the weight?")
    assert "a new fact about export" in post_items(client, "apply", "acknowledge", *targets).text
    assert export_id in client.get("/console/inbox").text


def test_note_that_is_too_long_comes_back_as_typed(harness: ApiHarness) -> None:
    answer(harness, "query")
    client = sign_in_browser(harness, "read", "operate")
    targets = read_targets(client.get("/console/inbox").text)
    response = post_items(client, "apply", "acknowledge", *targets, note="x" * 1001)
    assert response.status_code == 400
    assert "x" * 1001 in response.text
    assert read_targets(response.text) == targets


def test_failed_export_cannot_be_acknowledged(harness: ApiHarness) -> None:
    (failed,) = fail_exports(harness, "a")
    client = sign_in_browser(harness, "read", "operate")
    assert "retry, cancel or amend it" in post(client, "apply", "acknowledge", failed).text


@pytest.mark.parametrize("value", ["", "&&&", "export=%00", "seen=999999999999999999999&export=exp_1", "exp_1"])
def test_hostile_target_is_refused(harness: ApiHarness, value: str) -> None:
    client = sign_in_browser(harness, "read", "operate")
    response = post_items(client, "apply", "acknowledge", value or "x")
    assert response.status_code in {200, 400}
    assert "not done" in response.text or response.status_code == 400


def test_large_choice_is_continued_by_the_next_request(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = fail_exports(harness, "a", "b", "c")
    client = sign_in_browser(harness, "read", "operate")
    monkeypatch.setattr(inbox_pages, "_APPLY_SECONDS", 0.0)
    stopped = post(client, "apply", "retry", *failed).text
    assert "0 of 3 done, 3 not tried yet" in stopped
    monkeypatch.undo()
    done = post_items(client, "apply", "retry", *read_targets(stopped)).text
    assert "3 of 3 done" in done
    assert set(read_states(harness).values()) == {"executing"}


def pause_warehouse(harness: ApiHarness) -> None:
    partners.pause_partner(harness.runtime, factories.ACCOUNT, factories.WAREHOUSE)


def test_paused_partner_is_resumed_and_paused_again(harness: ApiHarness) -> None:
    harness.execute(factories.plan())
    pause_warehouse(harness)
    operator = sign_in_browser(harness, "read", "operate").get("/console/inbox").text
    assert "Paused" in operator
    assert 'value="resume"' not in operator
    client = sign_in_browser(harness, "read", "admin")
    page = client.get("/console/inbox").text
    done = post_items(client, "apply", "resume", *read_targets(page))
    assert "is resumed" in done.text
    assert "Nothing needs a person." in client.get("/console/inbox").text
    with harness.runtime.db.read() as session:
        act = list_acts(session, factories.ACCOUNT, limit=1).items[0]
    assert (act.action, act.subject) == ("partner_resumed", factories.WAREHOUSE)
    assert "is paused" in post_items(client, "apply", "pause", *read_targets(done.text)).text
    assert "Paused" in client.get("/console/inbox").text


def kill_messages(harness: ApiHarness, *batches: str) -> list[str]:
    """Execute exports whose messages to the warehouse are dead letters."""
    export_ids = [harness.execute(factories.plan(batch=batch, invoice=f"INV-{batch}")) for batch in batches]
    for each in export_ids:
        harness.run(each)
    with harness.runtime.db.write() as session:
        session.execute(
            update(Delivery)
            .where(col(Delivery.audience) == "warehouse")
            .values(state="dead", error="the queue is full", due_at=None)
        )
    return export_ids


def test_dead_letters_are_grouped_by_partner_and_failure(harness: ApiHarness) -> None:
    kill_messages(harness, "a", "b")
    groups = inbox.group_items(inbox.load_inbox(harness.runtime, factories.ACCOUNT))
    (group,) = [each for each in groups if each.cause is Cause.DEAD_LETTER]
    assert (group.partner_id, {each.batch_id for each in group.items}) == (factories.WAREHOUSE, {"a", "b"})
    page = sign_in_browser(harness, "read", "operate").get("/console/inbox").text
    assert "Test the connection" not in page, "only an administrator may test"
    assert "Test the connection" in sign_in_browser(harness, "read", "admin").get("/console/inbox").text


def test_each_dead_letter_leads_to_its_message(harness: ApiHarness) -> None:
    kill_messages(harness, "a")
    client = sign_in_browser(harness, "read")
    links = re.findall(r'<a href="(/console/deliveries/[^"]+)"[^>]*>Package<', client.get("/console/inbox").text)
    assert len(links) == len(set(links)) == 2
    assert len({client.get(each).text for each in links}) == 2


def test_connection_is_tested_from_a_group_and_its_messages_resent(harness: ApiHarness) -> None:
    kill_messages(harness, "a")
    with harness.runtime.db.write() as session:
        session.add(
            PartnerChannel(
                account_id=factories.ACCOUNT,
                partner_id=factories.WAREHOUSE,
                channel="queue",
                endpoint={"channel": "queue"},
            )
        )
    client = sign_in_browser(harness, "read", "admin", "operate")
    targets = read_targets(client.get("/console/inbox").text)
    form = {"csrf_token": read_csrf_token(client), "partner": factories.WAREHOUSE, "target": targets}
    tested = client.post("/console/inbox/test", data=form)
    assert tested.status_code == 200
    assert "Connection test of" in tested.text
    assert ">queue " in tested.text
    assert read_targets(tested.text) == targets
    assert client.post("/console/inbox/test", data=form | {"partner": "wh_none"}).status_code == 404
    operator = sign_in_browser(harness, "read", "operate")
    denied = form | {"csrf_token": read_csrf_token(operator)}
    assert operator.post("/console/inbox/test", data=denied).status_code == 403


def test_export_with_several_dead_letters_is_acknowledged_once(harness: ApiHarness) -> None:
    (export_id,) = kill_messages(harness, "a")
    client = sign_in_browser(harness, "read", "operate")
    targets = read_targets(client.get("/console/inbox").text)
    assert len(targets) > 1
    assert "1 of 1 done" in post_items(client, "apply", "acknowledge", *targets).text
    assert "Nothing needs a person." in client.get("/console/inbox").text
    with harness.runtime.db.read() as session:
        types = session.scalars(select(Event.type).where(col(Event.export_id) == export_id)).all()
    assert types.count("OUTCOME_ACKNOWLEDGED") == 1


def test_menu_counts_the_open_items(harness: ApiHarness) -> None:
    answer(harness, "query")
    fail_exports(harness, "a")
    client = sign_in_browser(harness, "read", "operate")
    assert "Inbox</a>" in client.get("/console").text, "nothing was counted yet"
    with tenancy.account_scope(tenancy.ALL_ACCOUNTS):
        work_counts.keep_counts(harness.runtime)
    assert 'Inbox <span class="pill bad">2</span>' in client.get("/console").text


def test_cause_with_many_exports_lists_the_oldest_and_links_to_more(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_pages, "_FIRST_ITEMS", 2)
    monkeypatch.setattr(inbox_pages, "PAGE_SIZE", 3)
    oldest = fail_exports(harness, "a", "b", "c", "d")
    (group,) = inbox.group_items(inbox.load_inbox(harness.runtime, factories.ACCOUNT, limit=2))
    assert (group.more, [each.export_id for each in group.items]) == (True, oldest[:2])
    client = sign_in_browser(harness, "read")
    page = client.get("/console/inbox").text
    assert "the oldest 2" in page
    (link,) = re.findall(r'<a href="(/console/inbox\?cause=\w+)">', page)
    page = client.get(link).text
    assert ("Only this cause: Failed" in page, "the oldest 3" in page, "Show more" in page) == (True, True, False)
    assert client.get("/console/inbox?cause=none").status_code == 400


def test_many_quarantined_exports_hide_no_failed_one(harness: ApiHarness) -> None:
    *quarantined, failed = fail_exports(harness, "a", "b", "c")
    with harness.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id).in_(quarantined)).values(quarantined=True))
    found = inbox.load_inbox(harness.runtime, factories.ACCOUNT, limit=1)
    assert {each.cause: each.export_id for each in found.items} == {
        Cause.QUARANTINED: quarantined[0],
        Cause.FAILED: failed,
    }
    assert found.cut == [Cause.QUARANTINED]
    body = harness.client().get("/api/inbox", params={"limit": 1}).json()
    assert (len(body["items"]), body["cut"]) == (2, ["quarantined"])
