"""A small history by hand without a violation, and functions that forge one."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.exports.events import EventType, NewEvent, chain_events
from pipeline.workflow.steps import STEPS
from tests.system.faults.bounds import Recovery
from tests.system.faults.records import Call, History, Receipt, Snapshot

EXPORT, PARTNER, CHANNEL, MESSAGE = "exp_1", "wh_1", "webhook", "msg_1"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BODY = hashlib.sha256(b"an invoice").hexdigest()
PATH = f"sha256/{BODY[:2]}/{BODY[2:4]}/{BODY}"

Rows = dict[str, list[dict[str, Any]]]

EVENTS = (
    NewEvent(EventType.EXPORT_ACCEPTED, {"units": 1}),
    NewEvent(EventType.PACKAGES_RECORDED, {"unitNo": 1}),
    NewEvent(EventType.TREATMENT_ATTACHED, {"unitNo": 1}),
    NewEvent(EventType.CUSTOMS_ARTIFACT_GENERATED, {"unitNo": 1, "artifactType": "cci_json"}),
    NewEvent(EventType.CUSTOMS_PACKAGE_CLOSED, {"unitNo": 1}),
    NewEvent(EventType.HANDED_OFF),
    NewEvent(EventType.WAREHOUSE_NOTIFIED, {"partnerId": PARTNER, "messages": 1}),
    NewEvent(EventType.EXPORT_EXECUTED),
)


def rows(export: str = EXPORT, batch: str = "batch_1", messages: Sequence[str] = (MESSAGE,)) -> Rows:
    """Return the tables of one export that was executed without a fault, with a delivery of each message."""
    steps = {"export_id": export, "state": "done", "fence": 1, "attempts": 1, "lease_until": None}
    delivery = {
        "subject_id": export,
        "partner_id": PARTNER,
        "channel": CHANNEL,
        "state": "delivered",
        "fence": 2,
        "attempts": 1,
        "attempts_not_counted": 0,
        "lease_until": None,
        "delivered_at": NOW + timedelta(seconds=2),
    }
    ids = {message: message.replace("msg_", "del_") for message in messages}
    return {
        "exports": [
            {
                "id": export,
                "batch_id": batch,
                "revision": 1,
                "state": "executed",
                "units_total": 1,
                "units_closed": 1,
                "next_seq": len(EVENTS) + 1,
                "failure": None,
            }
        ],
        "units": [{"export_id": export, "unit_no": 1}],
        "steps": [{**steps, "unit_no": int(spec.per_unit), "name": spec.name} for spec in STEPS],
        "events": chain_events(export, 1, "worker", NOW, EVENTS),
        "artifacts": [{"export_id": export, "unit_no": 1, "artifact_type": "cci_json", "sha256": BODY}],
        "notifications": [{"id": message, "export_id": export} for message in messages],
        "deliveries": [{**delivery, "id": ids[message], "notification_id": message} for message in messages],
        "attempts": [{"delivery_id": ids[message], "number": 1, "outcome": "delivered"} for message in messages],
    }


RECEIPT = Receipt(MESSAGE, EXPORT, PARTNER, CHANNEL, at=NOW + timedelta(seconds=1), open_transactions=0)


def history() -> History:
    """Return that export's history: two posts, the first unanswered; a read; and two receipts for two claims."""
    return History(
        Snapshot(rows(), {PATH: BODY}, {(EXPORT, 1, "cci_json"): BODY}),
        [
            Call("POST", "/api/exports/execute", None, batch="batch_1"),
            Call("POST", "/api/exports/execute", 503, batch="batch_1", retry_after="2"),
            Call("POST", "/api/exports/execute", 202, batch="batch_1", export_id=EXPORT, state="accepted", seq=1),
            Call("GET", "/api/exports/exp_1", 200, export_id=EXPORT, state="executing", seq=4),
            Call("GET", "/api/exports/exp_1", 200, export_id=EXPORT, state="executed", seq=8),
        ],
        [RECEIPT, replace(RECEIPT, at=NOW + timedelta(seconds=1.5))],
        {"worker": '{"event": "step_done"}'},
        ["exp_live_secret"],
        tries=2,
        recoveries=[Recovery("F1", 30.0, 30.0)],
    )


def with_rows(change: Callable[[Rows], object]) -> History:
    """Return the history with another database."""
    changed = rows()
    change(changed)
    good = history()
    return replace(good, snapshot=replace(good.snapshot, tables=changed))


def with_more(**more: Any) -> History:
    """Return the history with more calls or receipts, or with other files, logs or processes."""
    good = history()
    snapshot = {name: more.pop(name) for name in ("files", "reference", "processes_left") if name in more}
    changes: dict[str, Any] = {
        name: [*getattr(good, name), *value] if isinstance(value, list) else value for name, value in more.items()
    }
    return replace(good, snapshot=replace(good.snapshot, **snapshot), **changes)


RECORDED, ATTACHED, RENDERED, CLOSED = (NewEvent(each.type, {**each.data, "unitNo": 2}) for each in EVENTS[1:5])
CANCELLED, RESUMED = NewEvent(EventType.EXPORT_CANCELLED), NewEvent(EventType.EXPORT_RESUMED)
SUPERSEDED = NewEvent(EventType.EXPORT_AMENDED, {"supersededBy": "exp_2", "revision": 2})
SUPERSEDES = NewEvent(EventType.EXPORT_AMENDED, {"supersedes": "exp_0"})
FAILED = NewEvent(EventType.EXPORT_FAILED, {"step": "render_documents", "unitNo": 1})


def build_retry_event(step: str, unit_no: int) -> NewEvent:
    """Return the event of a step that is retried later."""
    return NewEvent(EventType.STEP_RETRIED, {"step": step, "unitNo": unit_no})


def build_stopped_history(*happened: NewEvent, state: str = "failed") -> History:
    """Return the history of an unfinished export: its acceptance, then these events."""

    def change(tables: Rows) -> None:
        rebuild_chain(tables, EVENTS[0], *happened)
        tables["exports"][0].update(state=state, failure="render_documents: a reason")

    base_history = with_rows(change)
    return replace(base_history, calls=[])


def rebuild_chain(tables: Rows, *happened: NewEvent) -> None:
    """Replace the events of the log, with a valid hash chain."""
    tables["events"] = chain_events(EXPORT, 1, "worker", NOW, happened)
    tables["exports"][0]["next_seq"] = len(happened) + 1
