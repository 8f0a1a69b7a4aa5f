"""Who works by queue while the service is broken: it sends commands and answers, and declares no queue of the service's."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from kombu import Connection, Producer
from sqlmodel import col, select

from config import queues
from pipeline.accounts import secrets
from pipeline.core import heartbeats
from pipeline.core.heartbeats import Heartbeat
from pipeline.deliveries.channels.webhook import build_signature_headers
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.exports.models import Export
from tests.support import factories
from tests.system.faults.case import SETTLE_SECONDS, Case
from tests.system.faults.site import Site

#: How soon a command or an answer is taken once the intake has had a heartbeat.
TAKEN_SECONDS = 60.0


def check_intake(one: Case) -> None:
    """Assert that the intake has a heartbeat again, and that a command and an answer that are sent then are taken."""
    site, plan = one.site, one.client.plan()
    await_heartbeat(site, SETTLE_SECONDS)
    batch = plan["batchId"]
    command = {"accountId": one.client.account, "batchId": batch, "idempotencyKey": f"command-{batch}", "plan": plan}
    send(site, "execute", json.dumps(command).encode())
    site.wait_until(lambda: batch in batches(one), TAKEN_SECONDS, "the command was not taken")
    one.wait_until_finished([])
    submission_id = find_submission(one, batch)
    answer = json.dumps({"submissionId": submission_id, "id": f"answer-{batch}", "status": "received"}).encode()
    send(site, "acknowledgement", answer, headers=dict(build_signature_headers("msg-1", answer, find_secret(one))))
    site.wait_until(lambda: is_answered(one, submission_id), TAKEN_SECONDS, "the answer was not taken")


def await_heartbeat(site: Site, seconds: float) -> None:
    """Return once a heartbeat has reached the intake: the row alone says only since when one is waited for."""
    site.wait_until(lambda: heartbeat(site) is not None, seconds, "no intake waits for heartbeats")
    before = heartbeat(site)
    site.wait_until(lambda: heartbeat(site) != before, seconds, "no heartbeat reaches the intake")


def heartbeat(site: Site) -> datetime | None:
    """Return when the intake had its last heartbeat, or began to wait for its first."""
    with site.runtime.db.read() as session:
        return session.scalar(select(Heartbeat.arrived_at).where(col(Heartbeat.name) == heartbeats.INTAKE))


def send(site: Site, routing_key: str, body: bytes, **properties: Any) -> None:
    """Publish to the exchange, as who knows of no queue."""
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
    """Return what the customs broker signs with."""
    with one.site.runtime.db.read() as session:
        (sealed,) = secrets.load_sealed_secrets(session, one.client.account, factories.BROKER)
    return secrets.unseal_secret(one.site.runtime.settings, one.client.account, factories.BROKER, sealed)
