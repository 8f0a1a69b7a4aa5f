"""A partner's store of messages in SQLite: each message counts once, in the transaction of its work."""

import sqlite3
from collections.abc import Mapping
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, type TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS packages (
    export_id TEXT, unit_ref TEXT, package_ref TEXT, label TEXT, ship_to TEXT, state TEXT NOT NULL,
    PRIMARY KEY (export_id, unit_ref, package_ref)
);
CREATE TABLE IF NOT EXISTS handoffs (
    submission_id TEXT PRIMARY KEY, message_id TEXT NOT NULL, answer_to TEXT NOT NULL, state TEXT NOT NULL,
    answered INTEGER NOT NULL DEFAULT 0
);
"""


def opened(path: str) -> sqlite3.Connection:
    """Open the store, or create it; a commit returns when it is on disk."""
    store = sqlite3.connect(path, timeout=30)
    store.executescript(TABLES)
    return store


def keep(store: sqlite3.Connection, event: Mapping[str, Any]) -> str | None:
    """Do the message's work; return a line about it, or None if that was done before or there is nothing to do.

    Raises KeyError or a similar error, and stores nothing, if it is not a message of the service.
    """
    data = event["data"]
    with store:
        if not store.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (event["id"], event["type"])).rowcount:
            return None
        match event["type"]:
            case "exports.package.recorded.v1":
                return _recorded(store, data)
            case "exports.package.superseded.v1" | "exports.package.withdrawn.v1":
                return _package_superseded(store, data)
            case "exports.handoff.ready.v1":
                return _handed_off(store, event["id"], data)
            case "exports.handoff.superseded.v1" | "exports.handoff.withdrawn.v1":
                return _handoff_superseded(store, data)
            case "exports.handoff.replied.v1":
                return f"{data['exportId']} {data['submissionId']} message {data['messageId']}: {data['text']}"
            case _:
                return None  # connection tests, and messages of later versions of the service


def _recorded(store: sqlite3.Connection, data: Mapping[str, Any]) -> str:
    label, name = data["sscc"] or data["lpn"], data["shipTo"]["name"]
    # If the retraction came first, the row exists and stays superseded.
    store.execute(
        "INSERT OR IGNORE INTO packages VALUES (?, ?, ?, ?, ?, 'to pack')",
        (data["exportId"], data["unitRef"], data["packageRef"], label, name),
    )
    return f"{data['exportId']} {data['unitRef']} {data['packageRef']} {label} {name}"


def _package_superseded(store: sqlite3.Connection, data: Mapping[str, Any]) -> str:
    store.execute(
        "INSERT INTO packages VALUES (?, ?, ?, ?, NULL, 'superseded') ON CONFLICT DO UPDATE SET state = 'superseded'",
        (data["exportId"], data["unitRef"], data["packageRef"], data["sscc"] or data["lpn"]),
    )
    return f"{data['exportId']} {data['unitRef']} {data['packageRef']} superseded"


def _handed_off(store: sqlite3.Connection, message_id: str, data: Mapping[str, Any]) -> str:
    units = data.get("units", ())
    task = "nothing new to file" if units and all(unit.get("kept") for unit in units) else "to file"
    task = "to correct" if data.get("corrects") else task
    store.execute(
        "INSERT OR IGNORE INTO handoffs VALUES (?, ?, ?, ?, 0)",
        (data["submissionId"], message_id, data["acknowledgementUrl"], task),
    )
    return f"{data['exportId']} {data['submissionId']} {task}"


def _handoff_superseded(store: sqlite3.Connection, data: Mapping[str, Any]) -> str:
    store.execute(
        "INSERT INTO handoffs VALUES (?, '', '', 'superseded', 1)"
        " ON CONFLICT DO UPDATE SET state = 'superseded', answered = 1",
        (data["submissionId"],),
    )
    return f"{data['exportId']} {data['submissionId']} superseded"
