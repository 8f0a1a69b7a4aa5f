"""The pages of one export: order, deadlines, chart, lines with sources and reasons, and bounds for large exports."""

import re
from datetime import timedelta
from html import unescape
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlmodel import col

from pipeline.core.clock import utc_now
from pipeline.customs import rulesets
from pipeline.customs.reference.archive import RulesFiles
from pipeline.customs.reference.content import read_folder
from pipeline.customs.tariff.editions import remove_edition
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export, Step
from pipeline.exports.states import ExportState, SubmissionState
from pipeline.workflow.engine import run_step
from pipeline.workflow.read_model import build_view, load_export_rows
from tests.deliveries.test_outcomes import shape
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.rule_folders import write_rules
from tests.support.tariff import import_revision, plan_german_shirt


@pytest.fixture
def client(harness: ApiHarness) -> httpx.Client:
    return sign_in_browser(harness, "read")


def run(harness: ApiHarness, plan: factories.Json | None = None) -> str:
    export_id = harness.execute(plan or factories.plan())
    harness.run(export_id)
    return export_id


def list_headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(?:<a[^>]*>)?([^<]+?) *<", page)


def test_broker_and_deadline_come_first_then_what_needs_a_person(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness)
    shape(harness.runtime, export_id, status=SubmissionState.DELIVERED, overdue=True, dead="warehouse")
    page = client.get(f"/console/exports/{export_id}").text
    assert [each.strip() for each in list_headings(page)] == [
        factories.BROKER,
        "Deadlines",
        "What needs a person",
        "Time since acceptance",
        "Documents",
        "Lines",
        "Messages",
        "Revisions",
        "Events",
    ]
    assert "did not reach" in page
    assert re.search(r'<strong data-deadline="20[^"]+" class="refusal">overdue for [^<]+</strong>, since <time ', page)
    # The status is a sentence for machines, too; the page shows its instants in local time.
    assert re.search(r'class="status">[^<]*overdue: [^<]+ by <time datetime="20[^"]+Z">20[^<]+ UTC</time>', page)


def test_dead_letters_are_resent_from_the_page(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness)
    shape(harness.runtime, export_id, dead="warehouse")
    address = f"/console/exports/{export_id}"
    assert 'value="resend"' not in client.get(address).text
    operator = sign_in_browser(harness, "operate")
    page = operator.get(address).text
    assert "Test the connection" not in page
    (form,) = re.findall(r'<form method="post" action="/console/inbox/review".*?</form>', page, re.DOTALL)
    given = {"csrf_token": re.findall(r'name="csrf_token" value="([^"]+)"', form)[0], "remedy": "resend"}
    targets = [unescape(each) for each in re.findall(r'name="target" value="([^"]+)"', form)]
    review = operator.post("/console/inbox/review", data={**given, "target": targets}).text
    assert f"to {factories.WAREHOUSE}" in review
    assert "is pending again" in operator.post("/console/inbox/apply", data={**given, "target": targets}).text
    with harness.runtime.db.read() as session:
        states = session.scalars(select(col(Delivery.state)).where(col(Delivery.audience) == "warehouse")).all()
    assert {*states} == {"pending"}
    assert len(targets) == len(states)


def test_late_handoff_is_resent_from_the_page(harness: ApiHarness) -> None:
    export_id = run(harness)
    shape(harness.runtime, export_id, status=SubmissionState.DELIVERED, overdue=True)
    page = sign_in_browser(harness, "operate").get(f"/console/exports/{export_id}").text
    (form,) = re.findall(r'<form method="post" action="/console/inbox/review".*?</form>', page, re.DOTALL)
    (target,) = re.findall(r'name="target" value="([^"]+)"', form)
    with harness.runtime.db.read() as session:
        handoff = session.scalars(
            select(col(Delivery.id))
            .join(Notification, col(Notification.id) == col(Delivery.notification_id))
            .where(col(Notification.event_type) == MessageType.HANDOFF_READY.value)
        ).one()
    assert f"delivery={handoff}&" in unescape(target)
    assert re.findall(r'name="remedy" value="([^"]+)"', form) == ["resend", "acknowledge"]


def test_dead_letter_that_a_newer_revision_replaces_is_not_offered(harness: ApiHarness) -> None:
    export_id = run(harness)
    shape(harness.runtime, export_id, ExportState.SUPERSEDED, dead="customs_broker")
    page = sign_in_browser(harness, "operate").get(f"/console/exports/{export_id}").text
    assert "did not reach" not in page


