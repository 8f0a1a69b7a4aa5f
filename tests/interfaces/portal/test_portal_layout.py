"""Every page of the portal in a real browser, on a desktop and a phone, light and dark; and its entrance with a script."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.models import Notification
from pipeline.deliveries.streams import sender
from pipeline.deliveries.submissions import reply_links
from tests.conftest import skip_or_fail
from tests.deliveries.support import exports
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.portal.conftest import create_link, find_ids, open_portal, submit
from tests.interfaces.portal.test_handoffs import BROKER, answer, hand_off
from tests.support import factories
from tests.support.browser import BROWSER, FLAGS, FORMS, Album, Scheme, look_at_pages
from tests.support.http_endpoint import Endpoint, Script

#: As long as a message may be, in Latin, Arabic and Japanese.
LONG = ("The value of the line differs from the invoice, and the certificate names another origin. " * 20)[
    :1000
].strip()
SCRIPTS = "شركة المنتجات المنزلية - 家庭用品株式会社"


def build_addresses(harness: ApiHarness) -> tuple[httpx.Client, str, dict[str, str]]:
    """Return a customs broker's client, a handoff that it has rejected, and the address of every page, each with content."""
    hand_off(harness, batch="BATCH-of-a-quite-long-name")
    broker = open_portal(harness, BROKER)
    (handoff,) = find_ids(broker, "/portal/handoffs", "handoffs")
    (delivery,) = find_ids(broker, "/portal/deliveries", "deliveries")
    found = {"field": "U2, line 3 (BAG-00003): country of origin", "problem": "It differs from the certificate"}
    answer(broker, handoff, status="rejected", place0=found["field"], wrong0=found["problem"], message=LONG)
    return (
        broker,
        handoff,
        {
            "overview": "/portal",
            "deliveries": "/portal/deliveries",
            "delivery": f"/portal/deliveries/{delivery}",
            "handoffs": "/portal/handoffs",
            "handoff": f"/portal/handoffs/{handoff}",
            "handoff from its second package": f"/portal/handoffs/{handoff}?after=1",
            "endpoint": "/portal/endpoint",
            "secret": "/portal/secret",
            "verify": "/portal/verify",
            "samples": "/portal/samples",
            "entrance": "/portal/open",
            "missing": "/portal/deliveries/none",
        },
    )


def build_album(harness: ApiHarness) -> tuple[httpx.Client, Album]:
    """Return the client of a customs broker, and every page of the portal in each of its states."""
    album = Album()
    broker, handoff, addresses = build_addresses(harness)
    for name, address in addresses.items():
        album.add(name, lambda address=address: broker.get(address))  # type: ignore[misc]
    album.add("refused answer", lambda: answer(broker, handoff, status="filed", entryNumber="not a number"))
    album.add("rotated", lambda: submit(broker, "/portal/secret", "/portal/secret/rotate", overlap="24"))
    headers = "webhook-id: m_1\nwebhook-timestamp: 1764000000\nwebhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="
    checked = {"headers": headers, "body": '{"id": "m_1"}'}
    album.add("verified", lambda: submit(broker, "/portal/verify", "/portal/verify", **checked))
    album.add("wrong link", lambda: harness.client_with_key(None).post("/portal/open", data={"link": "none"}))
    add_webhook_partner(album, harness)
    add_email_replies(album, harness)
    return broker, album


