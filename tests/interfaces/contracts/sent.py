"""Checks every message that the tests send against the published schemas."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat
from jsonschema_rs import Draft202012Validator, ValidationError
from sqlmodel import col, select

from config.settings import Settings
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries.models import Notification
from pipeline.deliveries.streams import messages
from tests.interfaces.contracts import published


class SchemaMismatch(AssertionError):
    """A message does not fit its published schema; the product does not catch this error."""


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(published.read(name), validate_formats=True)


def check(body: bytes | str | dict[str, Any]) -> None:
    """Raise SchemaMismatch unless the body is a CloudEvent whose data fits its `dataschema`."""
    event = body if isinstance(body, dict) else json.loads(body)
    _fits("cloud-event", event)
    name = event["dataschema"].rpartition("/api/schemas/")[2].removesuffix(".json")
    if name != event["type"] or name not in published.names():
        raise SchemaMismatch(
            f"{event['type']} names the schema {event['dataschema']}, which is not published; run `make contracts`"
        )
    _fits(name, event["data"])


def check_notifications(runtime: Runtime, account_id: str | None = None) -> int:
    """Check every message that any process has written to the outbox against its schema; return how many there are.

    Our hooks do not see a child process; what it sends is built from these rows, with the same bytes at every attempt.
    """
    where = [] if account_id is None else [col(Notification.account_id) == account_id]
    with runtime.db.read() as session:
        rows = session.scalars(select(Notification).where(*where)).all()
    for row in rows:
        check(messages.build_cloud_event(runtime.settings, row, None, holder="br_1"))
    return len(rows)


def check_database_notifications(database_url: str) -> int:
    """Do the same for the whole database after the processes that wrote it have ended."""
    runtime = open_runtime(Settings.model_validate({"database_url": database_url}))
    try:
        return check_notifications(runtime)
    finally:
        runtime.close()


def _fits(name: str, value: object) -> None:
    if wrong := list_errors(_validator(name).iter_errors(value)):
        raise SchemaMismatch(f"{name}: " + "; ".join(wrong))


def list_errors(errors: Iterable[ValidationError]) -> list[str]:
    """Return each error as text: the JSON Pointer of the value and what is wrong with it."""
    return [f"{''.join(f'/{step}' for step in each.instance_path)}: {each.message}" for each in errors]


@contextmanager
def watch_messages() -> Iterator[None]:
    """Check every message that this process creates in the block; raise SchemaMismatch at the end.

    At the end, because a worker catches and records the errors of a step.
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
    """Raise SchemaMismatch unless the body is a problem document."""
    _fits("problem", body)
