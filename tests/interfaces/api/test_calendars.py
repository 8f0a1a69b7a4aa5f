"""The calendar of what is due next: a calendar library reads it, and only a valid link opens it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from icalendar import Calendar
from sqlalchemy import select, update

from pipeline.core.db import table
from pipeline.deliveries.calendars import CalendarToken, build_calendar, build_token
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.audit_trail import list_acts
from pipeline.exports.models import Export
from pipeline.interfaces.portal.reply_links import REQUESTS_PER_MINUTE
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.support import factories, stored

DUE = datetime(2026, 12, 24, 9, 30, tzinfo=UTC)
CHANGED = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def create_link(harness: ApiHarness, account: str = factories.ACCOUNT) -> str:
    url: str = harness.client("admin", account=account).post("/api/deadlines/calendar").raise_for_status().json()["url"]
    return url.removeprefix(harness.runtime.settings.public_url)


def read_events(answer: httpx.Response) -> list[dict[str, Any]]:
    parsed = Calendar.from_ical(answer.raise_for_status().content)
    assert (parsed["version"], parsed.errors) == ("2.0", [])
    return [{name.lower(): event.decoded(name) for name in event} for event in parsed.walk("VEVENT")]


def test_link_shows_the_deadlines_of_its_account_until_it_is_revoked(harness: ApiHarness) -> None:
    stranger, own, other = harness.client_with_key(None), create_link(harness), create_link(harness, OTHER)
    assert create_link(harness) == own
    assert read_events(stranger.get(own)) == []
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    stored.change(harness.runtime, update(BrokerSubmission).values(deadline_at=DUE, updated_at=CHANGED))
    with harness.runtime.db.read() as session:
        submission = session.execute(select(table(BrokerSubmission))).one()
    feed = stranger.get(own, params={"utm_source": "x"})
    assert {name: feed.headers[name] for name in ("content-type", "cache-control", "x-robots-tag")} == {
        "content-type": "text/calendar; charset=utf-8",
        "cache-control": "no-store",
        "x-robots-tag": "noindex, nofollow",
    }
    assert read_events(feed) == [
        {
            "uid": f"{submission.id}.delivered",
            "dtstamp": CHANGED,
            "sequence": int(CHANGED.timestamp()) // 60,
            "dtstart": DUE,
            "summary": f"{factories.BROKER} must answer: {factories.BATCH}",
            "description": f"{harness.runtime.settings.public_url}/console/exports/{export_id}",
            "status": "CONFIRMED",
            "transp": "TRANSPARENT",
        }
    ]
    assert stranger.get(own).content == feed.content
    assert read_events(stranger.get(other)) == []
    stored.change(harness.runtime, update(Export).values(test=True))
    assert read_events(stranger.get(own))[0]["summary"].startswith("[test] ")
    assert harness.client("admin").delete("/api/deadlines/calendar").status_code == 204
    assert stranger.get(own).status_code == 404
    assert read_events(stranger.get(other)) == []
    assert len(read_events(stranger.get(create_link(harness)))) == 1
    with harness.runtime.db.read() as session:
        acts = [
            each.action for each in list_acts(session, factories.ACCOUNT, limit=9).items if "calendar" in each.action
        ]
    created = "calendar_link_created"
    assert acts == [created, "calendar_links_revoked", created, created]


def test_invalid_links_all_get_the_same_answer(harness: ApiHarness) -> None:
    stranger, address = harness.client_with_key(None), create_link(harness)
    token = address.removeprefix("/calendar/").removesuffix(".ics")
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    flipped = (raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :] for place in range(len(raw)))
    forged = [urlsafe_b64encode(each).decode().rstrip("=") for each in flipped]
    forged += ["x", token[:-1], token + "A", token + "=", "é" * 48, "A" * 48, "A" * 29]
    settings = harness.runtime.settings
    forged += [build_token(settings, CalendarToken(*named)) for named in (("acc_none", 0), (factories.ACCOUNT, 1))]
    answers = [stranger.get(f"/calendar/{each}.ics") for each in forged]
    assert {(each.status_code, each.json()["message"]) for each in answers} == {(404, "there is no such link")}
    # Tokens refill meanwhile, several on a slow machine.
    seen = (stranger.get(address) for _ in range(10 * REQUESTS_PER_MINUTE))
    refused = next(each for each in seen if each.status_code != 200)
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True)


@pytest.mark.parametrize("batch", ["a,b;c\\n", "one\ntwo:BEGIN:VEVENT", "é" * 64, "x" * 64 + "\nEND:VCALENDAR"])
def test_text_of_a_batch_survives_and_adds_no_line(batch: str) -> None:
    submission = SimpleNamespace(
        id="sub_1", state="delivered", updated_at=CHANGED, partner_id="br_x", export_id="exp_1"
    )
    row = SimpleNamespace(BrokerSubmission=submission, batch_id=batch, test=False, kind="handoff", due_at=DUE)
    written = build_calendar("https://maple.example", [row])
    assert max(len(line) for line in written.split(b"\r\n")) <= 75
    (event,) = Calendar.from_ical(written).walk("VEVENT")
    assert str(event["summary"]) == f"br_x must answer: {batch}"
