"""The feed of an account has every event of every export once, whatever the order in which transactions commit."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline.accounts import service
from pipeline.core import tenancy
from pipeline.core.db import Database
from pipeline.core.errors import DatabaseBusy, ValidationFailed
from pipeline.exports import events, feed
from pipeline.exports.event_models import Event, FeedRange
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.feed import place_ranges, read_feed
from pipeline.exports.models import Export
from pipeline.ops import retention
from pipeline.ops.rebuild.service import rebuild_exports
from tests.exports.accepted import accept
from tests.ops.tampering import open_unguarded
from tests.support import factories
from tests.support.query_counter import record_plans
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment

RETRIED, DEAD = EventType.STEP_RETRIED, EventType.DELIVERY_DEAD
#: SQLite has one writer at a time.
ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def add_export(workflow: WorkflowHarness, batch: str, account: str = factories.ACCOUNT) -> str:
    """Write an export without events; return its id."""
    return accept(workflow.runtime.db, factories.plan(batch=batch) | {"accountId": account})[0].export_id


def write(session: Session, export_id: str, *types: EventType) -> None:
    events.append(session, export_id, "test", [NewEvent(each) for each in types])


def read_all(
    workflow: WorkflowHarness,
    after: str | None = None,
    *types: EventType,
    limit: int = 1000,
    account: str = factories.ACCOUNT,
) -> list[str]:
    """Return the ids of all events after the cursor, read page by page."""
    found: list[str] = []
    while True:
        page = read_feed(workflow.runtime, account, after, types=types, limit=limit)
        assert len(page.items) <= limit
        found += [each.id for each in page.items]
        after = page.next_after
        if not page.more:
            assert read_feed(workflow.runtime, account, after, types=types, limit=limit).next_after == after
            return found


def list_logs(workflow: WorkflowHarness) -> set[str]:
    """Return the ids of the events of all logs."""
    with workflow.runtime.db.read() as session:
        rows = session.execute(select(col(Event.export_id), col(Event.seq))).all()
    return {f"{export_id}.{seq}" for export_id, seq in rows}


@contextmanager
def transactions(workflow: WorkflowHarness, count: int) -> Iterator[list[tuple[Session, ExitStack]]]:
    """Yield open transactions; closing the stack of one commits it."""
    with ExitStack() as all_open:
        stacks = [all_open.enter_context(ExitStack()) for _ in range(count)]
        yield [(stack.enter_context(workflow.runtime.db.write()), stack) for stack in stacks]


@ON_POSTGRESQL
@pytest.mark.parametrize("reads_between", [False, True])
def test_reversed_commits_lose_and_repeat_nothing(workflow_on_both: WorkflowHarness, *, reads_between: bool) -> None:
    workflow = workflow_on_both
    first, second, third = (add_export(workflow, f"batch_{n}") for n in range(3))
    received: list[str] = []

    def read() -> None:
        received.extend(read_all(workflow, received[-1] if received else None, limit=2))

    with transactions(workflow, 3) as [(slow, end_slow), (undone, end_undone), (fast, end_fast)]:
        # The slow one takes its transaction id, its time and its number first.
        write(slow, first, RETRIED, RETRIED, RETRIED)
        write(undone, second, RETRIED)
        write(fast, third, RETRIED, DEAD)
        end_fast.close()
        if reads_between:
            read()
            assert received == [f"{third}.1", f"{third}.2"]
        undone.rollback()
        end_undone.close()
        end_slow.close()
    read()
    # Before the reader came, the order is that of the writes.
    slow_ids, fast_ids = [f"{first}.{n}" for n in (1, 2, 3)], [f"{third}.1", f"{third}.2"]
    assert received == (fast_ids + slow_ids if reads_between else slow_ids + fast_ids)
    with workflow.runtime.db.write() as session:
        write(session, second, DEAD)
    read()
    assert received[5:] == [f"{second}.1"]


@ON_POSTGRESQL
def test_one_reader_at_a_time_gives_positions(workflow_on_both: WorkflowHarness) -> None:
    workflow = workflow_on_both
    first, second = add_export(workflow, "batch_1"), add_export(workflow, "batch_2")
    other = Database(str(workflow.runtime.db.url.render_as_string(hide_password=False)), timeout_seconds=0.2)
    with transactions(workflow, 2) as [(writer, end_writer), (placer, end_placer)]:
        with workflow.runtime.db.write() as session:
            write(session, first, RETRIED)
        assert place_ranges(placer, factories.ACCOUNT, 10) == 1
        write(writer, second, RETRIED)  # a reader that gives positions holds no writer up
        end_writer.close()
        # Another reader must not give the next position: that of the first reader is not visible yet.
        with pytest.raises(DatabaseBusy), other.write() as session:
            place_ranges(session, factories.ACCOUNT, 10)
        end_placer.close()
    other.dispose()
    assert read_all(workflow) == [f"{first}.1", f"{second}.1"]


def test_feed_resumes_after_each_of_its_events(workflow_on_both: WorkflowHarness) -> None:
    workflow = workflow_on_both
    export_id = execute_export(workflow)
    make_amendment(workflow, export_id)
    workflow.accept(factories.plan(batch="batch_other"))
    whole = read_all(workflow)
    assert {*whole} == list_logs(workflow)
    assert len(whole) == len({*whole}) > 20
    for place, after in enumerate(whole, 1):
        assert read_all(workflow, after) == whole[place:]
    assert read_all(workflow, limit=7) == whole
    logged = read_feed(workflow.runtime, factories.ACCOUNT, None, limit=1000).items
    by_export: dict[str, list[int]] = {}
    for each in logged:
        by_export.setdefault(each.export_id, []).append(each.seq)
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_export.values())
    assert {(each.batch_id, each.test) for each in logged} == {(factories.BATCH, False), ("batch_other", False)}
    wanted = [each.id for each in logged if each.type in ("EXPORT_ACCEPTED", "HANDED_OFF")]
    assert len(wanted) >= 4
    for limit in (1, 1000):
        assert read_all(workflow, None, EventType.EXPORT_ACCEPTED, EventType.HANDED_OFF, limit=limit) == wanted


@pytest.mark.system
def test_ten_thousand_events_come_in_pages(workflow_on_both: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_PLACED_AT_ONCE", 7)
    monkeypatch.setattr(feed, "_RANGES_OF_PAGE", 3)
    exports = [add_export(workflow_on_both, f"batch_{n}") for n in range(20)]
    for _ in range(4):
        for export_id in exports:
            with workflow_on_both.runtime.db.write() as session:
                write(session, export_id, *[RETRIED] * 124, DEAD)
    expected = [f"{each}.{125 * part + n}" for part in range(4) for each in exports for n in range(1, 126)]
    assert len(expected) == 10_000
    # The cursor is far in what no reader has placed yet.
    assert read_all(workflow_on_both, expected[5_000], limit=999) == expected[5_001:]
    assert read_all(workflow_on_both, limit=1000) == expected
    assert read_all(workflow_on_both, None, DEAD, limit=1000) == expected[124::125]
    # No event of the next ranges is wanted: the page is empty, and its cursor goes on.
    page = read_feed(workflow_on_both.runtime, factories.ACCOUNT, None, types=[EventType.HANDED_OFF], limit=5)
    assert (page.items, page.more, page.next_after) == ([], True, f"{exports[2]}.125")


@pytest.mark.parametrize(
    "after",
    ["", "exp_1", "exp_none.1", "{id}.0", "{id}.2", "{id}.x", "{id}.99999999999999999999", "{id}.1\0", "{id}.²"],
)
def test_unknown_event_is_refused_by_name(workflow_on_both: WorkflowHarness, after: str) -> None:
    export_id = add_export(workflow_on_both, "batch_1")
    assert read_feed(workflow_on_both.runtime, factories.ACCOUNT, None, limit=5).model_dump() == {
        "items": [],
        "nextAfter": None,
        "more": False,
    }
    with workflow_on_both.runtime.db.write() as session:
        write(session, export_id, RETRIED)
    with pytest.raises(ValidationFailed, match="leave it out to begin with the first") as refused:
        read_feed(workflow_on_both.runtime, factories.ACCOUNT, after.replace("{id}", export_id), limit=5)
    assert refused.value.field == "/query/after"


def test_accounts_have_feeds_of_their_own(workflow_on_both: WorkflowHarness) -> None:
    workflow = workflow_on_both
    service.create_account(workflow.runtime, "acc_other", "Birch Goods Ltd")
    ours, theirs = add_export(workflow, "batch_1"), add_export(workflow, "batch_1", "acc_other")
    for export_id in (theirs, ours, theirs, ours):
        with workflow.runtime.db.write() as session:
            write(session, export_id, RETRIED)
    for account, own, foreign in ((factories.ACCOUNT, ours, theirs), ("acc_other", theirs, ours)):
        with tenancy.account_scope(account):
            assert read_all(workflow, account=account) == [f"{own}.1", f"{own}.2"]
            with pytest.raises(ValidationFailed):
                read_all(workflow, f"{foreign}.1", account=account)
    assert Counter(workflow.rows(select(col(FeedRange.position)))) == {1: 2, 2: 2}


def test_restored_and_purged_exports_keep_their_places(workflow_on_both: WorkflowHarness) -> None:
    workflow = workflow_on_both
    export_id = execute_export(workflow)
    before = read_all(workflow)
    with open_unguarded(workflow.runtime.db) as connection:
        connection.execute(update(Export).values(next_seq=2))
    assert rebuild_exports(workflow.runtime, apply=True).damaged[0].refusal is None
    assert [each.type for each in read_feed(workflow.runtime, factories.ACCOUNT, before[-1], limit=9).items] == [
        "ROWS_RESTORED"
    ]
    restored = read_all(workflow)
    assert restored == [*before, f"{export_id}.{len(before) + 1}"]
    with workflow.runtime.db.write() as session:
        session.execute(update(Export).values(state="cancelled"))
    assert retention.purge_expired(workflow.runtime, factories.NOW.date().replace(year=2060)).exports == 1
    assert read_all(workflow) == [*restored, f"{export_id}.{len(restored) + 1}"]


def test_each_statement_of_the_feed_searches_an_index(workflow_on_both: WorkflowHarness) -> None:
    export_id = add_export(workflow_on_both, "batch_1")
    with workflow_on_both.runtime.db.write() as session:
        write(session, export_id, RETRIED)
    with record_plans(workflow_on_both.runtime.db) as plans:
        assert read_all(workflow_on_both, f"{export_id}.1") == []
        assert read_all(workflow_on_both) == [f"{export_id}.1"]
    of_event = "sqlite_autoindex_feed_1" if workflow_on_both.runtime.db.is_sqlite else "uq_feed_export_id_last_seq"
    found = {name for name in ("uq_feed_position", "ix_feed_unplaced", of_event) for line in plans if name in line}
    assert found == {"uq_feed_position", "ix_feed_unplaced", of_event}
    assert any(
        "position" in line and ">" in line for line in plans if "Index Cond" in line or "uq_feed_position" in line
    )
    assert [line for line in plans if "Seq Scan on" in line or line.startswith("SCAN feed")] == []
