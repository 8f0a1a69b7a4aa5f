"""The console's page that corrects a plan at the customs broker's pointers, checks it, and amends its export once."""

import html
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from pipeline.accounts.models import Person
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.interfaces.console.exports import amendments
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_inbox import answer, answer_again
from tests.support import factories

SKU = "/units/0/lines/0/sku"
FIELDS = [
    {"pointer": SKU, "message": "Which <pan> is it?"},
    {"pointer": "/units/0/invoice/relatedParties", "message": "Are they related?"},
    {"pointer": "/units/0/lines/0/none/none", "message": "It is missing."},
]


def reject_export(harness: ApiHarness, batch: str = "asked") -> str:
    """Execute an export that its customs broker rejects."""
    return answer(harness, "rejected", batch, fields=FIELDS)


def read_form(page: str) -> dict[str, str]:
    """Return the fields of the page's form as a browser sends them."""
    page = page.split('class="sides"')[1]
    form = {
        name: html.unescape(value)
        for name, value in re.findall(r'<input(?: type="hidden")?(?: id="[^"]+")? name="([^"]+)" value="([^"]*)"', page)
    }
    texts = re.findall(r'<textarea id="[^"]+" name="([^"]+)"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    choices = re.findall(r'<select id="[^"]+" name="([^"]+)"[^>]*>.*?<option value="(\w+)" selected', page, re.DOTALL)
    return form | {name: html.unescape(value) for name, value in texts} | dict(choices)


def open_form(client: httpx.Client, export_id: str) -> dict[str, str]:
    response = client.get(f"/console/exports/{export_id}/amend")
    assert response.status_code == 200, response.text
    return read_form(response.text) | {
        "csrf_token": re.findall(r'name="csrf_token" value="([0-9a-f]{64})"', response.text)[0]
    }


def send(client: httpx.Client, export_id: str, step: str, form: dict[str, str], **changes: str) -> httpx.Response:
    typed = form | {name.replace("_", "-"): value for name, value in changes.items()}
    return client.post(f"/console/exports/{export_id}/amend{step}", data=typed)


def check(client: httpx.Client, export_id: str, **changes: str) -> dict[str, str]:
    """Correct the plan, check it, and return the form that can be sent."""
    form = open_form(client, export_id)
    response = send(client, export_id, "/check", form, **changes)
    assert "Send amendment" in response.text, response.text
    return read_form(response.text) | {"csrf_token": form["csrf_token"], "unchanged": "yes"}


def list_exports(harness: ApiHarness) -> list[Export]:
    with harness.runtime.db.read() as session:
        return list(session.scalars(select(Export).order_by(col(Export.revision))))


def test_form_opens_at_the_places_that_the_broker_names(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    assert f'href="/console/exports/{export_id}/amend"' in client.get(f"/console/exports/{export_id}").text
    page = client.get(f"/console/exports/{export_id}/amend").text
    form = open_form(client, export_id)
    old = factories.plan(batch="asked")["units"][0]["lines"][0]["sku"]
    assert (form["pointer-0"], form["was-0"], form["now-0"]) == (SKU, old, old)
    assert form["now-1"] == "false"
    assert "Which &lt;pan&gt; is it?" in page
    assert "unit U1, line L1, SKU" in page
    assert "not in the plan" in page
    assert json.loads(form["text"])["batchId"] == "asked"


def test_correction_is_checked_shown_and_sent(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id)
    checked = send(client, export_id, "/check", form, now_0="PAN-<28>", now_1="true")
    assert "2 changes of the plan" in checked.text
    assert f'<del class="long">{form["was-0"]}</del> <ins class="long">PAN-&lt;28&gt;</ins>' in checked.text
    assert len(list_exports(harness)) == 1
    form = read_form(checked.text) | {"csrf_token": form["csrf_token"]}
    # The third place that the broker named is as before.
    assert "named 1 field that is unchanged. Send it anyway?" in checked.text
    assert "Not sent yet" in send(client, export_id, "/send", form).text
    assert len(list_exports(harness)) == 1
    sent = send(client, export_id, "/send", form, unchanged="yes")
    old, new = list_exports(harness)
    assert (sent.status_code, sent.headers["location"]) == (303, f"/console/exports/{new.id}")
    assert (old.state, new.revision, new.supersedes_id) == ("superseded", 2, export_id)
    assert harness.publisher.exports[-1] == (new.id, 1)
    with harness.runtime.db.read() as session:
        plan = json.loads(session.get_one(PlanSnapshot, new.plan_id).document)
        actor = session.scalars(select(Event.actor).where(col(Event.export_id) == new.id)).first()
        approver = session.get_one(Person, actor)
    assert plan["units"][0]["lines"][0]["sku"] == "PAN-<28>"
    assert plan["units"][0]["invoice"]["relatedParties"] is True
    assert plan["approval"]["approvedBy"] == approver.email


def test_filed_entry_is_shown_and_corrected(harness: ApiHarness) -> None:
    export_id = answer(harness, "filed", entryNumber="ABC-1234567-8")
    client = sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id)
    plan = json.loads(form["text"])
    plan["units"][0]["lines"][0]["sku"] = "PAN-29"
    checked = send(client, export_id, "/check", form, text=json.dumps(plan))
    assert "An entry of this batch is filed." in checked.text
    assert "ABC-1234567-8" in checked.text
    assert "Send as a correction" in checked.text
    ready = read_form(checked.text) | {"csrf_token": form["csrf_token"]}
    refused = send(client, export_id, "/send", {name: value for name, value in ready.items() if name != "correction"})
    assert (refused.status_code, "Not sent: the entry of CP-000001" in refused.text) == (409, True)
    assert send(client, export_id, "/send", ready).status_code == 303
    assert [each.state for each in list_exports(harness)] == ["superseded", "accepted"]


def test_corrected_plan_has_pro_forma_invoice(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id)
    assert "Pro forma invoice" not in send(client, export_id, "/check", form).text, "the plan is as before"
    assert "Pro forma invoice" in send(client, export_id, "/check", form, now_0="PAN-28").text
    page = send(client, export_id, "/proforma", form, now_0="PAN-28")
    assert (page.status_code, page.headers["content-type"]) == (200, "application/pdf"), page.text
    assert page.headers["content-disposition"] == 'attachment; filename="proforma_U1.pdf"'
    assert page.content.startswith(b"%PDF-")
    assert len(list_exports(harness)) == 1
    for refused, says in (
        (send(client, export_id, "/proforma", form), "No pro forma invoice: the plan was executed as export"),
        (send(client, export_id, "/proforma", form, text="{"), "A plan that cannot be read has no pro forma invoice."),
    ):
        assert refused.status_code in {400, 409}
        assert says in refused.text


def test_double_click_sends_once(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = check(client, export_id, now_0="PAN-28")
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda _: send(client, export_id, "/send", form), range(4)))
    assert {response.status_code for response in sent} == {303}
    assert len({response.headers["location"] for response in sent}) == 1
    assert len(list_exports(harness)) == 2


def test_second_amendment_is_refused_and_keeps_what_was_typed(harness: ApiHarness) -> None:
    export_id = reject_export(harness)
    one, other = (sign_in_browser(harness, "read", "operate") for _ in range(2))
    first, second = check(one, export_id, now_0="PAN-28"), check(other, export_id, now_0="PAN-30")
    assert send(one, export_id, "/send", first).status_code == 303
    refused = send(other, export_id, "/send", second)
    assert refused.status_code == 409
    assert "was superseded; amend the newest revision" in refused.text
    assert read_form(refused.text)["now-0"] == "PAN-30"
    assert len(list_exports(harness)) == 2
    assert other.get(f"/console/exports/{export_id}/amend").status_code == 409


def test_plan_that_changed_after_the_check_is_not_sent(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = check(client, export_id, now_0="PAN-28")
    for changes in ({"now-0": "PAN-29"}, {"approved_at": "2020-01-01T00:00:00+00:00"}, {"approved_at": "soon"}):
        typed = form | changes
        response = client.post(f"/console/exports/{export_id}/amend/send", data=typed)
        assert "not the one that was checked" in response.text
        assert read_form(response.text)["now-0"] == typed["now-0"]
    assert len(list_exports(harness)) == 1


def test_json_is_corrected_too_and_a_changed_field_wins(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id)
    plan = json.loads(form["text"])
    plan["units"][0]["lines"][0] |= {"sku": "BY-JSON", "orderId": "order-of-json"}
    by_json = send(client, export_id, "/check", form, text=json.dumps(plan)).text
    assert "BY-JSON</ins>" in by_json
    both = send(client, export_id, "/check", form, text=json.dumps(plan), now_0="BY-FIELD").text
    assert "BY-FIELD</ins>" in both
    assert "BY-JSON</ins>" not in both
    assert "order-of-json</ins>" in both


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"text": '{"units": [}'}, "not JSON at line 1, column 12"),
        ({"text": "[1]"}, "must be a JSON object"),
        ({"text": "[" * 200}, "nested"),
        ({"text": '{"a": 1, "a": 2}'}, "twice"),
        ({"now_0": "x" * 300}, "at most"),
        ({"now_2": "here"}, "the plan has no such place"),
        ({"now_1": "perhaps"}, "true or false"),
    ],
)
def test_bad_input_comes_back_as_typed(harness: ApiHarness, changes: dict[str, str], shown: str) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    response = send(client, export_id, "/check", open_form(client, export_id), **changes)
    assert "Send amendment" not in response.text
    assert shown in html.unescape(response.text)
    typed = read_form(response.text)
    for name, value in changes.items():
        if name != "now_1":
            assert typed[name.replace("_", "-")] == value
    assert len(list_exports(harness)) == 1


