"""Links to documents: what they open, for whom and how long, and that all invalid links get the same answer."""

import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import col, select
from standardwebhooks import Webhook

from config.settings import Settings
from pipeline.accounts import api_keys, partners
from pipeline.accounts.schemas import NewPartner
from pipeline.core.clock import utc_now
from pipeline.core.errors import NotFound
from pipeline.deliveries.models import Notification
from pipeline.deliveries.streams import messages
from pipeline.deliveries.submissions import links
from pipeline.exports.schemas.export import ExportView
from pipeline.interfaces.portal.reply_links import REQUESTS_PER_MINUTE
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.support import factories
from tests.support.tables import table

HOOKED = "br_hooked"


@dataclass(frozen=True)
class HandedOff:
    """A handoff to a partner with a secret, and a client without a key."""

    harness: ApiHarness
    export: ExportView
    secret: str
    client_without_key: httpx.Client

    @property
    def settings(self) -> Settings:
        return self.harness.runtime.settings

    def address(self, token_or_url: str) -> str:
        return f"/documents/{token_or_url.rpartition('/')[2]}"

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.client_without_key.get(self.address(url), **options)

    def link(self, *, until: datetime, holder: str = f"partner:{HOOKED}", account: str = factories.ACCOUNT) -> str:
        return links.build_link_url(self.settings, account, self.export.artifacts[0].id, holder, until)

    def request_links(self, secret: str, *, body: bytes = b"", at: datetime | None = None) -> httpx.Response:
        at = at or datetime.now(UTC)
        submission = self.export.broker_submission
        assert submission is not None
        headers = {
            "webhook-id": "ask-1",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign("ask-1", at, body.decode()),
        }
        return self.client_without_key.post(
            f"/api/broker-submissions/{submission.id}/links", content=body, headers=headers
        )


@pytest.fixture
def handed_off(harness: ApiHarness) -> HandedOff:
    new = {"id": HOOKED, "kind": "customs_broker", "name": "Demo Brokers", "live": True}
    made = partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    export_id = harness.execute(factories.plan(broker=HOOKED))
    harness.run(export_id)
    view = ExportView.model_validate_json(harness.client().get(f"/api/exports/{export_id}").content)
    return HandedOff(harness, view, made.secret, harness.client_with_key(None))


def in_five_minutes() -> datetime:
    return utc_now() + timedelta(minutes=5)


def test_created_link_opens_one_document_for_fifteen_minutes(handed_off: HandedOff) -> None:
    artifact = handed_off.export.artifacts[0]
    before = utc_now()
    made = handed_off.harness.client("read").post(f"/api/artifacts/{artifact.id}/links").json()
    good_for = datetime.fromisoformat(made["signedUntil"]) - before
    assert timedelta(minutes=14, seconds=59) <= good_for <= timedelta(minutes=16)
    assert re.fullmatch(r"[-\d]+T\d\d:\d\d:\d\dZ", made["signedUntil"])
    assert (made["id"], made["sha256"], made["filename"]) == (artifact.id, artifact.sha256, artifact.filename)
    assert made["signedUrl"].startswith(f"{handed_off.settings.public_url}/documents/")
    response = handed_off.get(made["signedUrl"])
    assert hashlib.sha256(response.content).hexdigest() == artifact.sha256
    headers = response.headers
    assert headers["content-type"] == artifact.media_type
    assert headers["content-disposition"] == f'attachment; filename="{artifact.filename}"'
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert headers["referrer-policy"] == "no-referrer"
    looked = handed_off.client_without_key.head(handed_off.address(made["signedUrl"]))
    assert (looked.status_code, looked.headers["content-length"]) == (200, str(artifact.size))


