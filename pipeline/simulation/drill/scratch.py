"""A message broker that is one drill's own for a while: it must be unused before, and is left as empty as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kombu.exceptions import KombuError

from config.queues import BINDINGS, DEAD, HEARTBEAT, WAKE_UPS
from config.settings import Settings
from pipeline.core.errors import MessageBrokerDown
from pipeline.core.message_broker import connection

_OURS: Final = (*WAKE_UPS, *BINDINGS, DEAD, HEARTBEAT)


def used(settings: Settings) -> bool:
    """Tell whether anybody's queues are there: on Redis any key at all.

    Raises MessageBrokerDown.
    """
    with _opened(settings) as opened:
        if settings.message_broker == "redis":
            return bool(opened.default_channel.client.dbsize())
        for name in _OURS:
            try:
                with opened.channel() as channel:
                    channel.queue_declare(queue=name, passive=True)
            except opened.channel_errors:
                continue
            return True
        return False


def cleared(settings: Settings) -> None:
    """Take away every queue of ours, with what lies in it.

    Raises MessageBrokerDown.
    """
    with _opened(settings) as opened:
        if settings.message_broker == "redis":
            opened.default_channel.client.flushdb()
            return
        for name in _OURS:
            with opened.channel() as channel:
                channel.queue_delete(name)


@contextmanager
def _opened(settings: Settings) -> Iterator[Any]:
    try:
        with connection(settings) as opened:
            yield opened
    except (OSError, KombuError) as error:
        raise MessageBrokerDown(f"the message broker did not answer: {type(error).__name__}") from error
