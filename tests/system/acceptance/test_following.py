"""Following an export: live, with a resume after the stream broke, or by waiting for the answer."""

import json
from typing import Any

import httpx

from tests.system.acceptance.account import AccountClient

Json = dict[str, Any]


def stream(http: httpx.Client, export_id: str, limit: int | None = None, **headers: str) -> list[tuple[int, Json]]:
    """Return the events of a live stream until it ends, or until there are `limit`."""
    wanted = {"accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    found: list[tuple[int, Json]] = []
    fields: dict[str, str] = {}
    with http.stream("GET", f"/api/exports/{export_id}/events", headers=wanted) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if "data" in fields:
                found.append((int(fields["id"]), json.loads(fields["data"])))
            fields.clear()
            if len(found) == limit:
                break
    return found


def test_broken_stream_resumes_after_its_last_event(account: AccountClient) -> None:
    export_id = account.execute_accepted(account.plan(units=2))
    before = stream(account.http, export_id, limit=5)
    assert [number for number, _ in before] == [1, 2, 3, 4, 5]
    after = stream(account.http, export_id, last_event_id="5")
    received = before + after
    assert [number for number, _ in received] == list(range(1, len(received) + 1))
    assert all(number == event["seq"] for number, event in received)
    # The stream ended by itself, with all events as in the log.
    account.wait_executed(export_id, seconds=1)
    assert [event for _, event in received] == account.events(export_id)
    ended = account.http.get(
        f"/api/exports/{export_id}/events", headers={"accept": "text/event-stream", "last-event-id": str(len(received))}
    )
    assert (ended.status_code, ended.content) == (204, b"")


def test_request_waits_for_the_outcome(account: AccountClient) -> None:
    answer = account.execute(account.plan(), Prefer="wait=30")
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    view = answer.json()
    assert view["state"] == "executed"
    assert answer.headers["location"] == view["links"]["self"]


def test_unchanged_export_is_not_modified(account: AccountClient) -> None:
    export_id = account.execute_accepted(account.plan())
    account.wait_executed(export_id)
    first = account.http.get(f"/api/exports/{export_id}")
    again = account.http.get(f"/api/exports/{export_id}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