def test_invalid_links_all_get_the_same_404(handed_off: HandedOff) -> None:
    good = handed_off.link(until=in_five_minutes())
    assert handed_off.get(good).status_code == 200
    payload, _, signature = good.rpartition("/")[2].partition(".")
    payload_json = json.loads(urlsafe_b64decode(payload + "=="))

    def forge_token(**changes: object) -> str:
        members = dict(zip(("key", "account", "artifact", "holder", "until"), payload_json, strict=True)) | changes
        text = json.dumps(list(members.values()), separators=(",", ":"))
        return f"{urlsafe_b64encode(text.encode()).decode().rstrip('=')}.{signature}"

    bad = {
        "ended": handed_off.link(until=utc_now() - timedelta(seconds=1)),
        "ends now": handed_off.link(until=utc_now()),
        "of another account": handed_off.link(until=in_five_minutes(), account=OTHER),
        "for another partner": handed_off.link(until=in_five_minutes(), holder=f"partner:{factories.BROKER}"),
        "for a key that never was": handed_off.link(until=in_five_minutes(), holder="key:abcdefghij"),
        "for no holder": handed_off.link(until=in_five_minutes(), holder=""),
        "for longer": forge_token(until=payload_json[4] + 3600),
        "for another holder": forge_token(holder="partner:br_other"),
        "for another document": forge_token(artifact=handed_off.export.artifacts[1].id),
        "for another account": forge_token(account=OTHER),
        "by another key": forge_token(key="0123456789ab"),
        "cut": good[:-1],
        "unsigned": payload,
        "nonsense": "x" * 300,
        "outside": "..%2f..%2fetc%2fpasswd",
        **{
            f"changed at {n}": good[:n] + ("A" if good[n] != "A" else "B") + good[n + 1 :]
            for n in range(len(good) - len(signature), len(good), 7)
        },
    }
    answers = {name: handed_off.get(each) for name, each in bad.items()}
    # The last character of a signature has unused bits: a change of only those must be detected, too.
    last = {other for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" if other != good[-1]}
    answers |= {f"last is {other}": handed_off.get(good[:-1] + other) for other in sorted(last)[:20]}
    result = {
        (each.status_code, each.json()["errorCode"], each.json()["message"])
        for name, each in answers.items()
        if name != "outside"
    }
    assert result == {(404, "NOT_FOUND", "this link is not valid or has expired; ask for a new one")}
    assert answers["outside"].status_code == 404


@table("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_link_only_allows_get_and_head(handed_off: HandedOff, method: str) -> None:
    response = handed_off.client_without_key.request(
        method, handed_off.address(handed_off.link(until=in_five_minutes()))
    )
    assert (response.status_code, response.json()["errorCode"]) == (404, "NOT_FOUND")


def test_invalid_link_in_a_browser_gets_the_same_page(handed_off: HandedOff) -> None:
    options = {"headers": {"Accept": "text/html"}}
    pages = [handed_off.get(each, **options) for each in ("x" * 300, handed_off.link(until=utc_now()))]
    assert {(each.status_code, each.headers["content-type"]) for each in pages} == {(404, "text/html; charset=utf-8")}
    assert len({each.text for each in pages}) == 1
    assert "has expired" in pages[0].text
    assert (pages[0].headers["cache-control"], "<script" in pages[0].text) == ("no-store", False)


def test_link_expires_with_the_key_that_created_it(handed_off: HandedOff) -> None:
    key = handed_off.harness.key(f"partner:{HOOKED}")
    made = (
        handed_off.harness.client_with_key(key.bearer)
        .post(f"/api/artifacts/{handed_off.export.artifacts[0].id}/links")
        .json()
    )
    assert handed_off.get(made["signedUrl"]).status_code == 200
    api_keys.revoke_key(handed_off.harness.runtime, factories.ACCOUNT, key.id)
    assert handed_off.get(made["signedUrl"]).status_code == 404


def test_links_expire_with_their_secret_key(handed_off: HandedOff) -> None:
    def does_open(until: datetime, *keys: str) -> bool:
        settings = handed_off.settings.model_copy(
            update={"secret_key": SecretStr(keys[0]), "secret_keys_previous": tuple(map(SecretStr, keys[1:]))}
        )
        try:
            links.verify_token(settings, token, utc_now())
        except NotFound:
            return False
        return until > utc_now()

    old = handed_off.settings.secret_key.get_secret_value()
    until = in_five_minutes()
    token = handed_off.link(until=until).rpartition("/")[2]
    assert (does_open(until, old), does_open(until, "new", old), does_open(until, "new")) == (True, True, False)


def test_message_to_a_broker_has_links_and_the_stored_one_has_none(handed_off: HandedOff) -> None:
    with handed_off.harness.runtime.db.read() as session:
        result = session.scalars(
            select(Notification).where(col(Notification.event_type) == "exports.handoff.ready.v1")
        ).one()
    sent = [messages.build_cloud_event(handed_off.settings, result, None, holder=HOOKED) for _ in range(2)]
    assert sent[0] == sent[1], "the same bytes on every attempt"
    named = [
        each for unit in json.loads(sent[0])["data"]["units"] for each in (unit["invoiceData"], *unit["artifacts"])
    ]
    assert len(named) > 5
    for each in named:
        assert datetime.fromisoformat(each["signedUntil"]) - result.created_at <= timedelta(minutes=15)
        assert re.fullmatch(r"[-\d]+T\d\d:\d\d:\d\dZ", each["signedUntil"])
        assert hashlib.sha256(handed_off.get(each["signedUrl"]).content).hexdigest() == each["sha256"]
    client = handed_off.harness.client("read")
    trace = client.get(f"/api/notifications/{result.id}").text
    assert [each for each in (result.data, trace) if "signedUrl" in each or "/documents/" in each] == []


def test_partner_renews_links_with_its_signature(handed_off: HandedOff) -> None:
    answer = handed_off.request_links(handed_off.secret)
    assert answer.status_code == 200, answer.text
    found = answer.json()["links"]
    assert {each["id"] for each in found} == {each.id for each in handed_off.export.artifacts}
    assert hashlib.sha256(handed_off.get(found[0]["signedUrl"]).content).hexdigest() == found[0]["sha256"]
    refused = [
        handed_off.request_links("whsec_Zm9yZWlnbiB0byB1cw=="),
        handed_off.request_links(handed_off.secret, at=datetime.now(UTC) - timedelta(minutes=6)),
        handed_off.client_without_key.post(f"/api/broker-submissions/{handed_off.export.broker_submission.id}/links"),  # type: ignore[union-attr]
    ]
    assert {(each.status_code, each.json()["errorCode"]) for each in refused} == {(401, "INVALID_API_KEY")}
    # The signature of an answer opens no documents.
    answered = handed_off.request_links(handed_off.secret, body=b'{"id": "1", "status": "received"}')
    assert (answered.status_code, answered.json()["errorCode"]) == (400, "INVALID_REQUEST")


def test_link_use_is_rate_limited(open_harness: Open) -> None:
    harness = open_harness()
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    artifact = harness.client().get(f"/api/exports/{export_id}").json()["artifacts"][0]
    made = harness.client("read").post(f"/api/artifacts/{artifact['id']}/links").json()
    address = f"/documents/{made['signedUrl'].rpartition('/')[2]}"
    client_without_key = harness.client_with_key(None)
    # One token a second refills meanwhile, so a slow machine needs more requests.
    answers = (client_without_key.head(address) for _ in range(10 * REQUESTS_PER_MINUTE))
    first, refused = next(answers), next(each for each in answers if each.status_code != 200)
    assert (first.status_code, refused.status_code) == (200, 429)
    assert int(refused.headers["retry-after"]) >= 1
