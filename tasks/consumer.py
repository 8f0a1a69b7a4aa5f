"""What a worker takes for a task message, a message in the form that ours have, and how it goes on taking them whatever comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final

import structlog
from celery.worker import consumer
from kombu import Message

from config.settings import get_settings
from pipeline.core.message_broker import RedisTransport

log = structlog.get_logger(__name__)

#: Headers by which Celery would put a task off or end it, and which none of ours has.
_UNUSED: Final = ("eta", "expires")
_FORBIDDEN_EMBEDS: Final = ("callbacks", "errbacks", "chord")
_UNBOUND: Final = (None, [None, None], (None, None))


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer, which goes on after three things that would end it.

    JSON of another kind than it expects ends it with its worker: whoever can write to the message broker could so end every
    worker with one message each. It is dropped before Celery looks at it, and on Redis what is no message before kombu does.

    An acknowledgement that is cut off on its way is logged, and the message counts for ever among those that the worker has
    in hand. After as many as it may have, it asks for no more, while its connection is alive and its sweep goes on. Here the
    failure ends the connection, and with the next one the count begins anew; what comes again by that is taken as done.

    A Redis that takes no writes, being out of memory or a replica, refuses each new connection when it has half begun: twelve
    files a second stay open, until the process may open no more. They are closed.

    It leaves out Celery's preparation for messages that are due later, of which we have none: at each start some sixty
    exchanges and queues on RabbitMQ, with the right to make them.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps of a consumer's start, but for one."""

        default_steps: ClassVar[list[str]] = [
            step for step in consumer.Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]

    _half_open: Any = None

    def connect(self) -> Any:
        """Return a new connection; one that comes to nothing is closed."""
        try:
            return super().connect()
        except BaseException:
            if self._half_open is not None:
                self._half_open.release()
            raise
        finally:
            self._half_open = None

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Return a connection that stands, but not yet with all that `connect` does to it."""
        transport = RedisTransport if get_settings().message_broker == "redis" else None
        self._half_open = self.ensure_connected(self.app.connection_for_read(heartbeat=heartbeat, transport=transport))
        return self._half_open

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return what takes each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Message) -> None:
            message.ack_log_error = partial(_settle_or_raise, message.ack)  # type: ignore[method-assign]
            message.reject_log_error = partial(_settle_or_raise, message.reject)  # type: ignore[method-assign]
            if not is_task_message(message):
                log.error(
                    "message_dropped", content_type=str(message.content_type)[:80], bytes=len(message.body or b"")
                )
                message.ack_log_error(log, self.connection_errors)
                return
            try:
                handle(message)
            except (*self.connection_errors, *self.channel_errors):
                raise
            except Exception:
                # The step or delivery that it was about is in the database all the same.
                log.exception("message_raised")

        return take


def _settle_or_raise(settle: Callable[..., None], _log: object, _errors: object, **how: Any) -> None:
    settle(**how)


def is_task_message(message: Message) -> bool:
    """Tell whether a message has the form that ours have: JSON of arguments, by place and by name, and what follows them."""
    headers = message.headers
    if not isinstance(headers, Mapping) or not all(isinstance(headers.get(name), str) for name in ("task", "id")):
        return False
    if any(headers.get(name) is not None for name in _UNUSED) or headers.get("timelimit") not in _UNBOUND:
        return False
    if not isinstance(headers.get("retries", 0), int):
        return False
    try:
        body = message.decode()
    except Exception:  # noqa: BLE001 - whatever a foreign body makes a decoder raise
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
