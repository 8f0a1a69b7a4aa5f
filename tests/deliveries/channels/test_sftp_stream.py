"""Deliveries by SFTP: delivered, retried while the server cannot take them, dead if its host key is not pinned."""

from collections.abc import Callable
from typing import NoReturn

import asyncssh
import pytest
from sqlmodel import select

from pipeline.core.runtime import Runtime
from pipeline.deliveries import queries
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outbox import outbox
from pipeline.deliveries.streams import sender
from tests.deliveries.conftest import Clock, OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories, stored
from tests.support.sftp_server import PASSWORD, SftpServer


@pytest.fixture
def pack_export(make_runtime: OpenRuntime, server: SftpServer) -> Callable[..., tuple[Runtime, exports.PreparedExport]]:
    """Hands off an export whose warehouse receives its packages by SFTP."""

    def make(*, pinned: asyncssh.SSHKey | None = None, packages: int = 2) -> tuple[Runtime, exports.PreparedExport]:
        runtime = make_runtime(delivery_timeout_seconds=5)
        endpoint = server.endpoint(pinned=pinned) | {"password": PASSWORD}
        exports.register(runtime, factories.BROKER, "customs_broker")
        exports.register(runtime, factories.WAREHOUSE, "warehouse", channels=[endpoint])
        export = exports.prepare_export(runtime, factories.plan(packages=packages))
        exports.hand_off(runtime, export)
        return runtime, export

    return make


def states(runtime: Runtime, export: exports.PreparedExport) -> list[tuple[str, int]]:
    return [
        (each.state, each.attempts) for each in exports.list_deliveries(runtime, export.export_id, factories.WAREHOUSE)
    ]


def test_warehouse_gets_a_folder_per_package_without_documents(
    pack_export: Callable[..., tuple[Runtime, exports.PreparedExport]], server: SftpServer
) -> None:
    runtime, export = pack_export()
    sender.notify_audience(runtime, export.context, outbox.WAREHOUSE)
    assert states(runtime, export) == [("delivered", 1)] * 2
    ids = {each.notification_id for each in exports.list_deliveries(runtime, export.export_id, factories.WAREHOUSE)}
    assert server.files().keys() == {f"out/{i}/{name}" for i in ids for name in ("manifest.json", "message.json")}
    assert server.sign_ins == 1


def test_full_disk_delays_the_stream_in_order(
    pack_export: Callable[..., tuple[Runtime, exports.PreparedExport]], server: SftpServer, clock: Clock
) -> None:
    def full(path: str) -> NoReturn:
        raise asyncssh.SFTPFailure("no space left on device")

    runtime, export = pack_export()
    server.faults.write = full
    sender.notify_audience(runtime, export.context, outbox.WAREHOUSE)
    assert states(runtime, export) == [("pending", 1), ("pending", 0)]
    (failed, _) = exports.list_deliveries(runtime, export.export_id, factories.WAREHOUSE)
    (tried,) = queries.get_delivery(runtime, factories.ACCOUNT, failed.id).tries
    assert (tried.outcome, tried.status, tried.answer) == ("failed", "SFTPFailure", "no space left on device")
    assert server.files() == {}
    server.faults.write = None
    clock.pass_seconds(5)
    sender.notify_audience(runtime, export.context, outbox.WAREHOUSE)
    assert states(runtime, export) == [("delivered", 2), ("delivered", 1)]


def test_changed_host_key_makes_deliveries_dead(
    pack_export: Callable[..., tuple[Runtime, exports.PreparedExport]], server: SftpServer
) -> None:
    runtime, export = pack_export(pinned=asyncssh.generate_private_key("ssh-ed25519"))
    sender.notify_audience(runtime, export.context, outbox.WAREHOUSE)
    assert states(runtime, export) == [("dead", 1)] * 2
    (dead, _) = exports.list_deliveries(runtime, export.export_id, factories.WAREHOUSE)
    assert server.host_key.get_fingerprint() in str(dead.error)
    assert (server.sign_ins, server.files()) == (0, {})
    assert exports.read_event_types(runtime, export.export_id).count("DELIVERY_DEAD") == 2


def test_test_export_writes_nothing_to_a_live_server(make_runtime: OpenRuntime, server: SftpServer) -> None:
    runtime = make_runtime()
    endpoint = server.endpoint() | {"password": PASSWORD}
    exports.register(runtime, factories.BROKER, "customs_broker", path="byob", channels=[endpoint])
    exports.register(runtime, factories.WAREHOUSE, "warehouse", channels=[endpoint])
    export = exports.prepare_export(runtime, test=True)
    exports.hand_off(runtime, export)
    for audience in (outbox.BROKER, outbox.WAREHOUSE):
        sender.notify_audience(runtime, export.context, audience)
    assert (server.sign_ins, server.files()) == (0, {})
    assert stored.one(runtime, select(BrokerSubmission)).channel != "sftp"
