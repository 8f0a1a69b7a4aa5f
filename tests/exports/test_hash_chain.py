"""Tests of the hash chain: each change of the log in the database is found at its event."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from pipeline.core.db import Database, table
from pipeline.deliveries.models import Attempt
from pipeline.exports import events
from pipeline.exports.event_models import Event
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.hash_chain import canonical_bytes, hash_event
from pipeline.ops import audit
from tests.ops.tampering import open_unguarded
from tests.support import factories
from tests.support.servers import PostgreSQL
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import deliver_all, execute_export, make_amendment

_EVENTS = table(Event)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
)  # fmt: skip


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=5))
def test_canonical_bytes_equal_rfc_8785(value: dict[str, Any]) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)


def test_event_hash_equals_the_documented_example() -> None:
    event = {
        "export_id": "exp_1",
        "seq": 1,
        "type": "EXPORT_ACCEPTED",
        "at": datetime(2026, 11, 24, 15, 0, tzinfo=UTC),
        "actor": "key_1",
        "data": {"units": 1},
        "prev_hash": None,
    }
    assert hash_event(event) == "v1:2cf46c6c4ebe9be997949da563d60a449fad7a44b834dc58d2d5589f99bbd599"


@given(st.data())
def test_change_of_a_log_is_found_at_its_event(data: st.DataObject) -> None:
    start = datetime(2026, 11, 24, tzinfo=UTC)
    written = [NewEvent(data.draw(st.sampled_from(EventType)), {"n": n}) for n in range(data.draw(st.integers(2, 8)))]
    log = events.chain_events("exp_1", 1, "key_1", start, written)
    assert follow_log(log, len(log)) is None
    place = data.draw(st.integers(0, len(log) - 1))
    column = data.draw(st.sampled_from(sorted(log[0].keys() - {"export_id", "seq"})))
    others: dict[str, Any] = {"at": start + timedelta(microseconds=1), "data": {"n": -1}}
    log[place] = log[place] | {column: others.get(column, "another")}
    fault = follow_log(log, len(log))
    assert fault is not None
    assert fault.seq == place + 1


def follow_log(log: list[dict[str, Any]], given_out: int) -> audit.ChainBreak | None:
    chain = audit.Chain("exp_1", given_out + 1)
    for event in log:
        chain.follow_event(event)
    chain.finish()
    return chain.first_break


def test_chains_of_exports_in_all_states_are_intact(workflow_on_both: WorkflowHarness) -> None:
    first = execute_export(workflow_on_both)
    deliver_all(workflow_on_both, first)
    make_amendment(workflow_on_both, first)
    workflow_on_both.accept(factories.plan(batch="batch_2"))
    found = audit.verify_chains(workflow_on_both.runtime)
    with workflow_on_both.runtime.db.read() as session:
        assert found.events == session.scalar(sa.select(sa.func.count()).select_from(_EVENTS))
    assert (found.exports, found.intact) == (3, True)


CHANGES: dict[str, Any] = {
    "type": "EXPORT_FAILED",
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "actor": "another",
    "data": {"unitNo": 2},
    "prev_hash": "v1:00",
    "hash": "v1:00",
}


def test_changes_cover_all_columns_of_an_event() -> None:
    assert CHANGES.keys() | {"export_id", "seq"} == {column.name for column in _EVENTS.columns}


def test_change_of_any_column_is_found(workflow_on_both: WorkflowHarness) -> None:
    export_id = execute_export(workflow_on_both)
    rows = _read_events(workflow_on_both)
    for column, value in CHANGES.items():
        _put(workflow_on_both, rows, [3], [rows[2] | {column: value}])
        (fault,) = audit.verify_chains(workflow_on_both.runtime).breaks
        kind = "moved" if column == "prev_hash" else "changed"
        assert (fault.export_id, fault.seq, fault.kind) == (export_id, 3, kind), column
        _put(workflow_on_both, rows, [3], [rows[2]])
    assert audit.verify_chains(workflow_on_both.runtime).intact


def _read_events(workflow: WorkflowHarness) -> list[dict[str, Any]]:
    with workflow.runtime.db.read() as session:
        return [dict(row) for row in session.execute(sa.select(_EVENTS).order_by(_EVENTS.c.seq)).mappings()]


def test_missing_moved_replaced_or_added_event_is_named(workflow_on_both: WorkflowHarness) -> None:
    export_id = execute_export(workflow_on_both)
    rows = _read_events(workflow_on_both)
    last = rows[-1]["seq"]
    forged = rows[4] | {"actor": "another", "prev_hash": rows[2]["hash"]}
    forged["hash"] = hash_event(forged)
    follows = rows[-1] | {"seq": last + 1, "prev_hash": rows[-1]["hash"]}
    follows["hash"] = hash_event(follows)
    swapped = [rows[4] | {"seq": 6}, rows[5] | {"seq": 5}]
    for taken, put, seq, kind in (
        ([5], [], 5, "missing"),
        ([1], [], 1, "missing"),
        ([last], [], last, "missing"),
        ([5], [forged], 5, "replaced"),
        ([5, 6], swapped, 5, "moved"),
        ([], [follows], last + 1, "added"),
    ):
        _put(workflow_on_both, rows, taken, put)
        (fault,) = audit.verify_chains(workflow_on_both.runtime, export_id=export_id).breaks
        assert (fault.seq, fault.kind) == (seq, kind)
        _put(workflow_on_both, rows, range(1, last + 2), rows)
    assert audit.verify_chains(workflow_on_both.runtime).intact


def _put(workflow: WorkflowHarness, rows: list[dict[str, Any]], taken: Any, put: list[dict[str, Any]]) -> None:
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(_EVENTS.delete().where(_EVENTS.c.seq.in_(list(taken))))
        if put:
            connection.execute(_EVENTS.insert(), put)


def test_concurrent_writers_write_one_chain(workflow_on_both: WorkflowHarness) -> None:
    export_id = workflow_on_both.accept().export_id
    together = threading.Barrier(8)

    def write() -> None:
        together.wait()
        for _ in range(5):
            with workflow_on_both.runtime.db.write() as session:
                events.append(session, export_id, "another", [NewEvent(EventType.STEP_RETRIED)])

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = audit.verify_chains(workflow_on_both.runtime)
    assert (found.events, found.breaks) == (41, [])


@pytest.mark.parametrize("model", [Event, Attempt])
def test_database_refuses_changes_of_append_only_tables(
    workflow_on_both: WorkflowHarness, model: type[SQLModel]
) -> None:
    execute_export(workflow_on_both)
    name = model.__tablename__
    key = table(model).primary_key.columns.keys()[0]
    statements = [f"UPDATE {name} SET {key} = 'x'", f"DELETE FROM {name}"]  # noqa: S608
    if not workflow_on_both.runtime.db.is_sqlite:
        statements.append(f"TRUNCATE {name} CASCADE")
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"), workflow_on_both.runtime.db.write() as session:
            session.execute(sa.text(statement))
    assert audit.verify_chains(workflow_on_both.runtime).intact


@pytest.mark.parametrize("model", [Event, Attempt])
def test_sqlite_refuses_replaces_in_append_only_tables(workflow: WorkflowHarness, model: type[SQLModel]) -> None:
    execute_export(workflow)
    name = model.__tablename__
    others = [column.name for column in table(model).columns]
    key = [column.name for column in table(model).primary_key]
    same = ", ".join(others)
    # A row can be addressed by its key and by the rowid of every table.
    moved = ", ".join({key[1]: f"{key[1]} + 900"}.get(column, column) for column in others)
    for statement in (
        f"INSERT OR REPLACE INTO {name} ({same}) SELECT {same} FROM {name} LIMIT 1",  # noqa: S608
        f"REPLACE INTO {name} (rowid, {same}) SELECT rowid, {moved} FROM {name} LIMIT 1",  # noqa: S608
        f"UPDATE OR REPLACE {name} SET {key[1]} = {key[1]} + 1",  # noqa: S608
    ):
        with pytest.raises(DBAPIError, match="append-only"), workflow.runtime.db.write() as session:
            session.execute(sa.text(statement))
    assert audit.verify_chains(workflow.runtime).intact


@pytest.mark.servers
def test_service_role_can_only_insert_into_the_log(
    make_workflow: Callable[[str], WorkflowHarness], postgres_server: PostgreSQL, postgres_template: str
) -> None:
    url = postgres_server.fresh_url(postgres_template)
    owner = make_workflow(url)
    written = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    grants = written.partition("```sql\n")[2].partition("```")[0].splitlines()
    assert len(grants) == 4
    with owner.runtime.db.engine.begin() as connection:
        for grant in grants:
            connection.execute(sa.text(grant))
    try:
        own = Database(url.replace("postgres@", "exports_service@"))
        workflow = WorkflowHarness(
            type(owner.runtime)(owner.runtime.settings, own, owner.runtime.store),
            owner.clock,
            owner.store,
            owner.caller,
        )
        export_id = execute_export(workflow)
        # The service's role may also use tables of later migrations.
        with owner.runtime.db.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE later (id integer)"))
        with own.write() as session:
            session.execute(sa.text("INSERT INTO later VALUES (1)"))
            session.execute(sa.text("UPDATE later SET id = 2"))
            session.execute(sa.text("DELETE FROM later"))
        for statement in (
            "UPDATE events SET actor = 'x'", "DELETE FROM events", "TRUNCATE events",
            "ALTER TABLE events DISABLE TRIGGER ALL", "DROP TRIGGER events_append_only ON events",
            "SET session_replication_role = replica",
        ):  # fmt: skip
            with pytest.raises(DBAPIError, match=r"denied|owner"), own.write() as session:
                session.execute(sa.text(statement))
        assert audit.verify_chains(workflow.runtime, export_id=export_id).intact
        own.dispose()
    finally:
        with owner.runtime.db.engine.begin() as connection:
            connection.execute(sa.text("DROP OWNED BY exports_service"))
            connection.execute(sa.text("DROP ROLE exports_service"))


def test_checkpoint_matches_a_grown_log_but_not_a_shrunk_one(workflow_on_both: WorkflowHarness) -> None:
    runtime = workflow_on_both.runtime
    kept, gone = execute_export(workflow_on_both), execute_export(workflow_on_both, factories.plan(batch="batch_2"))
    stated = audit.sign_checkpoint(runtime, settled_seconds=0)
    until = datetime.fromisoformat(stated.until)
    assert (stated.exports, stated.events) == (2, audit.verify_chains(runtime).events)
    workflow_on_both.clock.pass_seconds(1)
    make_amendment(workflow_on_both, kept)
    workflow_on_both.accept(factories.plan(batch="batch_3"))
    assert audit.find_mismatch(stated, audit.verify_chains(runtime, until=until)) is None
    with open_unguarded(runtime.db) as connection:
        connection.execute(_EVENTS.delete().where(_EVENTS.c.export_id == gone))
        connection.execute(sa.text("UPDATE exports SET next_seq = 1 WHERE id = :id"), {"id": gone})
    found = audit.verify_chains(runtime, until=until)
    assert found.intact, "a completely deleted log must not break a chain"
    assert audit.find_mismatch(stated, found) == "the checkpoint counts 2 exports, the log has 1"


def test_checkpoint_leaves_out_unsettled_events(workflow: WorkflowHarness) -> None:
    execute_export(workflow)
    assert audit.sign_checkpoint(workflow.runtime).exports == 0
    workflow.clock.pass_seconds(audit.SETTLED_SECONDS)
    assert audit.sign_checkpoint(workflow.runtime).exports == 1


def test_fully_forged_log_does_not_match_the_checkpoint(workflow: WorkflowHarness) -> None:
    export_id = execute_export(workflow)
    stated = audit.sign_checkpoint(workflow.runtime, settled_seconds=0)
    rows = _read_events(workflow)
    rows[2]["actor"] = "another"
    for before, row in zip([None, *rows], rows, strict=False):
        row["prev_hash"] = None if before is None else before["hash"]
        row["hash"] = hash_event(row)
    _put(workflow, rows, range(1, len(rows) + 1), rows)
    found = audit.verify_chains(workflow.runtime, until=datetime.fromisoformat(stated.until))
    assert (found.intact, found.exports) == (True, 1), export_id
    assert (
        audit.find_mismatch(stated, found)
        == "the log has as many exports, events and acts as the checkpoint counts, but other ones"
    )


def test_checkpoint_signature_is_valid_under_known_keys_if_unchanged(workflow: WorkflowHarness) -> None:
    execute_export(workflow)
    settings = workflow.runtime.settings
    stated = audit.sign_checkpoint(workflow.runtime, settled_seconds=0)
    renewed = settings.model_copy(
        update={"secret_key": SecretStr("k" * 32), "secret_keys_previous": (settings.secret_key,)}
    )
    assert audit.is_own_signature(settings, stated)
    assert audit.is_own_signature(renewed, stated)
    assert not audit.is_own_signature(renewed.model_copy(update={"secret_keys_previous": ()}), stated)
    for name, value in {
        "exports": 0, "until": "2026-01-01T00:00:00.000000Z", "root": "sha256:00", "account": "x",
    }.items():  # fmt: skip
        assert not audit.is_own_signature(settings, stated.model_copy(update={name: value})), name


def test_broken_log_gets_no_checkpoint(workflow: WorkflowHarness) -> None:
    execute_export(workflow)
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(_EVENTS.delete().where(_EVENTS.c.seq == 4))
    with pytest.raises(audit.BrokenLog, match="1 chains are broken"):
        audit.sign_checkpoint(workflow.runtime)
