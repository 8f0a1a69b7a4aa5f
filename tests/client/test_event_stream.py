"""Following the log: a broken stream continues after the last event, and waiting has an end."""

import json
from dataclasses import replace

import pytest

from pipeline.client import ApiProblem, ApiUnreachable, StillRunning
from pipeline.client.event_stream import MAX_FAILURES
from tests.client.conftest import Client, ScriptedAnswer, ScriptedServer, problem

EVENT = {"type": "STEP_RETRIED", "at": "2026-11-24T15:04:05Z", "actor": "test", "data": {}, "unheard": "of"}
NO_MORE_EVENTS = ScriptedAnswer(204)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open a broken stream again at once."""
    monkeypatch.setattr("pipeline.client.event_stream.RECONNECT_SECONDS", 0.001)


def stream(*numbers: int, cut: bytes = b"") -> ScriptedAnswer:
    lines = [f"id: {n}\ndata: {json.dumps({'id': f'evt_{n}', 'seq': n, **EVENT})}\n\n" for n in numbers]
    return ScriptedAnswer(200, b": hello\n\n" + "".join(lines).encode() + cut, "text/event-stream; charset=utf-8")


def test_broken_stream_continues_after_the_last_event(server: ScriptedServer, client: Client) -> None:
    server.answer_with(
        stream(1, 2, cut=b'id: 3\ndata: {"id": "ev'), ScriptedAnswer(cut=True), stream(3), NO_MORE_EVENTS
    )
    assert [event.seq for event in client.collect(server.url, "follow", "exp_1")] == [1, 2, 3]
    assert [each.headers["Last-Event-ID"] for each in server.requests] == ["0", "2", "2", "3"]
    assert server.requests[0].headers["Authorization"] == "Bearer key"


def test_follow_after_an_event_asks_for_the_rest(server: ScriptedServer, client: Client) -> None:
    server.answer_with(stream(8), NO_MORE_EVENTS)
    assert [event.seq for event in client.collect(server.url, "follow", "exp_1", after=7)] == [8]
    assert [each.headers["Last-Event-ID"] for each in server.requests] == ["7", "8"]


def test_broken_stream_of_the_feed_continues_after_the_last_event(server: ScriptedServer, client: Client) -> None:
    of_export = {"exportId": "exp_1", "batchId": "b", "test": False}

    def part(*ids: str, cut: bytes = b"") -> ScriptedAnswer:
        lines = [f"id: {each}\ndata: {json.dumps({'id': each, 'seq': 1, **EVENT, **of_export})}\n\n" for each in ids]
        return ScriptedAnswer(200, "".join(lines).encode() + cut, "text/event-stream")

    server.answer_with(part("exp_1.7", "exp_2.1", cut=b"id: exp"), ScriptedAnswer(cut=True), part(), part("exp_1.8"))
    received = client.collect(server.url, "follow_account", types=["HANDED_OFF", "EXPORT_FAILED"], most=3)
    assert [each.id for each in received] == ["exp_1.7", "exp_2.1", "exp_1.8"]
    assert {each.path for each in server.requests} == {"/api/events?type=HANDED_OFF&type=EXPORT_FAILED"}
    assert [each.headers.get("Last-Event-ID") for each in server.requests] == [None, *["exp_2.1"] * 3]
    client.collect(server.url, "follow_account", after="exp_1.8", most=1)
    assert server.requests[-1].headers["Last-Event-ID"] == "exp_1.8"
    server.answer_with(problem(400, "VALIDATION_ERROR"))
    with pytest.raises(ApiProblem):
        client.collect(server.url, "follow_account", after="exp_lost.1")


def test_follow_may_stop_early(server: ScriptedServer, client: Client) -> None:
    server.answer_with(stream(1, 2, 3))
    assert [event.seq for event in client.collect(server.url, "follow", "exp_1", most=2)] == [1, 2]


def test_event_over_several_lines_is_one(server: ScriptedServer, client: Client) -> None:
    halves = json.dumps({"id": "evt_1", "seq": 1, **EVENT}).split(", ", 1)
    body = f"data: {halves[0]},\r\ndata:{halves[1]}\r\n\r\n".encode()
    server.answer_with(ScriptedAnswer(200, body, "text/event-stream"), NO_MORE_EVENTS)
    assert [event.seq for event in client.collect(server.url, "follow", "exp_1")] == [1]


def test_follow_raises_after_its_timeout(server: ScriptedServer, client: Client) -> None:
    server.answer_with(stream(1), stream())
    with pytest.raises(StillRunning, match=r"exp_1 was still running after 0\.2 s"):
        client.collect(server.url, "follow", "exp_1", timeout_seconds=0.2)


def test_follow_with_a_long_retry_after_raises_at_once(server: ScriptedServer, client: Client) -> None:
    server.answer_with(problem(503, "NOT_READY", Retry_After="3600"))
    with pytest.raises(StillRunning):
        client.collect(server.url, "follow", "exp_1", timeout_seconds=5)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "passing", [problem(503, "NOT_READY"), problem(429, "RATE_LIMITED"), ScriptedAnswer(502, b"<html>")]
)
def test_follow_continues_after_transient_errors(
    server: ScriptedServer, client: Client, passing: ScriptedAnswer
) -> None:
    server.answer_with(passing, passing, stream(1), NO_MORE_EVENTS)
    assert [event.seq for event in client.collect(server.url, "follow", "exp_1")] == [1]


def test_follow_raises_a_permanent_error(server: ScriptedServer, client: Client) -> None:
    server.answer_with(stream(1), problem(404, "NOT_FOUND"))
    with pytest.raises(ApiProblem) as refused:
        client.collect(server.url, "follow", "exp_1")
    assert (refused.value.code, len(server.requests)) == ("NOT_FOUND", 2)


@pytest.mark.parametrize(
    "wrong", [ScriptedAnswer(200, b"<html>Welcome</html>", "text/html"), replace(stream(), body=b"data: {}\n\n")]
)
def test_follow_raises_after_repeated_answers_without_events(
    server: ScriptedServer, client: Client, wrong: ScriptedAnswer
) -> None:
    server.answer_with(wrong)
    with pytest.raises(ApiUnreachable, match="the stream of events broke"):
        client.collect(server.url, "follow", "exp_1")
    assert len(server.requests) == MAX_FAILURES + 1
