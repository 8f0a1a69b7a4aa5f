"""Whether Redis keeps the messages that lie in its queues, as far as it lets itself be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import KombuError, OperationalError
from redis import RedisError, ResponseError

from config.settings import Settings
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.message_broker import make_connection

REMEDY = "set `maxmemory-policy noeviction` in Redis, or reach partners by RabbitMQ or by webhook"


@dataclass(frozen=True)
class Durability:
    """What was found; `danger` says how messages are lost while Redis runs, and is None if they are not, or nobody knows."""

    found: str
    danger: str | None = None


def check_durability(settings: Settings) -> Durability:
    """Return what Redis says of its memory and its persistence; raises MessageBrokerDown where it does not answer."""
    try:
        with make_connection(settings, producer_only=True) as opened:
            opened.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            client: Any = opened.channel().client
            return judge_durability({**client.info("memory"), **client.info("persistence")})
    except ResponseError as error:
        # A user without the right, or a hosted Redis that has renamed the command.
        return Durability(
            f"Redis refused INFO ({type(error).__name__}), so that nobody knows whether it keeps messages; give its user `+info`"
        )
    except (RedisError, KombuError, OperationalError, OSError) as error:
        raise MessageBrokerDown(f"Redis did not answer: {type(error.__cause__ or error).__name__}") from error


def judge_durability(info: Mapping[str, Any]) -> Durability:
    """Return what follows from Redis's answer to INFO."""
    policy = str(info.get("maxmemory_policy", "unknown"))
    kept = f"maxmemory-policy {policy}"
    if policy.startswith("allkeys-"):
        # Without a limit there is nothing to make room for. Who does not say the limit may have one.
        if info.get("maxmemory") != 0:
            danger = f"{kept} lets Redis remove queues with messages that nobody has read"
            return Durability(danger, danger)
        kept += " (it removes nothing while maxmemory is 0)"
    if not info.get("aof_enabled"):
        return Durability(
            f"{kept}; but Redis has no append-only file (`appendonly yes`): a restart loses messages that"
            " nobody has read, all of them or those since its last snapshot"
        )
    return Durability(f"{kept}, and the append-only file is on")
