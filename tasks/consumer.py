"""The worker's consumer: it accepts only messages in the form of the service's tasks and survives all others."""

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

#: Headers by which Celery would delay or end a task; task messages of the service have none of them.
_UNUSED: Final = ("eta", "expires")
_FORBIDDEN_EMBEDS: Final = ("callbacks", "errbacks", "chord")
_UNBOUND: Final = (None, [None, None], (None, None))


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer, which also survives three things that would end it.

    Unexpected JSON ends Celery's consumer and its worker: a program that can write to the message broker could end every
    worker with one message each. This class drops such a message before Celery reads it. On Redis, bytes that are not a
    message are dropped before kombu reads them.

    If the connection fails during an acknowledgement, Celery only logs it, and the message counts as unacknowledged forever.
    At its prefetch limit the worker asks for no more messages, while its connection and its sweep stay alive. Here the
    failure ends the connection, and the next connection starts a new count. Messages that arrive again do no harm.

    A Redis that refuses writes (out of memory, or a replica) refuses each new connection after it is half open. Celery leaves
    twelve files open per second, until the process can open no more. This class closes them.

    It leaves out Celery's preparation for delayed messages, which the service does not use: about sixty exchanges and queues
    on RabbitMQ at each start, and the right to create them.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps at a consumer's start, without DelayedDelivery."""

        default_steps: ClassVar[list[str]] = [
            step for step in consumer.Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]

    _half_open: Any = None

    def connect(self) -> Any:
        """Return a new connection. If it cannot be completed, it is closed before the error is raised."""
        try:
            return super().connect()
        except BaseException:
            if self._half_open is not None:
                self._half_open.release()
            raise
        finally:
            self._half_open = None

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Return an open connection, which `connect` has not completed yet."""
        transport = RedisTransport if get_settings().message_broker == "redis" else None
        self._half_open = self.ensure_connected(self.app.connection_for_read(heartbeat=heartbeat, transport=transport))
        return self._half_open

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return the handler of each message."""
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
                # The message's step or delivery is still in the database.
                log.exception("message_raised")

        return take


def _settle_or_raise(settle: Callable[..., None], _log: object, _errors: object, **how: Any) -> None:
    settle(**how)


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
