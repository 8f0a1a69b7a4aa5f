"""The pro forma invoice of a plan: the facts and the page of its commercial invoice, marked as none, with what is missing."""

import re
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from pipeline.workflow import pro_forma
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, is_tagged
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.support import factories

PROFORMA = "/api/exports/proforma"


def read_pdf(body: bytes) -> str:
    pages = PdfReader(BytesIO(body)).pages
    return " ".join(" ".join(page.extract_text().replace("\u200b", "") for page in pages).split())


def register(harness: ApiHarness, plan: factories.Json) -> str:
    return str(harness.client("execute").post("/api/exports/plans", json=plan).json()["planId"])


@pytest.mark.pdf_engine
def test_page_is_marked_and_lists_what_is_missing(harness: ApiHarness) -> None:
    before = harness.rows()
    answer = harness.client("read").post(PROFORMA, json=factories.plan(approval=None))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == 'attachment; filename="proforma_U1.pdf"'
    text = read_pdf(answer.content)
    for words in (
        "Pro forma invoice",
        "PRO FORMA: NOT A COMMERCIAL INVOICE",
        "Not for customs entry, unless the importer has no commercial invoice",
        "19 CFR 141.85",
        "Must be fixed Plan The plan has no approval. Have it approved, then send it.",
    ):
        assert words in text, words
    for absent in ("I declare", "SIGNATURE", "Commercial invoice", "revision"):
        assert absent not in text, absent
    assert not PdfReader(BytesIO(answer.content)).attachments, "no program may take it for the commercial invoice"
    assert_archivable(answer.content)
    assert is_tagged(answer.content)
    assert harness.rows() == before
    assert harness.publisher.exports == []


def test_page_has_facts_of_commercial_invoice(harness: ApiHarness) -> None:
    plan = factories.plan(lines=5, packages=4)
    page = harness.client().post(PROFORMA, params={"format": "html"}, json=plan).text
    export_id = harness.execute(plan)
    harness.run(export_id)
    artifacts = harness.client().get(f"/api/exports/{export_id}").json()["artifacts"]
    html = next(each for each in artifacts if each["artifact_type"] == "cci_human_readable")
    commercial = harness.client().get(f"/api/artifacts/{html['id']}").text

    def facts(text: str, first: str, last: str) -> str:
        return text.partition(first)[2].partition(last)[0]

    for first, last in (
        ('<div class="parties">', '<div class="sums">'),
        ("<td>Goods, 5 lines</td>", '<div class="declaration">'),
    ):
        assert facts(page, first, last) == facts(commercial, first, last) != ""
    assert ("I declare" in page, "I declare" in commercial) == (False, True)
    assert ("PRO FORMA" in page, "PRO FORMA" in commercial) == (True, False)
    # Without an edition of the tariff, preflight says what it cannot check.
    assert "The tariff was not checked" in page


def test_registered_plan_has_page_until_it_is_executed(harness: ApiHarness) -> None:
    plan = factories.plan()
    address = f"/api/exports/plans/{register(harness, plan)}/proforma"
    registered = harness.client("read").get(address, params={"format": "html"})
    assert registered.status_code == 200
    assert registered.content == harness.client("read").post(PROFORMA, params={"format": "html"}, json=plan).content
    for stranger in (harness.client(account=OTHER), harness.client(mode="test")):
        assert stranger.get(address).status_code == 404
    export_id = harness.execute(plan)
    for answer in (harness.client().get(address), harness.client().post(PROFORMA, json=plan)):
        assert (answer.status_code, answer.json()["errorCode"]) == (409, "INVALID_STATE")
        assert export_id in answer.json()["detail"]


@pytest.mark.parametrize(
    ("unit", "status", "says"),
    [
        (None, 400, "the plan has 2 units; name one of them, such as unit=U1"),
        ("U9", 404, "the plan has no unit U9; its first one is U1"),
        ("U2", 200, "A-2"),
    ],
)
def test_unit_of_several_must_be_named(harness: ApiHarness, unit: str | None, status: int, says: str) -> None:
    named = {} if unit is None else {"unit": unit}
    answer = harness.client().post(PROFORMA, params={"format": "html", **named}, json=factories.plan(units=2))
    assert answer.status_code == status
    if status == 200:
        number = re.search(r"<title>Pro forma invoice (.*)</title>", answer.text)
        assert number
        assert number[1] == factories.unit(1)["invoice"]["number"]
    else:
        assert says in answer.json()["detail"]


def test_only_unwaived_findings_of_the_unit_are_listed(harness: ApiHarness) -> None:
    plan = factories.plan(units=2)
    plan["units"][1]["lines"][0]["countryOfExport"] = "MX"
    plan["broker"] = {"id": "br_unknown"}
    client = harness.client()

    def read(unit: str) -> str:
        return client.post(PROFORMA, params={"format": "html", "unit": unit}, json=plan).text

    findings = client.post("/api/exports/preflight", json=plan).json()["findings"]
    of_second = [each["message"] for each in findings if each["pointer"].startswith("/units/1/")]
    of_plan = [each["message"] for each in findings if not each["pointer"].startswith("/units/")]
    assert of_plan
    assert all(message in read("U1") for message in of_plan)
    assert all(message in read("U2") and message not in read("U1") for message in of_second)


def test_too_many_lines_are_refused(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pro_forma, "MAX_LINES", 2)
    answer = harness.client().post(PROFORMA, json=factories.plan(lines=3))
    assert answer.status_code == 400
    assert "unit U1 has 3 lines, and a pro forma invoice at most 2" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "status"), [({"accountId": OTHER}, 403), ({"units": []}, 400), ({"planHash": "sha256:" + "0" * 64}, 409)]
)
def test_plan_is_checked_like_in_preflight(harness: ApiHarness, change: dict[str, Any], status: int) -> None:
    client, plan = harness.client(), factories.plan() | change
    answers = [client.post(address, json=plan) for address in (PROFORMA, "/api/exports/preflight")]
    assert [each.status_code for each in answers] == [status, status]
    assert answers[0].json()["errorCode"] == answers[1].json()["errorCode"]
