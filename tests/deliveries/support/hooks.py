"""Exports whose warehouse receives webhooks, and the state of their deliveries."""

from sqlmodel import col, select

from pipeline.accounts import partners
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Attempt
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import sender
from tests.deliveries.support import exports
from tests.support import factories, stored


def hand_off_by_webhook(
    runtime: Runtime, url: str, *, packages: int = 3, batch: str = factories.BATCH
) -> exports.PreparedExport:
    """Hand off an export whose warehouse receives webhooks at the URL."""
    if is_new_partner(runtime):
        exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register_once(runtime, factories.OPERATOR, "operator")
    name = f"wh_{batch}"
    exports.register(runtime, name, "warehouse", channels=[{"channel": "webhook", "address": url}])
    export = exports.prepare_export(runtime, factories.plan(packages=packages, warehouse=name, batch=batch))
    exports.hand_off(runtime, export)
    return export


def is_new_partner(runtime: Runtime) -> bool:
    return factories.BROKER not in {each.id for each in partners.list_partners(runtime, factories.ACCOUNT)}


def stream_of(export: exports.PreparedExport) -> DeliveryStream:
    return DeliveryStream(export.export_id, export.plan.warehouse.id, "webhook")


def deliver(runtime: Runtime, export: exports.PreparedExport) -> sender.DeliveryReport:
    stream = stream_of(export)
    return sender.deliver_stream(runtime, stream.subject_id, stream.partner_id, stream.channel)


def states(runtime: Runtime, export: exports.PreparedExport) -> list[tuple[str, int]]:
    return [
        (each.state, each.attempts)
        for each in exports.list_deliveries(runtime, export.export_id, export.plan.warehouse.id)
    ]


def attempts(runtime: Runtime) -> list[Attempt]:
    return list(stored.rows(runtime, select(Attempt).order_by(col(Attempt.at), col(Attempt.number))))
