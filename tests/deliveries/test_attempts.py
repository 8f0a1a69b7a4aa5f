"""What came of sending is written while the lease runs, however often the database does not answer, and written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.core.errors import DatabaseBusy, Fenced
from pipeline.core.leases import Lease
from pipeline.deliveries import attempts, sender
from pipeline.deliveries.attempts import RecordResult
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.deliveries.support.hooks import attempts as tried
from tests.deliveries.support.hooks import deliver, hand_off_by_webhook, states
from tests.deliveries.support.http_endpoint import Endpoint, Script

Start = Callable[..., Endpoint]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record again without a pause."""
    monkeypatch.setattr(sender, "RECORD_RETRY_SECONDS", 0)


def fail_database(monkeypatch: pytest.MonkeyPatch, *, refusals: int, written: bool = False) -> list[int]:
    """Have the database not answer so often: before it is asked, or once it has written; return what is asked of it."""
    record, asked = attempts.record_attempts, [0]

    def recorded(*arguments: Any) -> RecordResult:
        asked[0] += 1
        if asked[0] > refusals:
            return record(*arguments)
        if written:
            record(*arguments)
        raise DatabaseBusy("the database did not answer")

    monkeypatch.setattr(attempts, "record_attempts", recorded)
    return asked


def test_what_was_sent_is_recorded_once_the_database_answers_again_and_not_sent_again(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, hook = make_runtime(), endpoint()
    export = hand_off_by_webhook(runtime, hook.url)
    asked = fail_database(monkeypatch, refusals=3)
    assert deliver(runtime, export).delivered == 3
    assert asked == [4]
    assert len(hook.requests) == 3
    assert states(runtime, export) == [("delivered", 1)] * 3


def test_nothing_is_recorded_once_another_may_have_the_lease(
    make_runtime: OpenRuntime, endpoint: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint().url)
    asked = fail_database(monkeypatch, refusals=100)
    monkeypatch.setattr(Lease, "is_valid", lambda _: asked[0] < 2)
    with pytest.raises(DatabaseBusy):
        deliver(runtime, export)
    assert asked == [2]
    assert states(runtime, export) == [("pending", 0)] * 3


@pytest.mark.parametrize(
    ("script", "ended"), [(Script(), "delivered"), (Script(500), "pending"), (Script(410), "dead")]
)
def test_answer_to_the_commit_that_is_lost_has_nothing_written_twice(
    make_runtime: OpenRuntime,
    endpoint: Start,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    script: Script,
    ended: str,
) -> None:
    runtime = make_runtime()
    export = hand_off_by_webhook(runtime, endpoint(script).url, packages=1)
    fail_database(monkeypatch, refusals=1, written=True)
    with pytest.raises(Fenced):
        deliver(runtime, export)
    assert states(runtime, export) == [(ended, 1)]
    assert len(tried(runtime)) == 1
    assert exports.read_event_types(runtime, export.export_id).count("DELIVERY_FAILED") == (ended != "delivered")