def test_blocking_finding_prevents_sending(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id)
    plan = json.loads(form["text"])
    plan["units"][0]["invoice"]["total"] = "1.00"
    response = send(client, export_id, "/check", form, text=json.dumps(plan))
    assert "must be fixed before it can be sent" in response.text
    assert "Send amendment" not in response.text


def test_unchanged_plan_is_not_sent(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    response = send(client, export_id, "/check", open_form(client, export_id))
    assert "The plan is as before." in response.text
    assert "Send amendment" not in response.text


def test_another_place_is_added_by_its_pointer(harness: ApiHarness) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id)
    added = read_form(send(client, export_id, "", form, add="/units/0/lines/0/hsCode", now_0="kept").text)
    assert (added["now-0"], added["pointer-3"]) == ("kept", "/units/0/lines/0/hsCode")
    refused = send(client, export_id, "", form, add="<htsCode>")
    assert refused.status_code == 400
    assert "must be a JSON Pointer" in refused.text
    assert "<htsCode>" not in refused.text


def test_long_plan_is_corrected_without_its_text(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    monkeypatch.setattr(amendments, "MAX_TEXT", 100)
    form = open_form(client, export_id)
    assert "text" not in form
    downloaded = client.get(f"/console/exports/{export_id}/amend/plan.json")
    assert downloaded.json()["batchId"] == "asked"
    assert "attachment" in downloaded.headers["content-disposition"]
    checked = check(client, export_id, now_0="PAN-28")
    assert send(client, export_id, "/send", checked).status_code == 303


def test_only_the_right_role_and_account_may_amend(harness: ApiHarness) -> None:
    export_id = reject_export(harness)
    form = open_form(sign_in_browser(harness, "read", "operate"), export_id)
    clients: list[tuple[Any, int]] = [
        (sign_in_browser(harness, "read"), 403),
        (sign_in_browser(harness, "read", "operate", account="acc_other"), 404),
        (harness.client_with_key(None), 303),
    ]
    for client, status in clients:
        assert client.get(f"/console/exports/{export_id}/amend").status_code == status
        for step in ("", "/check", "/proforma", "/send"):
            assert send(client, export_id, step, form).status_code in {status, 403}
    assert len(list_exports(harness)) == 1


def test_running_export_cannot_be_amended(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    response = sign_in_browser(harness, "read", "operate").get(f"/console/exports/{export_id}/amend")
    assert response.status_code == 409
    assert "wait until it has ended" in response.text


def test_person_amends_exports_of_each_mode_that_they_may_act_on(harness: ApiHarness) -> None:
    """And sees no button that would be refused."""
    live = reject_export(harness)
    test = harness.execute(factories.plan(batch="tried", broker="br_test", warehouse="wh_test"), mode="test")
    harness.run(test)
    answer_again(harness, test, "rejected", "a-2", fields=FIELDS[:1])
    client, tester = sign_in_browser(harness, "admin"), sign_in_browser(harness, "admin", mode="test")
    for export_id, allowed in ((live, [client]), (test, [client, tester])):
        for each in (client, tester):
            pages = [each.get("/console/inbox").text, each.get(f"/console/exports/{export_id}").text]
            assert [f"/console/exports/{export_id}/amend" in page for page in pages] == [each in allowed] * 2
            assert (f"export={export_id}" in pages[0]) == (each in allowed)
    refused = tester.get(f"/console/exports/{live}/amend")
    assert (refused.status_code, "ask a person who may act on live exports" in refused.text) == (403, True)
    assert "key" not in refused.text.partition("is a live export")[2].partition("</p>")[0]
    sent = send(client, test, "/send", check(client, test, now_0="PAN-28"))
    new = list_exports(harness)[-1]
    assert (sent.status_code, new.test, new.supersedes_id) == (303, True, test)


@pytest.mark.parametrize("typed", ["[" * 100_000, '{"sku": "a", "sku": "b"}', "[NaN]", "[1"])
def test_value_that_is_not_sound_json_is_refused_at_its_place(harness: ApiHarness, typed: str) -> None:
    export_id, client = reject_export(harness), sign_in_browser(harness, "read", "operate")
    form = open_form(client, export_id) | {"pointer-0": "/units/0/lines/0", "was-0": "{}", "now-0": typed}
    checked = send(client, export_id, "/check", form)
    assert (checked.status_code, "must be JSON, like the value before: " in checked.text) == (200, True)
    assert len(list_exports(harness)) == 1
