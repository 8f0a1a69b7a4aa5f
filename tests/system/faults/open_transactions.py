"""What each message to a partner tells of its sender: how many transactions its thread has open as it sends.

Looked at from outside a transaction of another thread, or one that is about to end, seems to be open as well; the thread that
sends knows. Processes that are forked for the tests tell it in a header of what they send, which no partner looks at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpcore
import kombu
from sqlalchemy import event
from sqlalchemy.pool import Pool

HEADER: Final = "x-open-transactions"

#: Who holds which connection. A session takes one when it begins its transaction, and gives it back when that has ended.
_holders: dict[int, int] = {}


def start_reporting() -> Callable[[], None]:
    """Have this process tell it from now on, and the children that it forks; return how to end that."""
    pools: Any = httpcore.ConnectionPool
    producers: Any = kombu.Producer
    stream, publish = pools.stream, producers.publish

    def stream_with_count(pool: Any, method: str, url: str, *, headers: Any, **more: Any) -> Any:
        return stream(pool, method, url, headers=[*headers, (HEADER, str(_count_open()))], **more)

    def publish_with_count(producer: Any, body: Any, *args: Any, **properties: Any) -> Any:
        headers = properties.get("headers") or {}
        if "task" not in headers:  # what has a task wakes our own processes
            properties["headers"] = {**headers, HEADER: _count_open()}
        return publish(producer, body, *args, **properties)

    pools.stream, producers.publish = stream_with_count, publish_with_count
    listeners = (("checkout", _on_checkout), ("checkin", _on_checkin))
    for name, listener in listeners:
        event.listen(Pool, name, listener)
    os.register_at_fork(after_in_child=_holders.clear)  # those of the parent's threads

    def end() -> None:
        pools.stream, producers.publish = stream, publish
        for name, listener in listeners:
            event.remove(Pool, name, listener)

    return end


def read_count(headers: Mapping[str, Any]) -> int | None:
    """Return what a message tells; None where its sender tells nothing."""
    found = headers.get(HEADER)
    return None if found is None else int(found)


def _count_open() -> int:
    return [*_holders.values()].count(threading.get_ident())


def _on_checkout(_: Any, record: Any, __: Any) -> None:
    _holders[id(record)] = threading.get_ident()


def _on_checkin(_: Any, record: Any) -> None:
    _holders.pop(id(record), None)
