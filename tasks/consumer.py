"""The worker's consumer: it accepts only messages in the form of the service's tasks and survives all others."""

from collections.abc import Mapping
from typing import Final

from kombu import Message

from config import celery_internals
from config.settings import get_settings

#: Headers by which Celery would delay or end a task; task messages of the service have none of them.
_UNUSED: Final = ("eta", "expires")
_FORBIDDEN_EMBEDS: Final = ("callbacks", "errbacks", "chord")
_UNBOUND: Final = (None, [None, None], (None, None))


class Consumer(celery_internals.Consumer):
    """Drops messages that are not the service's. On Redis, bytes that are not a message are dropped before kombu reads them."""

    @property
    def transport(self) -> str | None:
        """Return the name of the transport to Redis, None for other message brokers."""
        # A name, because `celery inspect` answers with it, and only text can be sent.
        return "pipeline.core.redis_transport:RedisTransport" if get_settings().message_broker == "redis" else None

    def is_acceptable(self, message: Message) -> bool:
        """Return whether Celery may read the message."""
        return is_task_message(message)


def is_task_message(message: Message) -> bool:
    """Return whether the message has the form of the service's task messages.

    Its body is JSON: positional arguments, named arguments, and the tasks that follow.
    """
    headers = message.headers
    if not isinstance(headers, Mapping) or not all(isinstance(headers.get(name), str) for name in ("task", "id")):
        return False
    if any(headers.get(name) is not None for name in _UNUSED) or headers.get("timelimit") not in _UNBOUND:
        return False
    if not isinstance(headers.get("retries", 0), int):
        return False
    try:
        body = message.decode()
    except Exception:  # noqa: BLE001 - a foreign body can make a decoder raise any error
        return False
    if not isinstance(body, list) or len(body) != 3:
        return False
    positional, named, following = body
    return isinstance(positional, list) and isinstance(named, dict) and _is_valid_chain(following)


def _is_valid_chain(following: object) -> bool:
    if not isinstance(following, Mapping) or any(following.get(name) for name in _FORBIDDEN_EMBEDS):
        return False
    chain = following.get("chain") or []
    return isinstance(chain, list) and all(
        isinstance(link, dict) and isinstance(link.get("task"), str) for link in chain
    )
