"""The wizard of a new partner and the form of its settings: steps, refusals at their place, and concurrent changes."""

import html
import re
import socket
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.accounts import partners, secrets
from pipeline.accounts.models import PartnerChannel, PartnerSecret
from pipeline.accounts.partners import get_partner
from pipeline.accounts.schemas import NewPartner, PartnerChanges
from pipeline.core.errors import NotFound
from pipeline.deliveries.streams import recovery
from pipeline.exports.audit_trail import list_acts
from pipeline.simulation.partners.http import WebhookReceiver
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.ports import LOOPBACK
from tests.support.tables import table

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0"
WIZARD = "/console/partners/new"


@pytest.fixture
def lab(open_harness: Open) -> ApiHarness:
    """A running API whose partners may be on loopback."""
    return open_harness(allow_private_destinations=True)


def find_error(page: str, name: str) -> str:
    """Return the error that a page shows at an input."""
    found = re.search(rf'id="error-{re.escape(name)}">([^<]*)<', page)
    assert found is not None, f"no error at {name}"
    return found[1]


def test_wizard_leads_from_the_kind_to_a_live_partner(lab: ApiHarness) -> None:
    client = sign_in_browser(lab, "admin")
    assert f'href="{WIZARD}?kind=warehouse"' in client.get(WIZARD).text.replace("&amp;", "&")
    channels = client.get(WIZARD, params={"kind": "warehouse"}).text
    assert "channel=webhook" in channels
    assert "channel=email" not in channels
    page = f"{WIZARD}?kind=warehouse&channel=webhook"
    with WebhookReceiver() as placeholder:
        port = int(placeholder.url.rsplit(":", 1)[1].split("/", 1)[0])
        form = read_form(client, page) | {"id": "wh_9", "name": "Dock 9", "webhook.address": placeholder.url}
        created = client.post(WIZARD, data=form)
    assert (created.status_code, created.headers["cache-control"]) == (200, "no-store")
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]+", created.text)
    assert get_partner(lab.runtime, factories.ACCOUNT, "wh_9").state == "draft"
    again = client.post(WIZARD, data=form)
    assert (again.status_code, "whsec_" in again.text) == (400, False)
    assert "exists already" in find_error(again.text, "id")
    setup = "/console/partners/wh_9/setup"
    assert "Possible when the connection test has passed." in client.get(setup).text
    assert f'href="{setup}"' in client.get("/console/partners/wh_9").text
    with WebhookReceiver([secret], port=port):
        shown = client.post("/console/partners/wh_9/test", data=form).text
    for stage in ("resolve", "connect", "TLS", "signed event", "wrongly signed event", "old event"):
        assert f">{stage}</td>" in shown
    assert "Every stage passed. The state of the partner is verified." in shown
    assert "live plans may name wh_9" in client.get(setup).text
    assert client.post("/console/partners/wh_9/activate", data=form).status_code == 303
    assert get_partner(lab.runtime, factories.ACCOUNT, "wh_9").state == "live"
    assert "Open the partner" in client.get(setup).text
    for action in ("pause", "resume"):
        assert client.post(f"/console/partners/wh_9/{action}", data=form).status_code == 303
    page = "/console/partners/wh_9/settings"
    assert client.post(page, data=edit_fields(client.get(page).text) | {"name": "Dock 10"}).status_code == 303
    page = "/console/partners/wh_9/secret"
    assert client.post(page, data=read_form(client, page) | {"overlap": "1"}).status_code == 200
    with lab.runtime.db.read() as session:
        acts = [each for each in list_acts(session, factories.ACCOUNT).items if each.subject == "wh_9"]
    assert [each.action for each in reversed(acts)] == [
        "partner_created",
        "partner_tested",
        "partner_activated",
        "partner_paused",
        "partner_resumed",
        "partner_changed",
        "signing_secret_rotated",
    ]
    assert {each.actor[:4] for each in acts} == {"per_"}
    assert secret not in str(acts)


