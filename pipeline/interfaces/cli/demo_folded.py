"""The demo: three approved plans through every part of the service, from HTTP to the queues, in a home of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from config.queues import CUSTOMS_BROKER, OPERATOR, WAREHOUSE
from config.settings import Settings
from pipeline.accounts import api_keys, partners, service
from pipeline.accounts.channels import BorderBuddyWay, QueueWay
from pipeline.accounts.schemas import NewPartner
from pipeline.client import Exports
from pipeline.core.errors import ExportsError
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels import inbox
from pipeline.deliveries.channels.inbox import Received
from pipeline.exports import examples
from pipeline.exports.schemas.export import EventView, ExportView
from pipeline.exports.states import UNANSWERED, UNENDED
from pipeline.ops import migrations

QUEUES: Final = (CUSTOMS_BROKER, WAREHOUSE, OPERATOR)
ACCOUNT: Final = "acc_demo"
#: The GS1 company prefix of the examples in GS1's own documents.
GS1_PREFIX: Final = "0614141"

PARTNERS: Final = (
    NewPartner(
        id="br_sandbox",
        kind="customs_broker",
        name="Sandbox customs broker",
        test=True,
        live=True,
        path="borderbuddy",
        channels=[BorderBuddyWay(), QueueWay()],
    ),
    NewPartner(id="wh_demo", kind="warehouse", name="Demo warehouse", test=True, live=True),
    NewPartner(id="op_demo", kind="operator", name="Demo export desk", test=True, live=True),
)

_POLL_SECONDS: Final = 0.05


class DemoFailed(ExportsError):
    """The demo cannot be given, or did not end as it should."""


@dataclass(frozen=True)
class ExamplePlan:
    """A bundled plan under the name of its file."""

    name: str
    plan: dict[str, Any]


@dataclass(frozen=True)
class Played:
    """One plan's export: `name` is the plan's."""

    name: str
    export: ExportView


def settings_of(home: Path, host: str, port: int) -> Settings:
    """Return the settings of a demo whose home is the folder `home`; the environment has no part in them."""
    return Settings.model_construct(
        database_url=f"sqlite:///{home / 'exports.db'}",
        broker_url=SecretStr("memory://"),
        artifacts_url=f"file:{home / 'artifacts'}",
        host=host,
        port=port,
        public_url=f"http://{host}:{port}",
        log_format="text",
        # The sandbox broker is this very process.
        allow_private_destinations=True,
    )


def prepare(runtime: Runtime) -> str:
    """Bring the database up to date, see to the demo's account and partners, and return a new key of the account."""
    migrations.upgrade(runtime.db)
    if service.find_account(runtime, ACCOUNT) is None:
        service.create_account(runtime, ACCOUNT, "Maple Goods Ltd", gs1_prefix=GS1_PREFIX)
    known = {partner.id for partner in partners.listed(runtime, ACCOUNT)}
    for partner in PARTNERS:
        if partner.id not in known:
            partners.create(runtime, ACCOUNT, partner)
    return api_keys.create_key(runtime, ACCOUNT, "demo", mode="test", roles=[api_keys.ADMIN]).bearer


def plans(now: datetime) -> list[ExamplePlan]:
    """Return the bundled plans, smallest first, dated by `now`, which also makes their batches unlike those of other runs.

    Raises DemoFailed if there are none.
    """
    found = []
    for name in examples.names():
        plan = examples.plan(name, now.date())
        plan["batchId"] = f"{plan['batchId']}.{now:%y%m%d%H%M%S}"
        found.append(ExamplePlan(name, plan))
    if not found:
        raise DemoFailed(f"there are no example plans in {examples.PLANS}; install the service again")
    return found


def post(api: Exports, plan: ExamplePlan) -> Played:
    """Have the plan executed over HTTP."""
    return Played(plan.name, api.execute(plan.plan, idempotency_key=f"demo-{plan.plan['batchId']}").export)


def watch(api: Exports, played: Sequence[Played], timeout_seconds: float) -> Iterator[tuple[Played, EventView]]:
    """Yield what happens to the exports, until each has ended, everybody was told and the customs broker has answered.

    Raises DemoFailed once the time is up.
    """
    deadline = time.monotonic() + timeout_seconds
    seen = {each.export.export_id: 0 for each in played}
    left = list(played)
    while left:
        for each in [*left]:
            export_id = each.export.export_id
            before = seen[export_id]
            for event in api.events(export_id, after=before):
                seen[export_id] = event.seq
                yield each, event
            if seen[export_id] == before and _settled(api.inspect(export_id)):
                left.remove(each)
        if left:
            if time.monotonic() > deadline:
                names = ", ".join(each.name for each in left)
                raise DemoFailed(f"not finished after {timeout_seconds:g} s: {names}")
            time.sleep(_POLL_SECONDS)


def _settled(export: ExportView) -> bool:
    if export.state in UNENDED:
        return False
    told = all(not sent.pending and not sent.waiting for sent in export.notifications)
    return told and all(submission.rung not in UNANSWERED for submission in export.broker_submissions)


def consume(settings: Settings, played: Sequence[Played]) -> list[Received]:
    """Take what lies in the partners' queues, as they would, and return what is about these exports."""
    ids = {each.export.export_id for each in played}
    return [message for message in inbox.read(settings, QUEUES) if message.event.get("subject") in ids]
