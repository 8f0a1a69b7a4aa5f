"""A sender by queue while the service is broken: it sends commands and answers, and declares no service queue."""

import json
from datetime import datetime
from typing import Any

from kombu import Connection, Producer
from sqlmodel import col, select

from config import queues
from pipeline.accounts import secrets
from pipeline.core import heartbeats
from pipeline.core.heartbeats import Heartbeat
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.exports.models import Export
from tests.support import factories
from tests.system.faults.case import SETTLE_SECONDS, Case
from tests.system.faults.site import Site

#: The intake takes a command or an answer within this time after its heartbeat.
TAKEN_SECONDS = 60.0


def check_intake(one: Case) -> None:
    """Assert that the intake has a heartbeat again, and that it takes a new command and a new answer."""
    site, plan = one.site, one.client.plan()
    await_heartbeat(site, SETTLE_SECONDS)
    batch = plan["batchId"]
    command = {"accountId": one.client.account, "batchId": batch, "idempotencyKey": f"command-{batch}", "plan": plan}
    send(site, "execute", json.dumps(command).encode())
    site.wait_until(lambda: batch in batches(one), TAKEN_SECONDS, "the intake did not take the command")
    one.wait_until_finished([])
    submission_id = find_submission(one, batch)
    answer = json.dumps({"submissionId": submission_id, "id": f"answer-{batch}", "status": "received"}).encode()
    send(site, "acknowledgement", answer, headers=dict(build_signature_headers("msg-1", answer, find_secret(one))))
    site.wait_until(lambda: is_answered(one, submission_id), TAKEN_SECONDS, "the intake did not take the answer")


def await_heartbeat(site: Site, seconds: float) -> None:
    """Return when the intake has received a heartbeat; the row only says since when it waits for one."""
    site.wait_until(lambda: heartbeat(site) is not None, seconds, "no intake waits for heartbeats")
    before = heartbeat(site)
    site.wait_until(lambda: heartbeat(site) != before, seconds, "no heartbeat reaches the intake")


def heartbeat(site: Site) -> datetime | None:
    """Return the time of the intake's last heartbeat, or the time at which it began to wait for the first."""
    with site.runtime.db.read() as session:
        return session.scalar(select(Heartbeat.arrived_at).where(col(Heartbeat.name) == heartbeats.INTAKE))


def send(site: Site, routing_key: str, body: bytes, **properties: Any) -> None:
    """Publish to the exchange, as a sender that knows no queue."""
    with Connection(site.stack.broker_url) as connection:
        Producer(connection).publish(
            body,
            exchange=queues.exchange,
            declare=[queues.exchange],
            routing_key=routing_key,
            content_type="application/json",
            content_encoding="utf-8",
            **properties,
        )


def batches(one: Case) -> set[str]:
    """Return the batches of the account's exports."""
    with one.site.runtime.db.read() as session:
        return set(session.scalars(select(Export.batch_id).where(col(Export.account_id) == one.client.account)))


def find_submission(one: Case, batch: str) -> str:
    """Return the id of the handoff of a batch."""
    of_batch = (col(Export.account_id) == one.client.account, col(Export.batch_id) == batch)
    with one.site.runtime.db.read() as session:
        joined = select(BrokerSubmission.id).join(Export, col(Export.id) == col(BrokerSubmission.export_id))
        return session.scalars(joined.where(*of_batch)).one()


def is_answered(one: Case, submission_id: str) -> bool:
    """Return whether an answer to the handoff is recorded."""
    of_handoff = col(Acknowledgement.submission_id) == submission_id
    with one.site.runtime.db.read() as session:
        return session.scalar(select(Acknowledgement.id).where(of_handoff)) is not None


def find_secret(one: Case) -> str:
    """Return the customs broker's signing secret."""
    with one.site.runtime.db.read() as session:
        (sealed,) = secrets.load_sealed_secrets(session, one.client.account, factories.BROKER)
    return secrets.unseal_secret(one.site.runtime.settings, one.client.account, factories.BROKER, sealed)