@pytest.mark.parametrize(
    ("kind", "channel", "settings", "expected"),
    [
        ("customs_broker", "sandbox", {}, [{"channel": "borderbuddy"}]),
        ("customs_broker", "borderbuddy", {}, [{"channel": "borderbuddy"}]),
        ("customs_broker", "queue", {}, [{"channel": "queue"}]),
        ("upstream", "queue", {}, [{"channel": "queue"}]),
        (
            "operator",
            "email",
            {"email.addresses": " a@desk.example \r\n\r\nb@desk.example"},
            [{"channel": "email", "addresses": ["a@desk.example", "b@desk.example"]}],
        ),
        (
            "customs_broker",
            "sftp",
            {"sftp.address": "sftp://me@host.example/in", "sftp.host_keys": HOST_KEY, "sftp.password": "s3cret-word"},
            [{"channel": "sftp", "address": "sftp://me@host.example/in", "hostKeys": [HOST_KEY]}],
        ),
    ],
)
def test_each_channel_is_created_by_its_schema(
    lab: ApiHarness, kind: str, channel: str, settings: dict[str, str], expected: list[Any]
) -> None:
    client = sign_in_browser(lab, "admin")
    form = read_form(client, f"{WIZARD}?kind={kind}&channel={channel}")
    created = client.post(WIZARD, data=form | {"id": "p_1", "name": "A partner", "artifact": "cci_pdf"} | settings)
    assert created.status_code == 200, created.text
    view = lab.client("read").get("/api/partners/p_1").json()
    endpoints = [{name: value for name, value in each.items() if value is not None} for each in view["channels"]]
    assert endpoints == expected
    assert view["test"] == (channel == "sandbox")
    assert view["path"] == (
        {"sandbox": "borderbuddy", "borderbuddy": "borderbuddy"}.get(channel, "byob")
        if kind == "customs_broker"
        else None
    )
    assert view["artifactTypes"] == (["cci_pdf"] if kind == "customs_broker" else None)


@table(
    ("channel", "typed", "place", "message"),
    [
        ("webhook", {"webhook.address": "partner.example"}, "webhook.address", "such as https://"),
        ("webhook", {"webhook.address": ""}, "webhook.address", "is required"),
        ("webhook", {"id": "br 1"}, "id", "must be 1 to 64 letters"),
        ("webhook", {"id": factories.BROKER}, "id", "exists already"),
        ("webhook", {"id": "new"}, "id", "is reserved"),
        ("webhook", {"name": "a\u202eb"}, "name", "change the direction of writing"),
        ("webhook", {"artifact": "cci_nothing"}, "artifact", "is not a kind of document"),
        ("email", {"email.addresses": "a@b.example\nno"}, "email.addresses", "Line 2 must be an e-mail address"),
        ("sftp", {"sftp.host_keys": "what"}, "sftp.host_keys", "Line 1 must be a public key of an SSH server"),
        ("sftp", {"sftp.private_key": "-----BEGIN KEY-----"}, "sftp.address", "not both"),
        ("sftp", {"sftp.password": ""}, "sftp.address", "needs its own credential"),
    ],
)
def test_invalid_settings_are_explained_at_their_place(
    lab: ApiHarness, channel: str, typed: dict[str, str], place: str, message: str
) -> None:
    client = sign_in_browser(lab, "admin")
    valid = {
        "id": "br_7",
        "name": "Broker seven",
        "webhook.address": "https://broker.example/in",
        "email.addresses": "entries@broker.example",
        "sftp.address": "sftp://me@host.example/in",
        "sftp.host_keys": HOST_KEY,
        "sftp.password": "s3cret-word",
    }
    form = read_form(client, f"{WIZARD}?kind=customs_broker&channel={channel}") | valid | typed
    refused = client.post(WIZARD, data=form)
    assert refused.status_code == 400
    assert message in find_error(refused.text, place)
    assert "s3cret-word" not in refused.text
    assert "Nothing was saved" in refused.text
    kept = form["name"]
    assert f'value="{kept}"' in refused.text
    with pytest.raises(NotFound):
        get_partner(lab.runtime, factories.ACCOUNT, "br_7")


