"""The log over HTTP: in pages and live."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlmodel import col, update

from pipeline.accounts import api_keys
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.events import EventType
from pipeline.exports.models import Export
from pipeline.exports.schemas.export import EventPage, EventView
from pipeline.exports.schemas.feed import FeedPage
from pipeline.interfaces.api import dependencies, events
from pipeline.workflow import read_model
from pipeline.workflow.engine import run_step
from pipeline.workflow.queries import events_after
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open, execution
from tests.support import factories
from tests.support.browser import open_browser
from tests.support.tables import table
from tests.support.task_by_task import task_by_task

LIVE = {"Accept": "text/event-stream"}


def answer_handoff(harness: ApiHarness, export_id: str) -> None:
    """Record the customs broker's acceptance of the handoff: no more events follow."""
    with harness.runtime.db.write() as session:
        session.execute(
            update(BrokerSubmission).where(col(BrokerSubmission.export_id) == export_id).values(state="accepted")
        )


def read_events(response: httpx.Response) -> Iterator[tuple[str, str, EventView]]:
    """Yield id, name and event from a stream; comments are skipped."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif not line and "data" in fields:
            yield fields["id"], fields.get("event", ""), EventView.model_validate_json(fields["data"], extra="ignore")
            fields = {}


def test_log_pages_have_no_gap(harness: ApiHarness) -> None:
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
    assert view["events_omitted"] == 0
    with harness.runtime.db.read() as session:
        rows = read_model.load_export_rows(session, session.get_one(Export, export_id), max_events=2)
        batches = [events_after(session, export_id, seq, 4) for seq in (0, seen[-1])]
    assert [(len(each.events), each.settled) for each in batches] == [(4, False), (0, False)], "the broker may answer"
    short = read_model.build_view(rows)
    assert ([event.seq for event in short.events], short.events_omitted) == (seen[-2:], len(seen) - 2)


@pytest.mark.parametrize(
    ("given", "kept"), [("order-run-481", True), ("", False), ("a b", False), ("x" * 200, False), ("é", False)]
)
def test_event_of_a_caller_names_its_request_and_key(harness: ApiHarness, given: str, *, kept: bool) -> None:
    key = harness.key("execute", "read", "operate")
    client = harness.client_with_key(key.bearer)
    headers = {b"X-Request-Id": given.encode()}
    accepted = client.post("/api/exports/execute", json=execution(factories.plan()), headers=headers)
    export_id = accepted.json()["exportId"]
    with task_by_task():  # an export that was handed off cannot be cancelled
        run_step(harness.runtime, export_id, 1, "record_packages")
    cancelled = client.post(f"/api/exports/{export_id}/cancel", headers={"X-Request-Id": "stop-1"})
    assert cancelled.status_code == 200, cancelled.text
    own_events = client.get(f"/api/exports/{export_id}").json()["events"]
    by_type = {event["type"]: (event["actor"], event["data"].get("requestId")) for event in own_events}
    (by, request_id) = by_type["EXPORT_ACCEPTED"]
    assert (by, request_id) == (key.id, accepted.headers["x-request-id"])
    assert (request_id == given) is kept
    assert by_type["EXPORT_CANCELLED"] == (key.id, "stop-1")
    assert by_type["PACKAGES_RECORDED"] == ("record_packages", None)


def test_stream_yields_past_and_new_events_and_ends(harness: ApiHarness) -> None:
    client = harness.client("read")
    export_id = harness.execute(factories.plan())
    first = threading.Event()

    def follow() -> list[tuple[str, str, EventView]]:
        received = []
        with client.stream("GET", f"/api/exports/{factories.BATCH}/events?named=true", headers=LIVE) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["x-accel-buffering"] == "no"
            for each in read_events(response):
                received.append(each)
                first.set()
        return received

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        assert first.wait(60)
        harness.run(export_id)
        answer_handoff(harness, export_id)
        received = following.result(timeout=20)
    assert [number for number, _, _ in received] == [str(n) for n in range(1, len(received) + 1)]
    assert [name for _, name, _ in received] == [event.type for _, _, event in received]
    assert {"EXPORT_ACCEPTED", "BROKER_NOTIFIED", "EXPORT_EXECUTED"} <= {name for _, name, _ in received}


def read_feed(client: httpx.Client, **params: str | int | list[str]) -> FeedPage:
    response = client.get("/api/events", params=params)
    assert response.status_code == 200, response.text
    return FeedPage.model_validate(response.json())


def test_feed_has_the_events_of_all_exports_of_the_account(open_harness: Open, database_url: str) -> None:
    harness = open_harness(database_url)
    client = harness.client("read")
    exports = [harness.execute(factories.plan(batch=f"batch_{number}")) for number in range(2)]
    for export_id in reversed(exports):
        harness.run(export_id)
    whole = read_feed(client, limit=1000)
    logs = {
        export_id: client.get(f"/api/exports/{export_id}/events", params={"limit": 1000}).json()["items"]
        for export_id in exports
    }
    assert {each.export_id: each.batch_id for each in whole.items} == dict(
        zip(exports, ("batch_0", "batch_1"), strict=True)
    )
    for export_id, log in logs.items():
        own_events = [each.model_dump(mode="json") for each in whole.items if each.export_id == export_id]
        assert [{name: each[name] for name in EventView.model_fields} for each in own_events] == log
    assert (whole.next_after, whole.more) == (whole.items[-1].id, False)
    seen, page = [], FeedPage(items=[], next_after=None, more=True)
    while page.more:
        page = read_feed(client, limit=7, **({} if page.next_after is None else {"after": page.next_after}))
        seen += page.items
    assert seen == whole.items
    assert read_feed(client, after=whole.items[-1].id).model_dump(by_alias=True) == {
        "items": [],
        "nextAfter": whole.items[-1].id,
        "more": False,
    }
    wanted = read_feed(client, type=["EXPORT_ACCEPTED", "HANDED_OFF"])
    assert [each.type for each in wanted.items] == ["EXPORT_ACCEPTED", "EXPORT_ACCEPTED", "HANDED_OFF", "HANDED_OFF"]
    other = harness.client("read", account=OTHER)
    assert read_feed(other) == FeedPage(items=[], next_after=None, more=False)
    foreign = other.get("/api/events", params={"after": whole.items[0].id})
    assert (foreign.status_code, foreign.json()["field"]) == (400, "after")


@table(
    ("query", "headers", "field"),
    [
        ("after=exp_none.1", {}, "after"),
        ("after=" + "a" * 65, {}, "after"),
        ("limit=1001", {}, "limit"),
        ("type=EXPORT_SUNK", {}, "type.0"),
        ("", LIVE | {"Last-Event-ID": "7"}, "Last-Event-ID"),
    ],
)
def test_invalid_request_for_the_feed_is_refused(
    harness: ApiHarness, query: str, headers: dict[str, str], field: str
) -> None:
    response = harness.client("read").get(f"/api/events?{query}", headers=headers)
    assert (response.status_code, response.json()["field"]) == (400, field), response.text


def test_stream_of_the_feed_resumes_and_goes_on_after_the_last_export(harness: ApiHarness) -> None:
    client = harness.client("read")
    for number in range(2):
        harness.run(harness.execute(factories.plan(batch=f"batch_{number}")))
    whole = [each.id for each in read_feed(client, limit=1000).items]

    def follow(most: int, query: str = "", **headers: str) -> list[tuple[str, str]]:
        received: list[tuple[str, str]] = []
        with client.stream("GET", f"/api/events{query}", headers=LIVE | headers) as response:
            for number, name, event in read_events(response):
                received.append((number, name))
                assert number == event.id
                if len(received) == most:
                    return received
                if number == whole[-1]:
                    harness.execute(factories.plan(batch="batch_later"))
        return received

    first = follow(5)
    assert first == [(each, "") for each in whole[:5]]
    rest = follow(len(whole) - 5 + 1, f"?after={whole[0]}", **{"Last-Event-ID": whole[4]})
    assert [number for number, _ in rest[:-1]] == whole[5:]
    assert rest[-1][0].endswith(".1")
    assert follow(1, "?type=HANDED_OFF&named=true")[0][1] == "HANDED_OFF"


def test_onmessage_of_a_browser_hears_every_event(harness: ApiHarness) -> None:
    client = harness.client("read")
    export_id = harness.execute(factories.plan())
    harness.run(export_id)
    answer_handoff(harness, export_id)
    logged = client.get(f"/api/exports/{export_id}/events").json()["items"]
    script = """address => new Promise(resolve => {
      const heard = [], source = new EventSource(address);
      source.onmessage = message => heard.push([message.lastEventId, JSON.parse(message.data).type]);
      source.onerror = () => source.readyState === EventSource.CLOSED && resolve(heard);
    })"""
    with open_browser(harness.client_with_key(None)) as page:
        page.goto("/docs/problems")
        page.set_extra_http_headers({"Authorization": client.headers["authorization"]})
        # The stream ends with the log; the browser connects again, and is answered 204.
        heard = page.evaluate(script, f"/api/exports/{export_id}/events")
    assert heard == [[str(each["seq"]), each["type"]] for each in logged]


def test_contract_lists_every_event_type(harness: ApiHarness) -> None:
    schemas = harness.client_with_key(None).get("/openapi.json").json()["components"]["schemas"]
    assert schemas["EventView"]["properties"]["type"]["x-extensible-enum"] == list(EventType)


def test_broken_stream_continues_after_last_event_id(harness: ApiHarness) -> None:
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


def test_idle_stream_sends_heartbeats(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_HEARTBEAT_SECONDS", 0.1)
    export_id = harness.execute(factories.plan())
    address = f"/api/exports/{export_id}/events?after=1"
    with harness.client("read").stream("GET", address, headers=LIVE) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(4)] == [": the log of an export", "", ": ping", ""]


def test_stream_ends_when_its_key_is_revoked(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "_CACHE_SECONDS", 0.1)
    key = harness.key("read")
    export_id = harness.execute(factories.plan())
    with harness.client_with_key(key.bearer).stream(
        "GET", f"/api/exports/{export_id}/events", headers=LIVE
    ) as response:
        received = read_events(response)
        assert next(received)[2].type == "EXPORT_ACCEPTED"
        api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
        # Otherwise it would continue until the client's timeout.
        assert list(received) == []


def test_many_streams_hold_no_threads(harness: ApiHarness) -> None:
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
