"""Every message that the tests send, held against the schemas as they were published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, Final

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator, FormatChecker
from sqlmodel import col, select

from config.settings import Settings
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries import messages
from pipeline.deliveries.models import Notification
from tests.interfaces.contracts import published

FORMATS: Final = FormatChecker()


@FORMATS.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    # The library itself looks at instants only where another one is installed.
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class SchemaMismatch(AssertionError):
    """A message is not what its published schema promises; no part of the product catches it."""


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(published.read(name), format_checker=FORMATS)


def check(body: bytes | str | dict[str, Any]) -> None:
    """Raise NotAsPublished unless the body is a CloudEvent whose data is what its `dataschema` describes."""
    event = body if isinstance(body, dict) else json.loads(body)
    _fits("cloud-event", event)
    name = event["dataschema"].rpartition("/api/schemas/")[2].removesuffix(".json")
    if name != event["type"] or name not in published.names():
        raise SchemaMismatch(
            f"{event['type']} says that {event['dataschema']} describes it; publish it with `make contracts`"
        )
    _fits(name, event["data"])


def check_notifications(runtime: Runtime, account_id: str | None = None) -> int:
    """Hold every message that any process has put down to be sent against its schema; return how many there are.

    What a child process makes no hook of ours sees; what it sends is made of these rows, the same bytes at every try.
    """
    where = [] if account_id is None else [col(Notification.account_id) == account_id]
    with runtime.db.read() as session:
        rows = session.scalars(select(Notification).where(*where)).all()
    for row in rows:
        check(messages.build_cloud_event(runtime.settings, row, None, holder="br_1"))
    return len(rows)


def check_database_notifications(database_url: str) -> int:
    """Do the same for all that is in the database, once the processes that wrote it have ended."""
    runtime = open_runtime(Settings.model_validate({"database_url": database_url}))
    try:
        return check_notifications(runtime)
    finally:
        runtime.close()


def _fits(name: str, value: object) -> None:
    wrong = [f"{each.json_path}: {each.message}" for each in _validator(name).iter_errors(value)]
    if wrong:
        raise SchemaMismatch(f"{name}: " + "; ".join(wrong))


@contextmanager
def watch_messages() -> Iterator[None]:
    """Hold every message that this process makes meanwhile against its schema; raise NotAsPublished at the end.

    At the end, because a worker catches and records what a step raises.
    """
    write = JSONFormat.write
    wrong: list[str] = []

    def check_event(self: JSONFormat, event: BaseCloudEvent) -> bytes:
        body = write(self, event)
        try:
            check(body)
        except SchemaMismatch as error:
            wrong.append(str(error))
        return body

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFormat, "write", check_event)
        yield
    if wrong:
        raise SchemaMismatch("\n".join(dict.fromkeys(wrong)))


def check_refusal(body: dict[str, Any]) -> None:
    """Raise NotAsPublished unless the body is a problem document."""
    _fits("problem", body)
