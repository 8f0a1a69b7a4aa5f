"""The sandbox broker answers by entry, by webhook from a timer and by polls of the borderbuddy endpoint."""

from datetime import UTC, datetime

import pytest
from sqlmodel import col, select

from pipeline.deliveries import polling, resend, sandbox_broker, sandbox_script
from pipeline.deliveries.models import Acknowledgement
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.polling import PollResult
from pipeline.deliveries.streams import sender
from pipeline.workflow.withdrawals import withdraw_export
from tests.deliveries.conftest import Clock
from tests.deliveries.support import exports
from tests.deliveries.support.scenario import ApiHarness, hand_off
from tests.support import factories, stored
from tests.support.servers import poll


@pytest.fixture(params=["borderbuddy", "webhook"])
def via(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the broker gets handoffs. By borderbuddy all timers are lost, as by a restart, and only polls bring answers."""
    schedule, by_poll = sandbox_broker._schedule, request.param == "borderbuddy"
    monkeypatch.setattr(sandbox_broker, "_schedule", lambda wait, post: None if by_poll else schedule(wait / 20, post))
    return str(request.param)


def read_entries(harness: ApiHarness, clock: Clock, export: exports.PreparedExport, count: int) -> list[str]:
    """Return the headlines of the entries when `count` answers are recorded."""
    submission = harness.submission(export)
    if submission.channel == "borderbuddy":
        clock.pass_seconds(60)
        polling.poll_endpoint(harness.runtime, submission.id)
    poll(lambda: len(stored.rows(harness.runtime, select(Acknowledgement))) >= count)
    view = harness.client("read").get(f"/api/exports/{export.export_id}").json()["broker_submission"]
    return [each["headline"] for each in view["entries"]]


@pytest.mark.parametrize(
    ("letter", "statuses"),
    [
        ("W", ["withdrawn"]),
        ("E", ["accepted", "filed"]),
        ("C2", ["accepted", "filed", "released"]),
        ("X", ["accepted", "filed", "released", "held"]),
    ],
)
def test_letter_gives_its_statuses_one_after_another(
    harness: ApiHarness, clock: Clock, via: str, letter: str, statuses: list[str]
) -> None:
    export, _ = hand_off(harness, invoice=letter, via=via)
    first = int(via == "borderbuddy")  # it says `received` in its response
    assert read_entries(harness, clock, export, len(statuses) + first) == statuses[-1:]
    answers = stored.rows(harness.runtime, select(Acknowledgement).order_by(col(Acknowledgement.received_at)))
    assert [each.status for each in answers][first:] == statuses
    assert [each.id.partition(":")[2] for each in answers][first:] == statuses
    assert {each.status for each in answers if each.entry_number} == {*statuses} & {"filed"}


def test_three_units_have_three_results_that_a_repeated_handoff_keeps(
    harness: ApiHarness, clock: Clock, via: str
) -> None:
    export, _ = hand_off(harness, invoice="C H2 W", via=via)
    assert read_entries(harness, clock, export, 5 + (via == "borderbuddy")) == ["released", "held", "withdrawn"]
    before = {each.id: each for each in stored.rows(harness.runtime, select(Acknowledgement))}
    filed = next(each for name, each in before.items() if name.endswith(":1:filed"))
    assert (filed.packages, str(filed.entry_number)[:4]) == (["CP-000001"], "SBX-")
    broker = harness.submission(export).partner_id
    (sent,) = exports.list_deliveries(harness.runtime, export.export_id, broker)
    resend.resend_delivery(harness.runtime, factories.ACCOUNT, sent.id, "key_1")
    sender.notify_audience(harness.runtime, export.context, outbox.BROKER)
    assert read_entries(harness, clock, export, len(before)) == ["released", "held", "withdrawn"]
    assert {each.id: each for each in stored.rows(harness.runtime, select(Acknowledgement))} == before
    if via == "borderbuddy":
        assert polling.poll_endpoint(harness.runtime, harness.submission(export).id) == PollResult(repeated=6)


def test_one_unit_stays_silent_and_one_that_fails_fails_the_handoff(
    harness: ApiHarness, clock: Clock, via: str
) -> None:
    export, _ = hand_off(harness, invoice="R P A", via=via)
    assert read_entries(harness, clock, export, 2 + (via == "borderbuddy")) == ["rejected", "awaiting", "accepted"]
    (rejected,) = stored.rows(harness.runtime, select(Acknowledgement).where(Acknowledgement.status == "rejected"))
    assert rejected.fields[0]["pointer"] == "/units/0/lines/0/htsCode"
    assert harness.submission(hand_off(harness, invoice="A F", via=via)[0]).state == "sent"


@pytest.mark.parametrize(
    ("invoice", "count", "headlines", "state"),
    [
        ("A P D9", 4, ["withdrawn", "awaiting", "withdrawn"], "withdrawing"),
        ("E9 H W", 5, ["filed", "withdrawn", "withdrawn"], "not_withdrawn"),
        ("E9", 2, ["filed"], "not_withdrawn"),
    ],
)
def test_withdrawal_takes_back_only_entries_that_the_sandbox_does_not_file(
    harness: ApiHarness,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    via: str,
    invoice: str,
    count: int,
    headlines: list[str],
    state: str,
) -> None:
    with monkeypatch.context() as without_timers:  # on a slow machine the entry would be filed before the request
        without_timers.setattr(sandbox_broker, "_schedule", lambda wait, post: None)
        export, _ = hand_off(harness, invoice=invoice, via=via)
    withdraw_export(harness.runtime, factories.ACCOUNT, export.export_id, "key_1", "The buyer called.")
    submission = harness.submission(export)
    sender.deliver_stream(harness.runtime, export.export_id, submission.partner_id, submission.channel)
    assert read_entries(harness, clock, export, count + (via == "borderbuddy")) == headlines
    assert harness.submission(export).state == state


def test_poll_gives_many_answers_in_parts(harness: ApiHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_broker, "_schedule", lambda wait, post: None)
    monkeypatch.setattr(sandbox_broker, "_MAX_LISTED", 3)
    export, _ = hand_off(harness, invoice="C C")
    clock.pass_seconds(60)
    found = [polling.poll_endpoint(harness.runtime, harness.submission(export).id).recorded for _ in range(3)]
    assert found == [3, 3, 0]


def test_kept_and_corrected_entries_get_no_second_one() -> None:
    scripts, packages = [sandbox_script.parse_script(each) for each in "CCA"], ["CP-000001", "CP-000002", "CP-000003"]
    asked = datetime(2026, 11, 24, tzinfo=UTC)
    handoff = sandbox_script.ScriptedHandoff(
        "ntf_1", asked, scripts, packages, asked, kept=frozenset({2, 3}), corrected={1: "SBX-0000001-1"}
    )
    assert not handoff.is_silent
    given = [each.answer for each in handoff.list_late_answers("borderbuddy")]
    assert [(each.customs_package_numbers[0], each.status, each.entry_number) for each in given] == [
        ("CP-000003", "withdrawn", None),
        ("CP-000001", "accepted", None),
        ("CP-000001", "filed", "SBX-0000001-1"),
        ("CP-000001", "released", None),
    ]
