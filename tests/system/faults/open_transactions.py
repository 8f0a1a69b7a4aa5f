"""A header in each message to a partner: the number of open transactions of the sending thread.

Seen from outside, a transaction of another thread or one that is about to end seems open too; only the sending thread
knows. Processes that are forked for the tests send the number in a header that partners ignore.
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpcore
import kombu
from sqlalchemy import event
from sqlalchemy.pool import Pool

HEADER: Final = "x-open-transactions"

#: Connection -> its thread. A session takes a connection at the start of its transaction and returns it at the end.
_holders: dict[int, int] = {}


def start_reporting() -> Callable[[], None]:
    """Make this process and the children that it forks send the header; return a function that stops it."""
    pools: Any = httpcore.ConnectionPool
    producers: Any = kombu.Producer
    stream, publish = pools.stream, producers.publish

    def stream_with_count(pool: Any, method: str, url: str, *, headers: Any, **more: Any) -> Any:
        return stream(pool, method, url, headers=[*headers, (HEADER, str(_count_open()))], **more)

    def publish_with_count(producer: Any, body: Any, *args: Any, **properties: Any) -> Any:
        headers = properties.get("headers") or {}
        if "task" not in headers:  # a message with a task goes to our own processes
            properties["headers"] = {**headers, HEADER: _count_open()}
        return publish(producer, body, *args, **properties)

    pools.stream, producers.publish = stream_with_count, publish_with_count
    listeners = (("checkout", _on_checkout), ("checkin", _on_checkin))
    for name, listener in listeners:
        event.listen(Pool, name, listener)
    os.register_at_fork(after_in_child=_holders.clear)  # entries of the parent's threads

    def end() -> None:
        pools.stream, producers.publish = stream, publish
        for name, listener in listeners:
            event.remove(Pool, name, listener)

    return end


def read_count(headers: Mapping[str, Any]) -> int | None:
    """Return the number in a message's headers; None if there is none."""
    found = headers.get(HEADER)
    return None if found is None else int(found)


def _count_open() -> int:
    return [*_holders.values()].count(threading.get_ident())


def _on_checkout(_: Any, record: Any, __: Any) -> None:
    _holders[id(record)] = threading.get_ident()


def _on_checkin(_: Any, record: Any) -> None:
    _holders.pop(id(record), None)