def test_wizard_offers_no_channel_that_the_kind_may_not_have(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    token = read_form(client, f"{WIZARD}?kind=operator&channel=queue")
    refused = client.post(WIZARD, data=token | {"kind": "warehouse", "channel": "email", "id": "w", "name": "W"})
    assert refused.status_code == 404
    assert "How is it reached?" in client.get(f"{WIZARD}?kind=warehouse&channel=email").text
    assert "What does the partner do?" in client.get(f"{WIZARD}?kind=spy").text


def register_sftp(lab: ApiHarness) -> None:
    endpoint = {"channel": "sftp", "address": "sftp://me@host.example/in", "hostKeys": [HOST_KEY], "password": "s3cret"}
    new = {"id": "br_files", "kind": "customs_broker", "name": "Files", "channels": [endpoint, {"channel": "queue"}]}
    partners.create_partner(lab.runtime, factories.ACCOUNT, NewPartner.model_validate(new))


def stored_credential(lab: ApiHarness) -> str | None:
    with lab.runtime.db.read() as session:
        return session.get_one(PartnerChannel, (factories.ACCOUNT, "br_files", "sftp")).credential


def edit_fields(page: str) -> dict[str, Any]:
    """Return what a browser sends for the form of a page without a change."""
    fields: dict[str, Any] = {}
    main = page.partition('id="main"')[2]
    for tag in re.findall(r"<input [^>]*>", main):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        if name is not None and (not re.search(r'type="(checkbox|radio)"', tag) or " checked" in tag):
            fields.setdefault(name[1], []).append("" if value is None else value[1])
    for area in re.findall(r"<textarea .*?</textarea>", main, re.DOTALL):
        name = re.search(r'name="([^"]+)"', area)
        assert name is not None
        fields[name[1]] = [area.partition(">\n")[2].removesuffix("</textarea>")]
    return fields


def test_settings_are_changed_and_keep_the_credential(lab: ApiHarness) -> None:
    register_sftp(lab)
    client, page = sign_in_browser(lab, "admin"), "/console/partners/br_files/settings"
    before, sealed = get_partner(lab.runtime, factories.ACCOUNT, "br_files"), stored_credential(lab)
    shown = client.get(page).text
    assert "s3cret" not in shown
    assert "become dead letters" in shown
    fields = edit_fields(shown)
    assert client.post(page, data=fields | {"name": "Folders"}).headers["location"].endswith("/setup")
    changed = get_partner(lab.runtime, factories.ACCOUNT, "br_files")
    assert (changed.name, changed.channels) == ("Folders", before.channels)
    fields = edit_fields(client.get(page).text) | {"primary": ["queue"]}
    assert client.post(page, data=fields).status_code == 303
    assert [each.channel for each in get_partner(lab.runtime, factories.ACCOUNT, "br_files").channels] == [
        "queue",
        "sftp",
    ]
    assert stored_credential(lab) == sealed
    moved = edit_fields(client.get(page).text) | {"sftp.address": ["sftp://me@other.example/in"]}
    refused = client.post(page, data=moved)
    assert (refused.status_code, "needs its own credential" in find_error(refused.text, "sftp.address")) == (400, True)
    assert client.post(page, data=moved | {"sftp.password": ["another"]}).status_code == 303
    assert stored_credential(lab) != sealed
    none = client.post(page, data=edit_fields(client.get(page).text) | {"channel": []})
    assert (none.status_code, "choose at least one channel" in none.text) == (400, True)


def test_second_of_two_concurrent_changes_is_rejected_and_loses_nothing(lab: ApiHarness) -> None:
    register_sftp(lab)
    first, second = sign_in_browser(lab, "admin"), sign_in_browser(lab, "admin")
    page = "/console/partners/br_files/settings"
    of_first, of_second = edit_fields(first.get(page).text), edit_fields(second.get(page).text)
    assert first.post(page, data=of_first | {"name": "By the first"}).status_code == 303
    refused = second.post(page, data=of_second | {"name": "By the second"})
    assert refused.status_code == 412
    assert "was changed at" in refused.text
    assert 'value="By the second"' in refused.text
    assert re.search(r"<dt>name</dt><dd><bdi class=\"long\">By the first</bdi>", refused.text)
    assert get_partner(lab.runtime, factories.ACCOUNT, "br_files").name == "By the first"
    # The page now shows the version that the second one has compared.
    again = edit_fields(refused.text)
    assert second.post(page, data=again).status_code == 303
    assert get_partner(lab.runtime, factories.ACCOUNT, "br_files").name == "By the second"
    broken = second.post(page, data=again | {"read_at": ["yesterday"]})
    assert (broken.status_code, "load the page again" in broken.text) == (400, True)


def test_test_key_registers_only_test_partners(lab: ApiHarness) -> None:
    client = sign_in_browser(lab, "admin", mode="test")
    form = read_form(client, f"{WIZARD}?kind=operator&channel=queue") | {"id": "op_t", "name": "Desk"}
    refused = client.post(WIZARD, data=form)
    assert (refused.status_code, "test mode registers only partners" in refused.text) == (403, True)
    assert client.post(WIZARD, data=form | {"test": "yes"}).status_code == 200
    page = "/console/partners/op_t/settings"
    unmarked = edit_fields(client.get(page).text) | {"test": []}
    assert client.post(page, data=unmarked).status_code == 403
    assert client.post(f"/console/partners/{factories.BROKER}/test", data=form).status_code == 403


def test_connection_test_page_shows_the_remedy_of_a_failed_stage(lab: ApiHarness) -> None:
    client = sign_in_browser(lab, "admin")
    with WebhookReceiver(fault="accepts-forged") as bad:
        new = {"id": "wh_bad", "kind": "warehouse", "name": "<b>Bad</b>"}
        endpoint = {"channel": "webhook", "address": bad.url}
        partners.create_partner(
            lab.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": [endpoint]})
        )
        token = read_form(client, "/console/partners/wh_bad/setup")
        shown = client.post("/console/partners/wh_bad/test", data=token).text
    assert "<strong>Make it verify webhook-signature first" in shown
    assert "The state of the partner is testing." in shown
    assert "<b>Bad</b>" not in shown
    setup = client.get("/console/partners/wh_bad/setup").text
    assert "wrongly signed event" in setup
    assert "Run the connection test again" in setup


def test_each_stage_is_sent_when_it_ends(lab: ApiHarness) -> None:
    client = sign_in_browser(lab, "admin")
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        silent.listen()
        address = f"http://{LOOPBACK}:{silent.getsockname()[1]}/"
        new = {"id": "wh_mute", "kind": "warehouse", "name": "Mute"}
        endpoint = {"channel": "webhook", "address": address}
        partners.create_partner(
            lab.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": [endpoint]})
        )
        token = read_form(client, "/console/partners/wh_mute/setup")
        with client.stream("POST", "/console/partners/wh_mute/test", data=token) as page:
            shown = ""
            pieces = page.iter_text()
            while ">connect</td>" not in shown:
                shown += next(pieces)
            assert ">result</td>" not in shown
            silent.close()
            assert ">result</td>" in shown + "".join(pieces)


def load_secrets(lab: ApiHarness) -> list[str]:
    """Return the valid secrets of br_files, the newest first."""
    with lab.runtime.db.read() as session:
        return secrets.load_valid_secrets(session, lab.runtime.settings, factories.ACCOUNT, "br_files")


def test_secret_is_rotated_once_by_each_form(lab: ApiHarness, capsys: pytest.CaptureFixture[str]) -> None:
    register_sftp(lab)
    (old,) = load_secrets(lab)
    client, page = sign_in_browser(lab, "admin"), "/console/partners/br_files/secret"
    form = read_form(client, page) | {"overlap": "2"}
    capsys.readouterr()
    made = client.post(page, data=form)
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    secret, older = re.findall(r"whsec_[A-Za-z0-9+/=]+", html.unescape(made.text))
    assert [secret, older] == load_secrets(lab)
    assert older == old
    assert re.search(r"It is accepted until <strong><time ", made.text)
    assert made.text.count("<td>number") == 2
    again = client.post(page, data=form)
    assert (again.status_code, "was rotated after this page was opened" in again.text) == (409, True)
    for shown in (again, client.get(page)):
        assert "whsec_" not in shown.text
        assert secret not in shown.text
    printed = "".join(capsys.readouterr())
    assert (secret in printed, older in printed) == (False, False)
    for overlap in ("", "169", "-1", "9" * 99):
        refused = client.post(page, data=read_form(client, page) | {"overlap": overlap})
        assert (refused.status_code, find_error(refused.text, "overlap")[:24]) == (400, "This field must be a who")
    with lab.runtime.db.write() as session:
        session.execute(update(PartnerSecret).where(col(PartnerSecret.number) == 1).values(sealed="v1:of another key"))
    third = client.post(page, data=read_form(client, page) | {"overlap": "1"})
    assert len(re.findall(r"whsec_[A-Za-z0-9+/=]+", third.text)) == 2
    assert "It cannot be decrypted, so it signs nothing." in third.text
    last = client.post(page, data=read_form(client, page) | {"overlap": "0"})
    assert len(re.findall(r"whsec_[A-Za-z0-9+/=]+", last.text)) == 1
    assert "The older secrets have ended." in last.text
    assert client.get(page).text.count("<td>number") == 1


def test_update_with_an_old_version_changes_nothing(harness: ApiHarness) -> None:
    seen = get_partner(harness.runtime, factories.ACCOUNT, factories.BROKER).updated_at
    recovery.update_partner(
        harness.runtime, factories.ACCOUNT, factories.BROKER, PartnerChanges(name="Newer"), read_at=seen
    )
    with pytest.raises(Exception, match="was changed at"):
        recovery.update_partner(
            harness.runtime, factories.ACCOUNT, factories.BROKER, PartnerChanges(name="Older"), read_at=seen
        )
    assert get_partner(harness.runtime, factories.ACCOUNT, factories.BROKER).name == "Newer"
