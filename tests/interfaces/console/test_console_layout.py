"""Every page of the console in a real browser, on a desktop and a phone, light and dark: readable and accessible."""

from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts import people
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.models import Delivery
from pipeline.exports.states import SubmissionState
from pipeline.ops.stats import rollup
from tests.deliveries.test_outcomes import shape
from tests.interfaces.api.conftest import ApiHarness, Open, execution
from tests.interfaces.console.album import build_album
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_certifications import keep
from tests.support import factories
from tests.support.browser import FORMS, Scheme, find_violations, look_at_pages, measure_layout, open_browser
from tests.support.open_id import CLIENT_ID, CLIENT_SECRET, run_provider


def build_pages(harness: ApiHarness) -> tuple[httpx.Client, dict[str, str]]:
    """Return a client that is signed in, and the address of every page of the console, each with content."""
    rejected, late, waiting = (
        harness.execute(factories.plan(units=units, batch=batch, invoice=f"INV-{len(batch)}"))
        for units, batch in ((2, "batch_2026_11_24_001"), (1, "BATCH-of-a-quite-long-name"), (1, "b"))
    )
    harness.run(rejected)
    harness.run(late)
    keep(harness, "SHIRT-LINEN-EXTRA-LONG-SLEEVES-NATURAL-WHITE-XXL", 12)
    keep(harness, "PAN-24", 200)
    client, api = sign_in_browser(harness, "admin", "operate", "read"), harness.client()
    submission = api.get(f"/api/exports/{rejected}").json()["broker_submission"]["id"]
    answer = {
        "id": "ack-1",
        "status": "rejected",
        "message": "The value of a line does not agree with the invoice",
        "fields": [
            {"pointer": "/units/0/invoice/lines/0/unitPrice", "message": "does not agree with the line's value"}
        ],
    }
    answered = api.post(f"/api/broker-submissions/{submission}/acknowledgements", json=answer)
    assert answered.status_code == 200, answered.text
    shape(harness.runtime, late, status=SubmissionState.DELIVERED, overdue=True, dead="warehouse")
    with harness.runtime.db.write() as session:
        given_up = col(Delivery.subject_id) == late, col(Delivery.state) == "dead"
        session.execute(update(Delivery).where(*given_up).values(error="the endpoint answered 503 at every attempt"))
    # As the database says it: the harness has a clock of its own.
    ends = utc_now() + timedelta(seconds=1)
    with tenancy.account_scope(ALL_ACCOUNTS):
        assert rollup.count_until(harness.runtime, ends - timedelta(days=1), ends, now=ends)
    assert 'class="fill sent"><title>' in client.get("/console?range=3h").text
    assert client.get("/console/exports").text.count("<td") > 10
    dead = api.get("/api/deliveries", params={"state": "dead"}).json()["items"]
    addresses = {
        "home": "/console?range=3h",
        "inbox": "/console/inbox",
        "list": "/console/exports",
        "sent back": "/console/exports?reached=sent_back&since=2026-01-01T00:00:00Z",
        "rejected": f"/console/exports/{rejected}",
        "amend": f"/console/exports/{rejected}/amend",
        "conversation": f"/console/exports/{rejected}/conversation",
        "stop": f"/console/exports/{rejected}/stop",
        "late": f"/console/exports/{late}",
        "waiting": f"/console/exports/{waiting}",
        "missing": "/console/exports/none",
        "partners": "/console/partners",
        "partner": f"/console/partners/{factories.WAREHOUSE}",
        "portal links": f"/console/partners/{factories.WAREHOUSE}/portal-links",
        "deliveries": "/console/deliveries",
        "delivery": f"/console/deliveries/{dead[0]['id']}",
        "sandbox": "/console/sandbox",
        "kind": "/console/partners/new",
        "channel": "/console/partners/new?kind=customs_broker",
        "new partner": "/console/partners/new?kind=customs_broker&channel=sftp",
        "settings": f"/console/partners/{factories.BROKER}/settings",
        "set-up": f"/console/partners/{factories.BROKER}/setup",
        "secrets": f"/console/partners/{factories.BROKER}/secret",
        "keys": "/console/keys",
        "new key": "/console/keys/new",
        "example": f"/console/partners/{factories.BROKER}/example",
        "import file": f"/console/partners/{factories.BROKER}/profile",
        "import file edit": f"/console/partners/{factories.BROKER}/profile/edit",
        "holds": "/console/holds",
        "new hold": "/console/holds/new",
        "waivers": "/console/waivers",
        "new waiver": "/console/waivers/new",
        "printed pages": "/console/print-settings",
        "deadlines": "/console/deadlines",
        "deadline leads": "/console/deadline-leads?mode=air",
        "test clock": "/console/test-clock",
        "filed entries": "/console/filed-entries",
        "rules": "/console/rules",
        "certifications": "/console/certifications",
        "me": "/console/me",
        "people": "/console/people",
        "audit": "/console/audit",
        "problems": "/docs/problems",
    }
    with tenancy.account_scope(ALL_ACCOUNTS):
        invited = people.invite_person(
            harness.runtime, factories.ACCOUNT, "cli", email="anna@maple.example", roles=["read"], mode="live"
        )
    addresses |= {"person": f"/console/people/{invited.person_id}", "link": f"/console/links/{invited.token}"}
    for name in ("units", "lines", "findings?notes=true", "events", "deliveries", "units/1/lines/1"):
        addresses[f"export {name}"] = f"/console/exports/{late}/{name}"
    before = harness.execute(factories.plan(units=2, batch="batch_2026_11_24_002", invoice="INV-18"))
    harness.run(before)
    changed = factories.plan(units=2, lines=4, batch="batch_2026_11_24_002", invoice="INV-19")
    amended = api.post(f"/api/exports/{before}/amend", json=execution(changed))
    assert amended.status_code == 202, amended.text
    addresses["revisions"] = f"/console/exports/{before}/compare/{amended.json()['exportId']}"
    for each in api.get(f"/api/exports/{late}").json()["artifacts"]:
        addresses[each["artifact_type"]] = f"/console/exports/{late}/documents/{each['id']}"
    return client, addresses


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("width", "scheme"), FORMS)
def test_every_page_is_readable_and_accessible(open_harness: Open, *, width: int, scheme: Scheme) -> None:
    with run_provider() as provider:
        harness = open_harness(
            allow_private_destinations=True,
            oidc_issuer=provider.issuer,
            oidc_client_id=CLIENT_ID,
            oidc_client_secret=CLIENT_SECRET,
        )
        client, addresses = build_pages(harness)
        album = build_album(harness, client, addresses)
    assert album.find_missing("console") == set()
    assert look_at_pages(client, album, "console", width=width, scheme=scheme) == {}


