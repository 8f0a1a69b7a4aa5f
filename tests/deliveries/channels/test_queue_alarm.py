"""RabbitMQ with its memory alarm on does not read from publishers: no send hangs, and no message is lost."""

import time

import httpx
from sqlmodel import col, select

from pipeline.deliveries.models import Attempt
from pipeline.deliveries.streams import sender
from tests.conftest import SERVERS
from tests.deliveries.channels.test_queue import ids, take_messages
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.servers import START_SECONDS, RabbitMQ, poll
from tests.system.faults.matrix import mark_own_stack

pytestmark = SERVERS

TIMEOUT = 1


def set_alarm(server: RabbitMQ, *, on: bool) -> None:
    """Switch the memory alarm on or off, and wait until it has changed."""
    server.control("set_vm_memory_high_watermark", "0.0000001" if on else "0.6")
    poll(lambda: has_alarm(server) == on, START_SECONDS, "the alarm did not change")


def has_alarm(server: RabbitMQ) -> bool:
    """Return whether an alarm of the node is on."""
    try:
        server.manage("GET", "health/checks/local-alarms")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            raise
        return True
    return False


@mark_own_stack("F25")
def test_send_to_blocked_rabbitmq_fails_in_time_and_is_retried(
    make_runtime: OpenRuntime, rabbitmq_server: RabbitMQ, clock: Clock
) -> None:
    url = rabbitmq_server.fresh_url()
    runtime = make_runtime(broker_url=url, delivery_timeout_seconds=TIMEOUT)
    exports.register(runtime, factories.BROKER, "customs_broker")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    export = exports.prepare_export(runtime, factories.plan(packages=3))
    exports.hand_off(runtime, export)
    stream = (export.export_id, factories.WAREHOUSE, "queue")

    set_alarm(rabbitmq_server, on=True)
    try:
        began = time.monotonic()
        report = sender.deliver_stream(runtime, *stream)
        took = time.monotonic() - began
    finally:
        set_alarm(rabbitmq_server, on=False)
    assert (report.delivered, report.dead, report.retried > 0) == (0, 0, True)
    assert took < 60, "one attempt's time, plus a margin for a busy machine"
    (attempt,) = stored.rows(runtime, select(Attempt))
    assert (attempt.outcome, attempt.error_class) == ("failed", "ChannelUnavailable")

    clock.pass_seconds(3600)
    patient = make_runtime(broker_url=url)
    assert sender.deliver_stream(patient, *stream).delivered == 3
    message_ids = [
        each.notification_id for each in exports.list_deliveries(runtime, export.export_id, factories.WAREHOUSE)
    ]
    # Messages in the blocked connection may have been taken anyway: delivery is at least once.
    assert sorted(set(ids(take_messages(url, "exports.warehouse", 4, seconds=10)))) == sorted(message_ids)
    made = stored.rows(runtime, select(Attempt).order_by(col(Attempt.number)))
    assert sorted(each.outcome for each in made) == ["delivered"] * 3 + ["failed"]