def test_deadline_counts_down_until_it_passes(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness)
    shape(harness.runtime, export_id, status=SubmissionState.ACCEPTED)
    for seconds, text in ((3 * 3600 + 125, "due in 3 h 2 min, at "), (-65, "overdue for 1 min ")):
        with harness.runtime.db.write() as session:
            session.execute(update(BrokerSubmission).values(deadline_at=utc_now() + timedelta(seconds=seconds)))
        page = client.get(f"/console/exports/{export_id}").text
        assert f"{factories.BROKER} files the entry" in page
        assert text in re.sub(r"<[^>]+>", "", page[page.index('id="deadlines"') :][:600])


def test_buttons_need_the_role_and_lead_to_the_review(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = harness.execute(factories.plan())
    with harness.runtime.db.write() as session:
        session.execute(
            update(Export).where(col(Export.id) == export_id).values(state="failed", failure="<b>broken</b>")
        )
    page = client.get(f"/console/exports/{export_id}").text
    assert "A step failed: &lt;b&gt;broken&lt;/b&gt;" in page
    assert "/console/inbox/review" not in page
    operator = sign_in_browser(harness, "operate")
    page = operator.get(f"/console/exports/{export_id}").text
    target = re.findall(r'name="target" value="([^"]+)"', page)[0].replace("&amp;", "&")
    token = re.findall(r'name="csrf_token" value="([^"]+)"', page)[0]
    review = operator.post("/console/inbox/review", data={"csrf_token": token, "target": target, "remedy": "retry"})
    assert (review.status_code, factories.BATCH in review.text) == (200, True)


def test_chart_shows_steps_attempts_and_answers_and_a_table_says_the_same(
    harness: ApiHarness, client: httpx.Client
) -> None:
    export_id = run(harness, factories.plan(units=2))
    page = client.get(f"/console/exports/{export_id}").text
    for name in ("U1 record packages", "U2 render documents", "hand off", f"Handoff to {factories.BROKER}"):
        assert f">{name}</text>" in page
        assert f'<td class="whole">{name}</td>' in page
    assert re.search(r"<title>Handoff to [^:]+: attempt 1 delivered", page)


def test_events_name_who_acted_in_words(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness)
    page = client.get(f"/console/exports/{export_id}/events").text
    actors = {*re.findall(r'<td data-label="By">([^<]*)</td>', page)}
    assert {"delivery", "step render documents", "step hand off"} < actors
    assert [each[:8] for each in actors if not each.startswith("step ") and each != "delivery"] == ["API key "]


def test_chips_open_their_source_and_the_line_gives_the_reasons(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness)
    line = harness.client().get(f"/api/exports/{export_id}").json()["treatment"]["lines"][0]
    for address in (f"/console/exports/{export_id}", f"/console/exports/{export_id}/lines"):
        page = client.get(address).text
        for heading in line["chapter99"]:
            assert f'<a href="https://hts.usitc.gov/search?query={heading["heading"]}"' in page
        assert "<bdi>Section 301, forced labor, 0 %</bdi>" in page
        assert re.search(r"in force from 20\d\d-\d\d-\d\d until further notice", page)
    page = client.get(f"/console/exports/{export_id}/units/1/lines/1").text
    assert f"The reasons come from ruleset {factories.RULESET}, with which the export was executed." in page
    assert line["digest"] in page
    for heading in line["chapter99"]:
        assert re.search(rf"<strong>{re.escape(heading['heading'])}</strong>.*?in the plan", page)
    assert "Other headings that were considered" in page


def test_reasons_have_the_rate_of_the_acceptance(harness: ApiHarness, client: httpx.Client) -> None:
    import_revision(harness.runtime)
    export_id = run(harness, plan_german_shirt("rate", "9903.05.38"))
    remove_edition(harness.runtime, "hts_2026_revision_6")
    page = unescape(client.get(f"/console/exports/{export_id}/units/1/lines/2").text)
    assert "the column 1 rate is 10 % or more: column 1 of 6105.10.00 is 19.7% (edition hts_2026_revision_6" in page
    assert "a person must decide: the column 1 rate" not in page


def test_reasons_of_other_rules_say_so(harness: ApiHarness, client: httpx.Client, tmp_path: Path) -> None:
    export_id = run(harness)
    address = f"/console/exports/{export_id}/units/1/lines/1"
    rules = read_folder(write_rules(tmp_path / "rules", "us-newer"))
    with harness.runtime.db.write() as session:
        rulesets.store_rules(session, RulesFiles(rules, None), "a folder")
        session.execute(update(Export).values(ruleset_id="us-older", rules_hash=rules.content_hash))
    page = client.get(address).text
    assert "The plan was made by ruleset us-older. The reasons come from ruleset us-newer, with which" in page
    with harness.runtime.db.write() as session:
        session.execute(update(Export).values(rules_hash="sha256:unknown"))
    page = client.get(address).text
    assert "This version of the service cannot read the ruleset with which the export was executed." in page


def test_lines_that_do_not_exist_or_are_purged_have_a_clear_page(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness)
    assert client.get(f"/console/exports/{export_id}/units/1/lines/99").status_code == 404
    assert client.get(f"/console/exports/{export_id}/units/0/lines/1").status_code == 400
    wrong = client.get(f"/console/exports/{export_id}/lines?after=x")
    assert (wrong.status_code, "<p>The value <code>after</code> in the address must match" in wrong.text) == (400, True)
    with harness.runtime.db.write() as session:
        session.execute(update(Export).values(purged_at=utc_now()))
    purged = client.get(f"/console/exports/{export_id}/units/1/lines/1")
    assert (purged.status_code, "the export was purged" in purged.text) == (404, True)


@pytest.mark.system
def test_large_export_is_bounded_and_its_lists_go_on(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = run(harness, factories.plan(units=23, lines=3, packages=1))
    page = client.get(f"/console/exports/{export_id}").text
    assert len(page) < 300_000
    assert page.count('<details class="unit"') == 4
    assert ">all 23 units</a>" in page
    assert ">all 69 lines</a>" in page
    assert len(re.findall(r"<text x=\"0\"[^>]*>U\d+ to U\d+</text>", page)) <= 16
    with harness.runtime.db.read() as session:
        events, deliveries = (session.scalar(select(func.count()).select_from(each)) or 0 for each in (Event, Delivery))
    assert min(deliveries, events) > 20
    for name, pattern, total in (
        ("units", r'<details class="unit"', 23),
        ("lines", r'title="The reasons"', 69),
        ("events", r'<td data-label="No.">', events),
        ("deliveries", r'href="/console/deliveries/dlv_[^"]+"', deliveries),
    ):
        count, address = 0, f"/console/exports/{export_id}/{name}"
        while address:
            page = client.get(address).text
            count += len(re.findall(pattern, page))
            (address,) = re.findall(r'href="(/console/exports/[^"]+\?(?:after|before|cursor)=[^"]+)"', page) or [""]
        assert count == total, name


def test_only_the_shown_units_of_a_large_export_are_loaded(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = harness.execute(factories.plan(units=23, lines=1, packages=1))
    run_step(harness.runtime, export_id, 23, "record_packages")
    with harness.runtime.db.read() as session:
        rows = load_export_rows(session, session.get_one(Export, export_id), units_of=range(3, 6))
    # The first unit, those on the page, and the one with the step that is furthest behind.
    assert [each.unit_no for each in rows.units] == [1, 3, 4, 5]
    assert {each.unit_no for each in rows.steps} == {0, 1, 3, 4, 5}
    view = build_view(rows)
    assert [each.unit_ref for each in view.units] == ["U3", "U4", "U5"]
    assert view.status == "Recording packages: 1 of 23 units are closed"
    assert "1 unit closed" in client.get(f"/console/exports/{export_id}").text


def test_failed_unit_behind_the_shown_ones_is_named(harness: ApiHarness, client: httpx.Client) -> None:
    export_id = harness.execute(factories.plan(units=23, lines=1, packages=1))
    with harness.runtime.db.write() as session:
        of_unit = col(Step.export_id) == export_id, col(Step.unit_no) == 20, col(Step.name) == "record_packages"
        session.execute(update(Step).where(*of_unit).values(state="failed", error="no number", started_at=utc_now()))
        session.execute(update(Export).values(state="failed"))
    page = client.get(f"/console/exports/{export_id}").text
    assert "Failed at record_packages of U20: no number" in page
    assert "1 unit failed" in page


def test_pages_of_other_accounts_do_not_exist(harness: ApiHarness) -> None:
    export_id = run(harness)
    stranger = sign_in_browser(harness, "read", account=OTHER)
    addresses = [
        f"/console/exports/{export_id}{more}"
        for more in ("", "/units", "/lines", "/events", "/deliveries", "/units/1/lines/1", f"/compare/{export_id}")
    ]
    assert {stranger.get(address).status_code for address in addresses} == {404}
    assert {harness.client_with_key(None).get(address).status_code for address in addresses} == {303}


def amend(harness: ApiHarness, export_id: str, plan: factories.Json) -> str:
    body = {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
    response = harness.client().post(f"/api/exports/{export_id}/amend", json=body)
    assert response.status_code == 202, response.text
    harness.run(response.json()["exportId"])
    return str(response.json()["exportId"])


def test_revisions_are_compared_and_the_brokers_remarks_are_marked(harness: ApiHarness, client: httpx.Client) -> None:
    plan = factories.plan(lines=3)
    older = run(harness, plan)
    submission = harness.client().get(f"/api/exports/{older}").json()["broker_submission"]["id"]
    answer = {
        "id": "ack-1",
        "status": "rejected",
        "message": "correct it",
        "fields": [
            {"pointer": "/units/0/invoice/purchaseOrder", "message": "is <b>missing</b>"},
            {"pointer": "/units/0/invoice/saleDate", "message": "is a Sunday"},
        ],
    }
    assert (
        harness.client().post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer).status_code == 200
    )
    changed = factories.change_plan(plan, "/units/0/invoice/purchaseOrder", "PO-9")
    changed = factories.change_plan(
        changed, "/units/0/lines/0/description", "Polo shirts <i>of cotton</i>, knitted, for men"
    )
    changed = factories.change_plan(changed, "/units/0/parties/importerOfRecord/importerNumber", "987-65-4321")
    newer = amend(harness, older, changed)
    page = client.get(f"/console/exports/{newer}").text
    link = f"/console/exports/{older}/compare/{newer}"
    assert f'href="{link}">side by side' in page
    page = client.get(link).text
    assert page == client.get(f"/console/exports/{newer}/compare/{older}").text.replace(
        f"/console/exports/{newer}/compare/{older}", link
    )
    assert "<bdi>is &lt;b&gt;missing&lt;/b&gt;</bdi>" in page
    assert re.search(r"saleDate.*?not changed", page)
    assert re.search(r'purchase order.*?<bdi class="long new">PO-9</bdi>.*?added.*?the broker asked', page)
    assert "XXX-XX-4321" in page
    assert "987-65-4321" not in page
    assert "&lt;i&gt;of cotton&lt;/i&gt;" in page
    assert f'href="/console/exports/{older}/documents/' in page
    assert f'href="/console/exports/{newer}/documents/' in page
    same = client.get(f"/console/exports/{older}/compare/{older}").text
    assert "The plans do not differ" in same


def test_an_added_line_is_described_in_words_and_not_as_json(harness: ApiHarness, client: httpx.Client) -> None:
    older = run(harness, factories.plan(lines=1))
    newer = amend(harness, older, factories.plan(lines=2))
    page = client.get(f"/console/exports/{older}/compare/{newer}").text
    added = re.search(r'<bdi class="long new">(country of export: [^<]*)</bdi>', page)
    assert added is not None
    assert "; country of origin: CA; description: " in added[1]
    assert "; HTS code: " in added[1]
    assert "&#34;" not in added[1]
    assert re.search(r'data-label="Revision 1"><span class="quiet">none</span>', page)
    assert re.search(
        r'invoice total.*?<bdi class="long old">[0-9.]+ USD</bdi>.*?<bdi class="long new">[0-9.]+ USD</bdi>', page
    )


def test_exports_of_different_batches_and_purged_ones_are_not_compared(
    harness: ApiHarness, client: httpx.Client
) -> None:
    one, other = run(harness), run(harness, factories.plan(batch="other", invoice="B"))
    refused = client.get(f"/console/exports/{one}/compare/{other}")
    assert (refused.status_code, "different batches" in refused.text) == (404, True)
    with harness.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == one).values(purged_at=utc_now()))
    assert client.get(f"/console/exports/{one}/compare/{one}").status_code == 409


def test_pages_work_on_each_database(open_harness: Open, database_url: str) -> None:
    harness = open_harness(database_url)
    client = sign_in_browser(harness, "read")
    export_id = run(harness, factories.plan(units=2))
    view = harness.client().get(f"/api/exports/{export_id}").json()
    delivery = harness.client().get("/api/deliveries", params={"exportId": export_id}).json()["items"][0]
    documents = [f"/documents/{each['id']}" for each in view["artifacts"][:3]]
    more = ("", "/units", "/lines?after=1.1", "/units/2/lines/3", "/events", "/deliveries", f"/compare/{export_id}")
    for address in (
        *(f"/console/exports/{export_id}{each}" for each in (*more, *documents)),
        f"/console/deliveries/{delivery['id']}",
    ):
        page = client.get(address)
        assert (page.status_code, page.text.count("</html>")) == (200, 1), address
    following = [client.get(f"/console/exports/{export_id}{each}").text.count('rel="next"') for each in documents]
    assert following == [1, 1, 1]
