"""Durability of queued messages: checks report a Redis that may remove them if partners read from it."""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.accounts import recipients
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.runtime import Runtime
from pipeline.deliveries import connection_tests
from pipeline.deliveries.channels import queue_durability
from pipeline.deliveries.channels.queue_durability import Durability, judge_durability
from pipeline.ops import doctor, readiness
from tests.conftest import SERVERS, OwnServer
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.support import factories
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import Redis

WEBHOOK = [{"channel": "webhook", "address": f"http://{LOOPBACK}:9/hook"}]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_policy_that_removes_any_key_is_a_danger(policy: str) -> None:
    message = f"maxmemory-policy {policy} lets Redis remove queues with unread messages"
    assert judge_durability({"maxmemory_policy": policy, "aof_enabled": 1}) == Durability(message, message)
    assert judge_durability({"maxmemory_policy": policy, "maxmemory": 1, "aof_enabled": 1}) == Durability(
        message, message
    )


def test_policy_that_removes_any_key_is_safe_without_memory_limit() -> None:
    info = {"maxmemory_policy": "allkeys-lru", "maxmemory": 0}
    message = "maxmemory-policy allkeys-lru (it removes nothing while maxmemory is 0)"
    assert judge_durability(info | {"aof_enabled": 1}) == Durability(f"{message}, and the append-only file is on")
    kept = judge_durability(info | {"aof_enabled": 0})
    assert (kept.danger, kept.found.startswith(f"{message}; but Redis has no append-only file")) == (None, True)


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
def test_policy_that_keeps_keys_without_expiry_is_safe(policy: str) -> None:
    assert judge_durability({"maxmemory_policy": policy, "aof_enabled": 1}) == Durability(
        f"maxmemory-policy {policy}, and the append-only file is on"
    )


def test_redis_without_append_only_file_is_reported_without_danger() -> None:
    kept = judge_durability({"maxmemory_policy": "noeviction", "aof_enabled": 0})
    assert kept.danger is None
    assert "no append-only file (`appendonly yes`): a restart loses unread messages" in kept.found


@pytest.fixture
def server(own_server: OwnServer) -> Iterator[Redis]:
    """A Redis for this test only, so that it can change the settings."""
    return own_server(Redis)  # type: ignore[return-value]


@pytest.fixture
def on_redis(server: Redis, make_runtime: OpenRuntime) -> Runtime:
    """A runtime on that Redis. Its customs broker is reached by webhook."""
    runtime = make_runtime(broker_url=server.fresh_url())
    exports.register(runtime, factories.BROKER, "customs_broker", channels=WEBHOOK)
    return runtime


def parts(runtime: Runtime) -> dict[str, readiness.ServicePart]:
    return {part.name: part for part in readiness.check_parts(runtime)}


def run_doctor(runtime: Runtime) -> doctor.CheckResult:
    (check,) = [check for check in doctor.run_checks(runtime.settings) if check.name == "messages in queues"]
    return check


def stages(runtime: Runtime, partner_id: str) -> list[tuple[str, bool]]:
    tested = connection_tests.run_connection_test(runtime, factories.ACCOUNT, partner_id, tested_by="somebody")
    (endpoint,) = tested.endpoints
    return [(stage.name, stage.passed) for stage in endpoint.stages]


@SERVERS
def test_unsafe_redis_is_reported_by_each_check_only_if_partners_use_queues(server: Redis, on_redis: Runtime) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "yes")
        assert run_doctor(on_redis).found.startswith(
            "maxmemory-policy allkeys-lru (it removes nothing while maxmemory is"
        )
        client.config_set("maxmemory", "1gb")
        assert "queues" not in parts(on_redis), "no partner reads queues"
        assert run_doctor(on_redis).ok
        assert run_doctor(on_redis).found.endswith(
            "allkeys-lru lets Redis remove queues with unread messages; no partner is reached by queue"
        )

        exports.register(on_redis, factories.WAREHOUSE, "warehouse")
        part, check = parts(on_redis)["queues"], run_doctor(on_redis)
        assert (part.ok, check.ok) == (False, False)
        assert part.message == (
            "maxmemory-policy allkeys-lru lets Redis remove queues with unread messages;"
            " set `maxmemory-policy noeviction` in Redis, or use RabbitMQ or webhooks for partners"
        )
        assert check.found in part.message
        assert (check.remedy or "").startswith("Set `maxmemory-policy noeviction`")
        assert stages(on_redis, factories.WAREHOUSE) == [("connect", True), ("declare", True), ("keep", False)]

        client.config_set("maxmemory-policy", "noeviction")
        part, check = parts(on_redis)["queues"], run_doctor(on_redis)
        assert (part.ok, part.message) == (True, "maxmemory-policy noeviction, and the append-only file is on")
        assert (check.ok, check.found) == (True, part.message)
        assert stages(on_redis, factories.WAREHOUSE)[2:] == [("keep", True), ("test event", True)]


@SERVERS
def test_redis_user_without_info_right_is_reported_as_unknown(server: Redis, make_runtime: OpenRuntime) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.execute_command(*"ACL SETUSER exports on >long-enough ~* +@all -info -config".split())
    runtime = make_runtime(broker_url=server.fresh_url().replace("redis://", "redis://exports:long-enough@"))
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    part, check = parts(runtime)["queues"], run_doctor(runtime)
    assert (part.ok, check.ok) == (True, True)
    assert part.message == check.found
    assert part.message.startswith("Redis refused INFO (NoPermissionError); whether it keeps messages is unknown")
    assert "give its user `+info`" in part.message
    assert stages(runtime, factories.WAREHOUSE)[2:] == [("keep", True), ("test event", True)]


def test_unreachable_redis_is_not_a_durability_failure(make_runtime: OpenRuntime) -> None:
    runtime = make_runtime(broker_url=f"redis://{LOOPBACK}:{free_port()}/0")
    exports.register(runtime, factories.WAREHOUSE, "warehouse")
    with pytest.raises(MessageBrokerDown, match="Redis did not answer: ConnectionError"):
        queue_durability.check_durability(runtime.settings)
    part, check = parts(runtime)["queues"], run_doctor(runtime)
    assert (part.ok, part.message) == (True, "Redis did not answer: ConnectionError")
    assert (check.ok, check.remedy) == (False, None)


@pytest.mark.parametrize(
    ("partners", "by_queue"),
    [
        ([], False),
        ([("warehouse", {})], True),
        ([("warehouse", {"live": False})], False),
        ([("warehouse", {"channels": WEBHOOK})], False),
        ([("warehouse", {"channels": [*WEBHOOK, {"channel": "queue"}]})], True),
        ([("customs_broker", {"path": "borderbuddy"})], False),
        ([("customs_broker", {"path": "byob"})], True),
        ([("operator", {"channels": WEBHOOK}), ("operator", {})], True),
    ],
)
def test_has_queue_recipients_finds_partners_by_queue(
    make_runtime: OpenRuntime, partners: list[tuple[str, dict[str, Any]]], *, by_queue: bool
) -> None:
    runtime = make_runtime()
    for number, (kind, changes) in enumerate(partners):
        exports.register(runtime, f"p_{number}", kind, **changes)
    with runtime.db.read() as session:
        assert recipients.has_queue_recipients(session) is by_queue