def add_webhook_partner(album: Album, harness: ApiHarness) -> None:
    """Add what a warehouse sees: nothing yet, then packages and a dead letter."""
    with Endpoint([Script(503, b"closed for stock-taking")]) as endpoint:
        new = {"id": "wh_hook", "kind": "warehouse", "name": SCRIPTS, "live": True}
        channels = [{"channel": "webhook", "address": endpoint.url}]
        partners.create_partner(
            harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels})
        )
        warehouse = open_portal(harness, "wh_hook")
        for name, path in {"overview": "", "deliveries": "/deliveries", "endpoint": "/endpoint"}.items():
            album.add(f"empty {name}", lambda path=path: warehouse.get(f"/portal{path}"))  # type: ignore[misc]
        album.add("warehouse samples", lambda: warehouse.get("/portal/samples"))
        export_id = harness.execute(factories.plan(batch="closed", warehouse="wh_hook", invoice="INV-9"))
        harness.run(export_id)
        while not find_ids(warehouse, "/portal/deliveries?state=dead", "deliveries"):
            sender.deliver_stream(harness.runtime, export_id, "wh_hook", "webhook")
        assert submit(warehouse, "/portal/endpoint", "/portal/endpoint/test").status_code == 303
        album.add("failed test", lambda: warehouse.get("/portal/endpoint"))
    album.add("dead letters", lambda: warehouse.get("/portal/deliveries"))
    dead, *_ = find_ids(warehouse, "/portal/deliveries?state=dead", "deliveries")
    album.add("dead letter", lambda: warehouse.get(f"/portal/deliveries/{dead}"))
    album.add("warehouse", lambda: warehouse.get("/portal"))
    new_broker = {"id": "br_new", "kind": "customs_broker", "name": LONG[:64], "live": True}
    partners.create_partner(
        harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new_broker | {"channels": [{"channel": "queue"}]})
    )
    newcomer = open_portal(harness, "br_new")
    album.add("no handoffs", lambda: newcomer.get("/portal/handoffs"))


def add_email_replies(album: Album, harness: ApiHarness) -> None:
    """Add the page behind the link in an e-mail: open, refused, answered, and wrong."""
    new = {"id": "br_mail", "kind": "customs_broker", "name": "Mail Brokers", "live": True}
    channels = [{"channel": "email", "addresses": ["desk@broker.example"]}]
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels}))
    export = exports.prepare_export(harness.runtime, factories.plan(units=2, broker="br_mail", batch="by-mail"))
    exports.hand_off(harness.runtime, export)
    with harness.runtime.db.read() as session:
        query = select(Notification).where(col(Notification.export_id) == export.export_id)
        (sent,) = session.exec(query.where(col(Notification.audience) == "customs_broker")).all()
    address = f"/answers/{reply_links.build_reply_link(harness.runtime.settings, sent.id).token}"
    reader = harness.client_with_key(None)
    album.add("e-mail reply", lambda: reader.get(address))
    album.add("e-mail reply refused", lambda: reader.post(address, data={"status": "rejected", "form_id": "0" * 32}))
    rejected = {
        "status": "rejected",
        "form_id": "0" * 32,
        "message": LONG,
        "place0": "U1, line 2 (SHIRT-00002): HTS code",
        "wrong0": SCRIPTS,
    }
    assert reader.post(address, data=rejected).status_code == 303
    album.add("e-mail replied", lambda: reader.get(address))
    album.add("wrong e-mail link", lambda: reader.get("/answers/" + "x" * 48))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("width", "scheme"), FORMS)
def test_every_page_is_readable_and_accessible(open_harness: Open, *, width: int, scheme: Scheme) -> None:
    harness = open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001,))
    client, album = build_album(harness)
    assert album.find_missing("portal") | album.find_missing("email_replies") == set()
    assert look_at_pages(client, album, "portal", width=width, scheme=scheme) == {}


def test_every_input_has_a_label_and_every_form_its_token(open_harness: Open) -> None:
    harness = open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001,))
    for name, answered in build_album(harness)[1].pages.items():
        page = answered.text
        if "portal.css" not in page:
            continue
        labels = set(re.findall(r'<label for="(\w+)"', page))
        for tag in re.findall(r"<(?:input|textarea)[^>]*>", page):
            if 'type="hidden"' in tag or 'type="radio"' in tag or "aria-label=" in tag:
                continue
            identifier = re.search(r' id="(\w+)"', tag)
            assert identifier is not None, (name, tag)
            assert identifier[1] in labels, (name, tag)
        for form in re.findall(r'<form[^>]*method="post".*?</form>', page, re.DOTALL):
            assert "csrf_token" in form or 'action="/portal/open"' in form or name.startswith("e-mail"), name
        headings = [int(level) for level in re.findall(r"<h([1-6])", page)]
        assert headings[0] == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(headings)), name


def test_script_opens_the_link_and_removes_the_token(harness: ApiHarness, tmp_path: Path) -> None:
    if BROWSER is None:
        skip_or_fail("Chromium is not installed; the package is chromium")
    address = f"{harness.url}/portal/open#{create_link(harness, factories.WAREHOUSE).partition('#')[2]}"
    shown = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=8000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert f"<code>{factories.WAREHOUSE}</code>, warehouse" in shown
