"""Kombu's transport to Redis, with a delivery tag per copy and checked messages.

Only a process whose message broker is Redis loads this file. Each part names the upstream bug, as in `message_broker`.
"""

from typing import Any
from uuid import uuid4

import structlog
from kombu.transport import redis
from kombu.utils.json import loads
from redis import Redis, RedisError

from config.queues import DEAD

log = structlog.get_logger(__name__)


class _Channel(redis.Channel):
    """Kombu's channel without three bugs."""

    # Bug (like kombu#226, kombu#541): Redis can lose a binding while the connection lives. Kombu binds a queue once per
    # connection and does not repeat it, so all messages to the queue are lost.
    def queue_bind(
        self, queue: str, exchange: str | None = None, routing_key: str = "", arguments: Any = None, **options: Any
    ) -> None:
        if not self.state.has_binding(queue, exchange, routing_key):
            super().queue_bind(queue, exchange, routing_key, arguments, **options)  # type: ignore[no-untyped-call]
            return
        binding = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)  # type: ignore[no-untyped-call]
        self._queue_bind(exchange, *binding)  # type: ignore[no-untyped-call]

    # Bug (no issue found): copies of a message in several queues share its delivery tag, by which kombu tracks
    # unacknowledged messages of all queues. Acknowledging one copy also removes the other, which is lost if its reader dies.
    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        properties = message["properties"] | {"delivery_tag": str(uuid4())}
        super()._put(queue, message | {"properties": properties}, **options)  # type: ignore[no-untyped-call]

    # Bug (like kombu#2421 for SQS, celery#1113): a list in Redis can hold any bytes. Kombu's reader dies on a message that it
    # cannot read, and the message is lost. Here it is moved to the dead letter queue.
    def _create_client(self, asynchronous: bool = False) -> Redis:  # noqa: FBT001, FBT002 - the library's signature
        client: Redis = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        client.set_response_callback("BRPOP", self._filter_popped)
        return client

    def _filter_popped(self, response: list[bytes] | None, **_: Any) -> list[bytes] | None:
        """Return the response of a pop; None if it is empty or not a message."""
        if response is None or self._is_message(response[1]):
            return response
        queue, unreadable = response[0].decode(errors="replace"), response[1]
        kept = self.prepare_message(unreadable, content_type="application/octet-stream", content_encoding="binary")  # type: ignore[no-untyped-call]
        try:
            self.basic_publish(kept, exchange="", routing_key=DEAD)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            log.warning("message_lost", queue=queue, bytes=len(unreadable), error=type(error).__name__)
        else:
            log.warning("message_unreadable", queue=queue, bytes=len(unreadable), kept=DEAD)
        return None

    def _is_message(self, body: bytes) -> bool:
        try:
            message = self.Message(loads(body.decode()), channel=self)  # type: ignore[no-untyped-call]
            where = message.delivery_info
            names = (message.delivery_tag, where["exchange"], where["routing_key"])
        except Exception:  # noqa: BLE001 - foreign bytes can make a decoder raise any error
            return False
        return isinstance(message.headers, dict) and all(isinstance(name, str) for name in names)


class RedisTransport(redis.Transport):
    """Kombu's transport to Redis, over such channels."""

    Channel = _Channel
