"""From draft to live: stored connection tests, the states that they set, and which partners exports may reach."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.models import ConnectionTest, Partner
from pipeline.accounts.schemas import PartnerChanges, PartnerTested
from pipeline.accounts.states import PARTNER_MOVES, PartnerState
from pipeline.core.errors import InsufficientRole, InvalidState, NotFound, PartnerNotLive
from pipeline.core.runtime import Runtime
from pipeline.deliveries import connection_tests
from pipeline.deliveries.channels import queue_reader
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, ConnectionTested
from pipeline.deliveries.streams import recovery
from pipeline.exports.schemas.plan import Plan
from pipeline.simulation.partners.http import ReceivedRequest, WebhookReceiver
from pipeline.workflow import partner_checks
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.mail_server import MailServer
from tests.support.ports import LOOPBACK
from tests.support.sftp_server import SftpServer

Start = Callable[..., WebhookReceiver]
NAME = "wh_new"
ACTIVATE = (
    " `exports partners test wh_new --account acc_demo`, then `exports partners activate wh_new --account acc_demo`"
)
RESUME = "is paused; resume it first: `exports partners resume wh_new --account acc_demo`"
MODES: tuple[Literal["live", "test"], ...] = ("live", "test")


@pytest.fixture
def receiver() -> Iterator[Start]:
    """Starts receivers and stops them after the test."""
    with ExitStack() as running:
        yield lambda *secrets, **how: running.enter_context(WebhookReceiver(secrets, **how))


def register_draft(runtime: Runtime, url: str | None = None, **facts: Any) -> str:
    """Register a draft warehouse, and return its secret."""
    channels = [{"channel": "queue"}, *([{"channel": "webhook", "address": url}] if url else [])]
    return exports.register(runtime, NAME, "warehouse", **{"live": False, "channels": channels, **facts}).secret


def run_test(runtime: Runtime, partner_id: str = NAME) -> PartnerTested:
    return connection_tests.run_connection_test(runtime, factories.ACCOUNT, partner_id, tested_by="key_1")


def read_state(runtime: Runtime) -> str:
    return partners.get_partner(runtime, factories.ACCOUNT, NAME).state


def set_channels(runtime: Runtime, *urls: str) -> None:
    channels = [{"channel": "webhook", "address": url} for url in urls]
    recovery.update_partner(runtime, factories.ACCOUNT, NAME, PartnerChanges.model_validate({"channels": channels}))


# State changes by a test


def test_new_partner_is_draft_unless_registered_live(runtime: Runtime) -> None:
    register_draft(runtime)
    assert read_state(runtime) == "draft"
    assert partners.get_partner(runtime, factories.ACCOUNT, factories.WAREHOUSE).state == "live"


def test_passed_endpoints_verify_and_activation_makes_live(runtime: Runtime, receiver: Start) -> None:
    set_channels(runtime, receiver(register_draft(runtime)).url)
    made = run_test(runtime)
    assert (made.passed, made.state, made.outdated, made.tested_by) == (True, "verified", False, "key_1")
    assert partners.activate_partner(runtime, factories.ACCOUNT, NAME).state == "live"
    with pytest.raises(InvalidState, match="wh_new is live; there is nothing to do"):
        partners.activate_partner(runtime, factories.ACCOUNT, NAME)


def test_one_failed_endpoint_fails_the_test_and_the_others_are_tested(runtime: Runtime, receiver: Start) -> None:
    register_draft(runtime, receiver("none", fault="errors").url)
    made = run_test(runtime)
    assert (made.passed, made.state) == (False, "testing")
    assert [(endpoint.channel, endpoint.passed, endpoint.stages[-1].name) for endpoint in made.endpoints] == [
        ("queue", True, "test event"),
        ("webhook", False, "signed event"),
    ]
    with pytest.raises(InvalidState, match="is testing; fix what its last connection test found"):
        partners.activate_partner(runtime, factories.ACCOUNT, NAME)


def test_unreadable_secret_fails_only_its_endpoint(
    make_runtime: OpenRuntime, runtime: Runtime, receiver: Start
) -> None:
    register_draft(runtime, receiver("none").url)
    made = run_test(make_runtime(secret_key="lost"))
    assert [(endpoint.channel, endpoint.passed, endpoint.stages[-1].name) for endpoint in made.endpoints] == [
        ("queue", True, "test event"),
        ("webhook", False, "settings"),
    ]
    assert "EXPORTS_SECRET_KEYS_PREVIOUS" in made.endpoints[1].stages[-1].found


def test_draft_cannot_be_activated(runtime: Runtime) -> None:
    register_draft(runtime)
    with pytest.raises(InvalidState, match="is draft; run its connection test"):
        partners.activate_partner(runtime, factories.ACCOUNT, NAME)
    with pytest.raises(InvalidState, match="is draft; only a live partner can be paused"):
        partners.pause_partner(runtime, factories.ACCOUNT, NAME)
    with pytest.raises(InvalidState):
        recovery.resume_partner(runtime, factories.ACCOUNT, NAME)
    assert read_state(runtime) == "draft"


@pytest.mark.parametrize("fault", [None, "errors"])
def test_live_or_paused_partner_keeps_its_state_after_any_test(runtime: Runtime, receiver: Start, fault: Any) -> None:
    secret = register_draft(runtime, live=True)
    set_channels(runtime, receiver(secret, fault=fault).url)
    for stands in ("live", "paused"):
        made = run_test(runtime)
        assert (made.passed, made.state) == (fault is None, stands)
        if stands == "live":
            partners.pause_partner(runtime, factories.ACCOUNT, NAME)


def test_changed_endpoint_moves_verified_partner_to_testing(runtime: Runtime, clock: Clock, receiver: Start) -> None:
    secret = register_draft(runtime)
    assert run_test(runtime).state == "verified"
    clock.pass_seconds(1)
    recovery.update_partner(runtime, factories.ACCOUNT, NAME, PartnerChanges.model_validate({"name": "Another name"}))
    assert read_state(runtime) == "verified"
    set_channels(runtime, receiver(secret).url)
    view = partners.get_partner(runtime, factories.ACCOUNT, NAME)
    assert view.last_test is not None
    assert (view.state, view.last_test.passed, view.last_test.outdated) == ("testing", True, True)
    clock.pass_seconds(1)
    assert run_test(runtime).state == "verified"


def test_changed_endpoint_of_live_partner_outdates_its_test(runtime: Runtime, clock: Clock) -> None:
    register_draft(runtime, live=True)
    run_test(runtime)
    clock.pass_seconds(1)
    set_channels(runtime, "https://dock.example/in")
    (view,) = [each for each in partners.list_partners(runtime, factories.ACCOUNT) if each.id == NAME]
    assert view.last_test is not None
    assert (view.state, view.last_test.outdated) == ("live", True)


def test_change_during_the_test_moves_nothing(runtime: Runtime, clock: Clock, receiver: Start) -> None:
    def change(_: ReceivedRequest) -> None:
        clock.pass_seconds(1)
        recovery.update_partner(runtime, factories.ACCOUNT, NAME, PartnerChanges.model_validate({"channels": []}))

    set_channels(runtime, receiver(register_draft(runtime), on_request=change).url)
    made = run_test(runtime)
    assert (made.passed, made.outdated, made.state) == (True, True, "draft")


def test_only_moves_of_the_table_take_effect(runtime: Runtime) -> None:
    """Try each move from each state. Only those of the table take effect."""
    register_draft(runtime)
    for origin in PartnerState:
        for target in PartnerState:
            with runtime.db.write() as session:
                row = session.get_one(Partner, (factories.ACCOUNT, NAME))
                row.state = origin.value
                session.add(row)
            with runtime.db.write() as session:
                moved = partners.change_state(session, factories.ACCOUNT, NAME, target)
            assert moved == (target in PARTNER_MOVES[origin]), (origin, target)
            assert read_state(runtime) == (target if moved else origin)


def test_customs_broker_with_all_five_channels_is_verified(
    make_runtime: OpenRuntime, receiver: Start, tmp_path: Path
) -> None:
    buddy = receiver(token="of-ours")
    with MailServer() as room, SftpServer(tmp_path / "partner") as files:
        files.root.mkdir()
        runtime = make_runtime(
            borderbuddy_url=buddy.url,
            borderbuddy_token="of-ours",
            smtp_url=f"smtp://{LOOPBACK}:{room.port}",
            mail_from="exports@maple.example",
            delivery_timeout_seconds=5,
        )
        endpoints: list[dict[str, Any]] = [
            {"channel": "borderbuddy"},
            {"channel": "queue"},
            {"channel": "email", "addresses": ["entries@broker.example"]},
            files.endpoint() | {"password": files.password},
        ]
        made = exports.register(runtime, "br_all", "customs_broker", path="borderbuddy", channels=endpoints, live=False)
        hook = {"channel": "webhook", "address": receiver(made.secret).url}
        channels = [*endpoints, hook]
        recovery.update_partner(
            runtime, factories.ACCOUNT, "br_all", PartnerChanges.model_validate({"channels": channels})
        )
        tested = run_test(runtime, "br_all")
        assert [(endpoint.channel, endpoint.passed, endpoint.stages[-1].name) for endpoint in tested.endpoints] == [
            ("borderbuddy", True, "wrong token"),
            ("queue", True, "test event"),
            ("email", True, "test mail"),
            ("sftp", True, "test event"),
            ("webhook", True, "old event"),
        ]
        assert (tested.state, len(room.mails)) == ("verified", 1)
        assert f"out/{tested.id}/manifest.json" in files.files()


# Sent event and stored test


def test_test_event_matches_its_schema_and_is_in_the_partner_queue(runtime: Runtime) -> None:
    register_draft(runtime)
    made = run_test(runtime)
    (received,) = queue_reader.drain_queues(runtime.settings, ["exports.warehouse"])
    assert received.routing_key == f"warehouse.{NAME}.connection.test.v1"
    event = received.event
    assert (event["id"], event["type"], event["subject"]) == (made.id, CONNECTION_TEST, NAME)
    assert event["dataschema"].endswith(f"/api/schemas/{CONNECTION_TEST}.json")
    assert ConnectionTested.model_validate(event["data"]).model_dump() == {"test_id": made.id, "partner_id": NAME}


def test_each_test_is_stored_and_the_partner_shows_the_newest(runtime: Runtime, receiver: Start) -> None:
    register_draft(runtime, receiver("none", fault="errors").url)
    first = run_test(runtime)
    set_channels(runtime)
    second = run_test(runtime)
    rows = stored.rows(runtime, select(ConnectionTest).order_by(col(ConnectionTest.id)))
    assert [(row.id, row.passed) for row in rows] == [(first.id, False), (second.id, True)]
    view = partners.get_partner(runtime, factories.ACCOUNT, NAME)
    assert view.last_test is not None
    assert (view.last_test.id, view.last_test.endpoints[0].stages[0].name) == (second.id, "connect")
    assert partners.get_partner(runtime, factories.ACCOUNT, factories.WAREHOUSE).last_test is None


def test_no_transaction_is_open_during_a_connection_test(runtime: Runtime, receiver: Start) -> None:
    """A write succeeds during a test. On SQLite an open write transaction would block it."""
    written = threading.Event()

    def write(_: ReceivedRequest) -> None:
        recovery.update_partner(runtime, factories.ACCOUNT, NAME, PartnerChanges.model_validate({"name": "In between"}))
        written.set()

    set_channels(runtime, receiver(register_draft(runtime), on_request=write).url)
    assert run_test(runtime).passed
    assert written.is_set()


def test_connection_test_has_a_time_limit(make_runtime: OpenRuntime, receiver: Start) -> None:
    runtime = make_runtime(connection_test_seconds=0.000001)
    register_draft(runtime)
    made = run_test(runtime)
    assert [(each.name, each.passed) for each in made.endpoints[0].stages] == [("connect", True), ("time", False)]
    assert "longer than its limit of 1e-06 s" in made.endpoints[0].stages[1].found


def test_unusable_endpoint_is_a_failed_stage(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime()
    exports.register(runtime, "br_new", "customs_broker", path="borderbuddy", live=False)
    made = run_test(runtime, "br_new")
    (stage,) = made.endpoints[0].stages
    assert (stage.name, stage.passed, "EXPORTS_BORDERBUDDY_URL" in stage.found) == ("settings", False, True)


def test_test_key_tests_only_partners_marked_test(runtime: Runtime, receiver: Start) -> None:
    requests: list[ReceivedRequest] = []
    register_draft(runtime, receiver("none", on_request=requests.append).url)
    with pytest.raises(InsufficientRole):
        connection_tests.run_connection_test(runtime, factories.ACCOUNT, NAME, tested_by="key_1", test_key=True)
    assert requests == []
    recovery.update_partner(runtime, factories.ACCOUNT, NAME, PartnerChanges(test=True))
    connection_tests.run_connection_test(runtime, factories.ACCOUNT, NAME, tested_by="key_1", test_key=True)
    assert requests != []


def test_unknown_partner_is_not_found(runtime: Runtime) -> None:
    with pytest.raises(NotFound):
        run_test(runtime, "wh_none")
    with pytest.raises(NotFound):
        partners.rotate_secret(runtime, factories.ACCOUNT, "wh_none", 24)


# Partners that exports may reach


@pytest.mark.parametrize(
    ("stands", "live", "test"),
    [
        ("draft", "is draft; run its connection test, and activate it when the test has passed:" + ACTIVATE, None),
        (
            "testing",
            "is testing; fix what its last connection test found, test it again, and activate it:" + ACTIVATE,
            None,
        ),
        ("verified", "is verified; activate it first: `exports partners activate wh_new --account acc_demo`", None),
        ("live", None, None),
        ("paused", RESUME, RESUME),
    ],
)
def test_live_export_needs_live_partners_and_test_export_test_partners(
    runtime: Runtime, stands: str, live: str | None, test: str | None
) -> None:
    register_draft(runtime, test=True)
    exports.register(runtime, "br_test", "customs_broker", test=True)
    with runtime.db.write() as session:
        row = session.get_one(Partner, (factories.ACCOUNT, NAME))
        row.state = stands
        session.add(row)
    plan = Plan.model_validate(factories.plan(broker="br_test", warehouse=NAME))
    callers = [Caller(factories.ACCOUNT, "key_1", mode, frozenset({"execute"})) for mode in MODES]
    for caller, expected in zip(callers, (live, test), strict=True):
        with runtime.db.read() as session:
            if expected is None:
                partner_checks.check_partners(session, runtime.settings, caller, plan)
                continue
            with pytest.raises(PartnerNotLive) as refused:
                partner_checks.check_partners(session, runtime.settings, caller, plan)
        assert (refused.value.message, refused.value.field) == (
            f"the warehouse {NAME} {expected}",
            "/plan/warehouse/id",
        )
