"""The API on loopback with its runtime, and handoffs to the sandbox broker over it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from sqlmodel import col, select

from pipeline.accounts import api_keys, service
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.streams import sender
from pipeline.interfaces.app import create_app
from tests.deliveries.support import exports
from tests.interfaces.api.conftest import OTHER, RecordingPublisher
from tests.support import factories, stored
from tests.support.api_server import run_server
from tests.support.ports import LOOPBACK

__all__ = ["OTHER"]


@dataclass(frozen=True)
class ApiHarness:
    """The running API and its runtime."""

    url: str
    runtime: Runtime
    publisher: RecordingPublisher
    clients: ExitStack

    def client_without_key(self) -> httpx.Client:
        """Return a client without a key."""
        return self.clients.enter_context(httpx.Client(base_url=self.url, trust_env=False, timeout=60))

    def client(self, *roles: str, account: str = factories.ACCOUNT, mode: api_keys.Mode = "live") -> httpx.Client:
        """Return a client whose key has the roles."""
        key = api_keys.create_key(self.runtime, account, "of a test", mode=mode, roles=roles or ("admin",))
        client = self.client_without_key()
        client.headers["Authorization"] = f"Bearer {key.bearer}"
        return client

    def submission(self, export: exports.PreparedExport) -> BrokerSubmission:
        """Return the export's current submission."""
        return stored.one(
            self.runtime, select(BrokerSubmission).where(col(BrokerSubmission.export_id) == export.export_id)
        )


@contextmanager
def serve_api(runtime: Runtime, port: int) -> Iterator[ApiHarness]:
    """Run the API at the port, with two accounts and a warehouse."""
    publisher = RecordingPublisher()
    config = uvicorn.Config(
        create_app(runtime, publisher),
        host=LOOPBACK,
        port=port,
        log_config=None,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    with run_server(config), ExitStack() as clients:
        exports.register(runtime, factories.WAREHOUSE, "warehouse")
        exports.register(runtime, factories.OPERATOR, "operator")
        service.create_account(runtime, OTHER, "Demo Housewares Inc")
        yield ApiHarness(f"http://{LOOPBACK}:{port}", runtime, publisher, clients)


def hand_off(
    harness: ApiHarness, *, invoice: str = "P", via: str = "borderbuddy", test: bool = False
) -> tuple[exports.PreparedExport, str]:
    """Hand off an export with this beginning of its invoice number; return it and its broker's secret.

    Beginnings with spaces between them are those of as many units.
    """
    begins = invoice.split()
    invoice = "-".join(begins)
    broker = f"br_{via}_{invoice}"
    facts: dict[str, Any] = {"path": "borderbuddy", "test": True}
    if via == "webhook":
        address = f"{harness.url}/sandbox/webhooks/{factories.ACCOUNT}/{broker}"
        facts = {"channels": [{"channel": "webhook", "address": address}]}
    made = exports.register(harness.runtime, broker, "customs_broker", **facts)
    plan = factories.plan(units=len(begins), broker=broker, invoice=invoice, batch=f"batch-{via}-{invoice}")
    for unit_no, begin in enumerate(begins, start=1):
        plan["units"][unit_no - 1]["invoice"]["number"] = f"{begin}-{unit_no:05d}"
    export = exports.prepare_export(harness.runtime, plan, test=test)
    exports.hand_off(harness.runtime, export)
    sender.notify_audience(harness.runtime, export.context, outbox.BROKER)
    return export, made.secret
