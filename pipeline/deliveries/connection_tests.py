"""Connection tests: test each endpoint of a partner in stages, store the result, and move the partner's state."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any, Final

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import insert, select

from config.settings import Settings
from pipeline.accounts import partners, recipients
from pipeline.accounts.models import ConnectionTest
from pipeline.accounts.recipients import SealedTarget
from pipeline.accounts.schemas import PartnerTested, PartnerView
from pipeline.core.db import database_now
from pipeline.core.errors import ASK_FOR_LIVE, ExportsError, InsufficientRole, RateLimited, SecretUnreadable
from pipeline.core.ids import new_id
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.protocol import OutgoingMessage, Stage
from pipeline.deliveries.channels.registry import open_channels
from pipeline.deliveries.schemas.messages import CONNECTION_TEST, ConnectionTested
from pipeline.deliveries.streams import recovery
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.schemas.plan import as_json

#: How many partners a process tests at once. Each test holds a thread while its endpoints do not answer.
MAX_CONCURRENT_TESTS: Final = 4


@dataclass
class _RunningTests:
    """The accounts whose connection test runs in this process."""

    accounts: set[str] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)

    @contextmanager
    def reserve(self, account_id: str) -> Iterator[None]:
        """Reserve a place for the account while the block runs. Raises RateLimited if there is none."""
        with self.lock:
            if account_id in self.accounts or len(self.accounts) >= MAX_CONCURRENT_TESTS:
                owner = f"of account {account_id}" if account_id in self.accounts else "of other accounts"
                raise RateLimited(
                    f"a connection test {owner} is running; try again when it has ended", headers={"Retry-After": "5"}
                )
            self.accounts.add(account_id)
        try:
            yield
        finally:
            with self.lock:
                self.accounts.discard(account_id)


_RUNNING: Final = _RunningTests()

#: Is called with a channel and None when its test begins, then with each of its stages when it ends, from several threads.
StageObserver = Callable[[str, Stage | None], None]


def ignore_stage(_channel: str, _stage: Stage | None) -> None:
    """Do nothing, for callers that wait for the whole result."""


def run_connection_test(
    runtime: Runtime,
    account_id: str,
    partner_id: str,
    *,
    tested_by: str,
    test_key: bool = False,
    on_stage: StageObserver = ignore_stage,
) -> PartnerTested:
    """Test all endpoints of the partner in parallel, within the settings' time, and return the results.

    A partner that was never live becomes verified if all pass, else testing. If all pass, what waits for the partner is
    due now. No transaction is open during the test.
    `on_stage` follows its progress.
    Raises NotFound. Raises InsufficientRole if a test key tests a partner not marked test. Raises RateLimited if a test
    of the account is running, or too many tests run in this process.
    """
    with _RUNNING.reserve(account_id):
        return _run_test(runtime, account_id, partner_id, tested_by, on_stage, test_key=test_key)


def _run_test(
    runtime: Runtime, account_id: str, partner_id: str, tested_by: str, on_stage: StageObserver, *, test_key: bool
) -> PartnerTested:
    test_id = new_id("cnt")
    with runtime.db.read() as session:
        partner = partners.load_partner(session, account_id, partner_id)
        if test_key and not partner.test:
            raise InsufficientRole(f"{partner_id} is not marked test, so test mode does not reach it; {ASK_FOR_LIVE}")
        targets = recipients.list_sealed_targets(session, account_id, partner_id)
        began = session.execute(select(database_now())).scalar_one()
    message = _build_message(runtime.settings, account_id, partner, test_id, began)
    with ThreadPoolExecutor(len(targets), thread_name_prefix="connection-test") as pool:
        results = list(pool.map(lambda target: _test_endpoint(runtime.settings, message, target, on_stage), targets))
    passed = all(endpoint.passed for endpoint in results)
    with runtime.db.write() as session:
        session.execute(
            insert(ConnectionTest).values(
                id=test_id,
                account_id=account_id,
                partner_id=partner_id,
                passed=passed,
                endpoints=[endpoint.to_json for endpoint in results],
                tested_by=tested_by,
                tested_at=began,
            )
        )
        tested = partners.apply_test_result(session, account_id, partner_id, test_id)
        if passed and not tested.outdated:
            recovery.make_partner_due(session, runtime.settings, account_id, partner_id)
        record_act(session, account_id, tested_by, Action.PARTNER_TESTED, partner_id, {"passed": passed})
        return tested


def _build_message(
    settings: Settings, account_id: str, partner: PartnerView, test_id: str, at: datetime
) -> OutgoingMessage:
    event = CloudEvent(
        {
            "id": test_id,
            "source": f"/accounts/{account_id}",
            "type": CONNECTION_TEST,
            "specversion": "1.0",
            "subject": partner.id,
            "time": at,
            "datacontenttype": "application/json",
            "dataschema": f"{settings.public_url}/api/schemas/{CONNECTION_TEST}.json",
        },
        as_json(ConnectionTested(test_id=test_id, partner_id=partner.id)),
    )
    return OutgoingMessage(
        id=test_id,
        type=CONNECTION_TEST,
        routing_key=partner.queue_binding.removesuffix("#") + CONNECTION_TEST.removeprefix("exports."),
        body=JSONFormat().write(event),
    )


@dataclass(frozen=True)
class _EndpointResult:
    channel: str
    stages: tuple[Stage, ...]

    @property
    def passed(self) -> bool:
        return all(stage.passed for stage in self.stages)

    @property
    def to_json(self) -> dict[str, Any]:
        stages = [
            {
                "name": stage.name,
                "passed": stage.passed,
                "durationMs": stage.duration_ms,
                "found": stage.found,
                "remedy": stage.remedy,
            }
            for stage in self.stages
        ]
        return {"channel": self.channel, "passed": self.passed, "stages": stages}


def _test_endpoint(
    settings: Settings, message: OutgoingMessage, target: SealedTarget, on_stage: StageObserver
) -> _EndpointResult:
    on_stage(target.channel, None)
    stages = []
    for stage in _run_stages(settings, message, target):
        on_stage(target.channel, stage)
        stages.append(stage)
    return _EndpointResult(target.channel, tuple(stages))


def _run_stages(settings: Settings, message: OutgoingMessage, target: SealedTarget) -> Iterator[Stage]:
    """Yield the stages of the channel's test until one fails or the time is over."""
    began = time.monotonic()
    try:
        for stage in open_channels(settings)[target.channel].test(message, target.unseal(settings)):
            yield stage
            if stage.passed and time.monotonic() - began > settings.connection_test_seconds:
                yield Stage(
                    "time",
                    passed=False,
                    duration_ms=round((time.monotonic() - began) * 1000),
                    found=f"the test took longer than its limit of {settings.connection_test_seconds:g} s",
                    remedy="make the partner's server answer faster",
                )
                return
    except ExportsError as error:
        remedy = "set the partner's channel again"
        if isinstance(error, SecretUnreadable):
            remedy = "give this process that key; or rotate the partner's secret and set its credential again"
        yield Stage("settings", passed=False, duration_ms=0, found=str(error), remedy=remedy)
