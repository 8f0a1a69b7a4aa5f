"""The rows and files of one account, as the judge needs them."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select, update
from sqlmodel import SQLModel

from pipeline.core.blob_store import ArtifactStore
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES
from pipeline.exports.step_context import build_context
from pipeline.simulation.evidence import read_tables
from pipeline.workflow import render_documents
from tests.system.faults.records import Snapshot


def snapshot(runtime: Runtime, account_id: str, store: Path, *, again: Sequence[str] = ()) -> Snapshot:
    """Return the account's rows and the store's files; render documents of the exports in `again` to compare."""
    tables = read_tables(runtime, account_id)
    of_account = {row["id"]: row for row in tables["exports"]}
    reference: dict[tuple[str, int, str], str] = {}
    for export_id in again:
        reference |= _render_again(runtime, export_id, of_account[export_id]["units_total"])
    return Snapshot(tables, _files(store), reference)


def _render_again(runtime: Runtime, export_id: str, units: int) -> Mapping[tuple[str, int, str], str]:
    elsewhere = replace(runtime, store=ArtifactStore("memory:"))
    with runtime.db.read() as session:
        export = session.get_one(Export, export_id)
    return {
        (export_id, row["unit_no"], row["artifact_type"]): row["sha256"]
        for unit_no in range(1, units + 1)
        for row in render_documents.prepare(
            elsewhere, build_context(export, unit_no=unit_no, step="render_documents", fence=0, attempt=0)
        ).rows
    }


def _files(store: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for path in store.rglob("*"):
        # A worker renames a complete file. An incomplete one stays and will be found.
        with suppress(FileNotFoundError):
            if path.is_file():
                found[path.relative_to(store).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def list_unfinished(runtime: Runtime, account_id: str) -> list[str]:
    """Return the pending work of the account's exports, in words."""
    exports, steps, deliveries = (SQLModel.metadata.tables[name].c for name in ("exports", "steps", "deliveries"))
    with runtime.db.read() as session:
        running = session.execute(
            select(exports.id, exports.state).where(exports.account_id == account_id, exports.state.in_(ACTIVE_STATES))
        )
        # A running export's waiting messages are pending; those of a failed one wait for a retry by a person.
        pending = session.execute(
            select(deliveries.id, deliveries.state).where(
                deliveries.account_id == account_id, deliveries.state == "pending"
            )
        )
        held = session.execute(
            select(steps.export_id, steps.name)
            .join(SQLModel.metadata.tables["exports"], exports.id == steps.export_id)
            .where(exports.account_id == account_id, steps.lease_until.is_not(None))
        )
        return [f"{about} {how}" for about, how in (*running, *pending, *held)]


def release_pending(runtime: Runtime, account_id: str) -> None:
    """Cancel the pending work of a failed test: the next test's failpoints are not meant for it."""
    exports, steps, deliveries = (SQLModel.metadata.tables[name] for name in ("exports", "steps", "deliveries"))
    with runtime.db.write() as session:
        session.execute(
            update(steps)
            .where(
                steps.c.export_id.in_(select(exports.c.id).where(exports.c.account_id == account_id)),
                steps.c.state == "ready",
            )
            .values(state="cancelled")
        )
        session.execute(
            update(exports)
            .where(exports.c.account_id == account_id, exports.c.state.in_(ACTIVE_STATES))
            .values(state="failed")
        )
        session.execute(
            update(deliveries)
            .where(deliveries.c.account_id == account_id, deliveries.c.state.in_(("waiting", "pending")))
            .values(state="cancelled")
        )
