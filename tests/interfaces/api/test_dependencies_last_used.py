"""When keys were last used, how far a revocation reaches, and that a copy of the database gives no access."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import SQLModel, col, select

from pipeline.accounts import api_keys, partners
from pipeline.accounts.api_keys import CreatedKey
from pipeline.accounts.models import ApiKey
from pipeline.accounts.schemas import NewPartner
from pipeline.core.clock import utc_now
from pipeline.core.db import database_now
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries.models import Notification
from pipeline.deliveries.submissions import links, reply_links
from pipeline.interfaces.api import dependencies
from pipeline.interfaces.api.dependencies import ApiKeyCache
from tests.interfaces.api.conftest import ApiHarness, Open, RecordingPublisher, serve_api
from tests.support import factories
from tests.support.servers import poll

PASSWORD = "correct-horse-battery-staple"  # noqa: S105 - made up


def read_last_used(runtime: Runtime, key: CreatedKey) -> object:
    return next(each for each in api_keys.list_keys(runtime, factories.ACCOUNT) if each.id == key.id).last_used_at


def set_used(runtime: Runtime, key: CreatedKey, seconds: float) -> object:
    with runtime.db.write() as session:
        ago = database_now(-seconds)
        session.execute(update(ApiKey).where(col(ApiKey.id) == key.id).values(last_used_at=ago))
    return read_last_used(runtime, key)


def test_key_use_is_recorded_and_rejections_are_not(harness: ApiHarness) -> None:
    key, other = harness.key("read"), harness.key("read")
    before = utc_now()
    for each in (key.bearer[:-1] + ("1" if key.bearer[-1] != "1" else "2"), other.bearer + "x"):
        assert harness.client_with_key(each).get("/api/exports").status_code == 401
    assert harness.client_with_key(key.bearer).get("/api/exports").status_code == 200
    poll(lambda: read_last_used(harness.runtime, key) is not None, 10, "the use of the key was not recorded")
    found = read_last_used(harness.runtime, key)
    assert before <= found <= utc_now()  # type: ignore[operator]
    assert read_last_used(harness.runtime, other) is None


def test_key_use_is_recorded_before_the_process_ends(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    key = harness.key("read")
    record = api_keys.record_key_use

    def record_late(runtime: Runtime, caller: api_keys.Caller) -> None:
        time.sleep(0.2)
        record(runtime, caller)

    monkeypatch.setattr(dependencies, "record_key_use", record_late)
    with (
        serve_api(harness.runtime, RecordingPublisher()) as url,
        httpx.Client(headers={"Authorization": f"Bearer {key.bearer}"}, trust_env=False) as client,
    ):
        assert client.get(f"{url}/api/exports").status_code == 200
    assert read_last_used(harness.runtime, key) is not None


def test_key_use_is_recorded_once_a_minute_across_processes(harness: ApiHarness) -> None:
    key = harness.key("read")
    caller = api_keys.find_caller(harness.runtime, key.bearer)
    recently = set_used(harness.runtime, key, 30)
    api_keys.record_key_use(harness.runtime, caller)
    assert read_last_used(harness.runtime, key) == recently
    long_ago = set_used(harness.runtime, key, 61)
    api_keys.record_key_use(harness.runtime, caller)
    assert read_last_used(harness.runtime, key) > long_ago  # type: ignore[operator]


def test_should_touch_is_true_once_a_minute() -> None:
    moment = 1000.0
    keys = ApiKeyCache(per_minute=60, clock=lambda: moment)
    assert [keys.should_touch("k") for _ in range(3)] == [True, False, False]
    assert keys.should_touch("other")
    moment += 59.9
    assert not keys.should_touch("k")
    moment += 0.1
    assert keys.should_touch("k")


def test_key_use_that_cannot_be_recorded_is_ignored(open_harness: Open) -> None:
    harness = open_harness(database_timeout_seconds=0.05)
    key = harness.key("read")
    caller = api_keys.find_caller(harness.runtime, key.bearer)
    another = open_runtime(harness.runtime.settings)
    with another.db.write() as session:
        session.execute(update(ApiKey).values(name="held"))
        api_keys.record_key_use(harness.runtime, caller)
    another.close()
    assert read_last_used(harness.runtime, key) is None


@pytest.fixture
def processes(harness: ApiHarness) -> Iterator[list[tuple[str, list[float]]]]:
    """Three APIs on one database, each with its own connections and clock, like three processes."""
    with ExitStack() as opened:
        created = []
        for _ in range(3):
            runtime = open_runtime(harness.runtime.settings)
            opened.callback(runtime.close)
            moment = [1000.0]
            keys = ApiKeyCache(6000, clock=lambda moment=moment: moment[0])  # type: ignore[misc]
            url = opened.enter_context(serve_api(runtime, RecordingPublisher(), keys))
            created.append((url, moment))
        yield created


def test_revoked_key_is_rejected_by_every_process_after_a_second(
    harness: ApiHarness, processes: list[tuple[str, list[float]]]
) -> None:
    key = harness.key("read")
    client = harness.client_with_key(key.bearer)
    for url, _ in processes:
        assert client.get(f"{url}/api/exports").status_code == 200
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
    for url, moment in processes:
        moment[0] += 1.0
        assert client.get(f"{url}/api/exports").status_code == 401


def test_database_copy_holds_no_secret_in_clear(open_harness: Open, database_url: str) -> None:
    """Look in everything that is stored for every key, secret, credential and link that was issued."""
    harness = open_harness(database_url)
    channels = [
        {"channel": "sftp", "address": "sftp://us@files.example:22/drop", "hostKeys": [HOST_KEY], "password": PASSWORD},
        {"channel": "webhook", "address": "https://broker.example/handoffs"},
        {"channel": "email", "addresses": ["entries@broker.example"]},
    ]
    new = {"id": "br_full", "kind": "customs_broker", "name": "Demo Brokers", "live": True, "channels": channels}
    created = partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))
    rotated = partners.rotate_secret(harness.runtime, factories.ACCOUNT, "br_full", 24)
    keys = [harness.key("read"), harness.key("admin", "partner:br_full", mode="test")]
    keys.append(api_keys.rotate_key(harness.runtime, factories.ACCOUNT, keys[0].id, overlap=timedelta(hours=1)))
    assert harness.client_with_key(keys[0].bearer).get("/api/exports").status_code == 200
    export_id = harness.execute(factories.plan(broker="br_full"))
    harness.run(export_id)
    artifact = harness.client().get(f"/api/exports/{export_id}").json()["artifacts"][0]["id"]
    link = harness.client("read").post(f"/api/artifacts/{artifact}/links").json()["signedUrl"]
    with harness.runtime.db.read() as session:
        notification = session.scalars(
            select(Notification).where(col(Notification.event_type) == "exports.handoff.ready.v1")
        ).one()
    until = notification.created_at + timedelta(seconds=900)
    sent = links.build_link_url(harness.runtime.settings, factories.ACCOUNT, artifact, "partner:br_full", until)
    secrets = {
        PASSWORD,
        created.secret.removeprefix("whsec_"),
        rotated.secret.removeprefix("whsec_"),
        reply_links.build_reply_link(harness.runtime.settings, notification.id).token,
        harness.runtime.settings.secret_key.get_secret_value(),
        *(each.rpartition("/")[2].partition(".")[2] for each in (link, sent)),
        *(each.bearer.rsplit("_", 1)[1][:44] for each in keys),
    }
    assert len(secrets) == 10
    with harness.runtime.db.read() as session:
        kept = "\n".join(
            str(tuple(row))
            for table in SQLModel.metadata.sorted_tables
            for row in session.execute(select(table))  # type: ignore[call-overload]
        )
    assert all(known in kept for known in ("br_full", export_id, keys[0].id, "entries@broker.example")), "it was read"
    assert [secret for secret in secrets if secret in kept] == []
    if database_url.startswith("sqlite"):
        file = Path(database_url.removeprefix("sqlite:///"))
        raw = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
        assert b"br_full" in raw
        assert [secret for secret in secrets if secret.encode() in raw] == []


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZpbGVzLmV4YW1wbGUgaXMgbWFkZSB1cCBmb3IgdGVzdA=="