def test_faults_of_a_page_are_detected(harness: ApiHarness) -> None:
    faults = {
        '<p style="width: 3ch; overflow-wrap: anywhere">EXPORT_EXECUTED</p>': {"broken": ["EXPORT_EXECUTED"]},
        '<p style="width: 34ch; overflow: hidden; white-space: nowrap">A sentence that ends beyond its box.</p>': {},
        '<p style="width: 9ch; overflow: hidden; white-space: nowrap">A sentence that ends beyond its box.</p>': {
            "clipped": ["A sentence that ends beyond its box."]
        },
        '<input name="pale" style="border: 1px solid #d3dae0">': {"faint": ["pale"]},
        '<input name="plain" style="border: 1px solid #767676">': {},
        '<input placeholder="A hint that is longer than its input" style="width: 9ch">': {
            "clipped": ["A hint that is longer than its input"]
        },
        '<div class="card" style="width: 9ch; overflow-x: auto"><p style="width: 20ch">Wider than its card</p></div>': {
            "wider": ["Wider than its card"]
        },
        '<p>One text</p><p style="margin-top: -2.4em">and another</p>': {"overlapped": [["and another", "One text"]]},
    }
    with open_browser(harness.client_with_key(None)) as page:
        for markup, expected in faults.items():
            page.set_content(f"<p>This line makes the page long enough to be taken for one.</p>{markup}")
            assert measure_layout(page, 390) == expected, markup
        page.set_content(
            '<p style="width: 900px">This is wider than the window, for there is nothing to make it end.</p>'
        )
        assert measure_layout(page, 390)["wide"] > 390
        page.set_content('<main><p style="color: #bbb; background: #fff">Pale</p><img src="x"></main>')
        assert {"color-contrast", "image-alt"} <= find_violations(page).keys()
