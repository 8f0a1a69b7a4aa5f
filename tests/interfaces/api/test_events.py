"""The log over HTTP: by pages and live."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlmodel import col, update

from pipeline.accounts import api_keys
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.schemas.export import EventPage, EventView
from pipeline.interfaces.api import events
from pipeline.workflow.engine import run_step
from tests.interfaces.api.conftest import ApiHarness, execution
from tests.support import factories

LIVE = {"Accept": "text/event-stream"}


def answer_handoff(harness: ApiHarness, export_id: str) -> None:
    """Note that the customs broker has accepted the handoff: nothing more is to come."""
    with harness.runtime.db.write() as session:
        session.execute(
            update(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id).values(state="accepted")
        )


def read_events(response: httpx.Response) -> Iterator[tuple[str, str, EventView]]:
    """Yield id, name and event of what a stream tells; comments are not told."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif not line and "data" in fields:
            yield fields["id"], fields["event"], EventView.model_validate_json(fields["data"])
            fields = {}


def test_the_log_is_read_by_pages_without_a_gap(harness: ApiHarness) -> None:
    client = harness.client("read")
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = EventPage.model_validate(
            client.get(f"/api/exports/{export_id}/events", params={"after": after, "limit": 4}).json()
        )
        seen += [event.seq for event in page.items]
        after = page.next_after
    view = client.get(f"/api/exports/{export_id}").json()
    assert seen == [event["seq"] for event in view["events"]] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    ("given", "kept"), [("order-run-481", True), ("", False), ("a b", False), ("x" * 200, False), ("é", False)]
)
def test_each_event_of_a_caller_says_of_which_request_it_came_and_with_which_key(
    harness: ApiHarness, given: str, *, kept: bool
) -> None:
    key = harness.key("execute", "read", "operate")
    client = harness.client_with_key(key.bearer)
    headers = {b"X-Request-Id": given.encode()}
    accepted = client.post("/api/exports/execute", json=execution(factories.plan()), headers=headers)
    export_id = accepted.json()["exportId"]
    run_step(harness.runtime, export_id, 1, "record_packages")
    cancelled = client.post(f"/api/exports/{export_id}/cancel", headers={"X-Request-Id": "stop-1"})
    assert cancelled.status_code == 200, cancelled.text
    own_events = client.get(f"/api/exports/{export_id}").json()["events"]
    asked = {event["type"]: (event["actor"], event["data"].get("requestId")) for event in own_events}
    (by, request_id) = asked["EXPORT_ACCEPTED"]
    assert (by, request_id) == (key.id, accepted.headers["x-request-id"])
    assert (request_id == given) is kept
    assert asked["EXPORT_CANCELLED"] == (key.id, "stop-1")
    assert asked["PACKAGES_RECORDED"] == ("record_packages", None)


def test_a_stream_yields_past_and_new_events_and_ends(harness: ApiHarness) -> None:
    client = harness.client("read")
    export_id = harness.execute(factories.plan())
    first = threading.Event()

    def follow() -> list[tuple[str, str, EventView]]:
        heard = []
        with client.stream("GET", f"/api/exports/{factories.BATCH}/events", headers=LIVE) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-accel-buffering"] == "no"
            for each in read_events(response):
                heard.append(each)
                first.set()
        return heard

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        assert first.wait(60)
        harness.run(export_id)
        answer_handoff(harness, export_id)
        heard = following.result(timeout=20)
    assert [number for number, _, _ in heard] == [str(n) for n in range(1, len(heard) + 1)]
    assert [name for _, name, _ in heard] == [event.type for _, _, event in heard]
    assert {"EXPORT_ACCEPTED", "BROKER_NOTIFIED", "EXPORT_EXECUTED"} <= {name for _, name, _ in heard}


def test_a_broken_stream_goes_on_after_the_last_event_heard(harness: ApiHarness) -> None:
    client = harness.client("read")
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    answer_handoff(harness, export_id)
    address = f"/api/exports/{export_id}/events"
    with client.stream("GET", address, headers=LIVE) as response:
        whole = [number for number, _, _ in read_events(response)]
    with client.stream("GET", f"{address}?after=1", headers=LIVE | {"Last-Event-ID": "3"}) as response:
        rest = [number for number, _, _ in read_events(response)]
    assert whole[:3] + rest == whole
    heard_all = client.get(address, headers=LIVE | {"Last-Event-ID": whole[-1]})
    assert (heard_all.status_code, heard_all.content) == (204, b"")


def test_a_silent_stream_gives_signs_of_life(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    export_id = harness.execute(factories.plan())
    address = f"/api/exports/{export_id}/events?after=1"
    with harness.client("read").stream("GET", address, headers=LIVE) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(4)] == [": the log of an export", "", ": ping", ""]


def test_a_stream_ends_with_its_key(harness: ApiHarness) -> None:
    key = harness.key("read")
    export_id = harness.execute(factories.plan())
    with harness.client_with_key(key.bearer).stream(
        "GET", f"/api/exports/{export_id}/events", headers=LIVE
    ) as response:
        heard = read_events(response)
        assert next(heard)[1] == "EXPORT_ACCEPTED"
        api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
        # Else it would go on until the client has had enough of waiting.
        assert list(heard) == []


def test_many_streams_leave_threads_for_others(harness: ApiHarness) -> None:
    # More readers than the server has threads for handlers.
    readers = 60
    client = harness.client("read")
    address = f"/api/exports/{harness.execute(factories.plan())}"
    all_open, done = threading.Barrier(readers + 1), threading.Event()

    def hold() -> str:
        with client.stream("GET", f"{address}/events", headers=LIVE) as response:
            line = next(response.iter_lines())
            all_open.wait(60)
            done.wait(60)
            return line

    with ThreadPoolExecutor(readers) as pool:
        held = [pool.submit(hold) for _ in range(readers)]
        all_open.wait(60)
        assert harness.client("read").get(address, timeout=30).status_code == 200
        done.set()
        assert {each.result(timeout=60) for each in held} == {": the log of an export"}
