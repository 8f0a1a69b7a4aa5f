"""Checks whether Redis keeps the messages in its queues, as far as INFO shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import KombuError, OperationalError

from config.settings import Settings
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.message_broker import make_connection

REMEDY = "set `maxmemory-policy noeviction` in Redis, or use RabbitMQ or webhooks for partners"


@dataclass(frozen=True)
class Durability:
    """What INFO shows. `danger` says how a running Redis loses messages, None if it does not or that is unknown."""

    found: str
    danger: str | None = None


def check_durability(settings: Settings) -> Durability:
    """Check Redis's memory policy and persistence. Raises MessageBrokerDown if Redis does not answer."""
    from redis import RedisError, ResponseError  # noqa: PLC0415 - other message brokers do not need the library

    try:
        with make_connection(settings, producer_only=True) as opened:
            opened.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            client: Any = opened.channel().client
            return judge_durability({**client.info("memory"), **client.info("persistence")})
    except ResponseError as error:
        # The user lacks the right, or a hosted Redis has renamed the command.
        return Durability(
            f"Redis refused INFO ({type(error).__name__}); whether it keeps messages is unknown; give its user `+info`"
        )
    except (RedisError, KombuError, OperationalError, OSError) as error:
        raise MessageBrokerDown(f"Redis did not answer: {type(error.__cause__ or error).__name__}") from error


def judge_durability(info: Mapping[str, Any]) -> Durability:
    """Return the result that Redis's answer to INFO shows."""
    policy = str(info.get("maxmemory_policy", "unknown"))
    kept = f"maxmemory-policy {policy}"
    if policy.startswith("allkeys-"):
        # Without a memory limit Redis evicts nothing. An unknown limit may exist.
        if info.get("maxmemory") != 0:
            danger = f"{kept} lets Redis remove queues with unread messages"
            return Durability(danger, danger)
        kept += " (it removes nothing while maxmemory is 0)"
    if not info.get("aof_enabled"):
        return Durability(
            f"{kept}; but Redis has no append-only file (`appendonly yes`): a restart loses unread"
            " messages, all of them or those since its last snapshot"
        )
    return Durability(f"{kept}, and the append-only file is on")
