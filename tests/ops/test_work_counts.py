"""Tests of the counts of open work: the sweeper keeps them, and readers count only if it does not."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from sqlalchemy import case, update
from sqlmodel import col

from config import queues
from pipeline.accounts import partners
from pipeline.accounts.models import PartnerChannel
from pipeline.core import tenancy
from pipeline.core.errors import ChannelUnavailable
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.models import Delivery
from pipeline.ops import work_counts
from pipeline.ops.work_counts import CountKey
from pipeline.workflow.interventions import cancel_export
from tests.support import factories
from tests.support.query_counter import record_statements
from tests.workflow.conftest import Answers, WorkflowHarness

ACCEPTED = CountKey(factories.ACCOUNT, work_counts.EXPORTS, "accepted")
READY = CountKey(work_counts.ALL, work_counts.STEPS, "ready")
DELAY = CountKey(work_counts.ALL, work_counts.QUEUE_DELAY, queues.STEPS)
DEPTH = CountKey(work_counts.ALL, work_counts.QUEUE_DEPTH, queues.STEPS)


def read_counts(workflow: WorkflowHarness) -> Mapping[CountKey, int]:
    with tenancy.account_scope(ALL_ACCOUNTS), workflow.runtime.db.read() as session:
        return work_counts.read_counts(session)


def keep_counts(workflow: WorkflowHarness) -> list[str]:
    """Keep the counts after the pause, and return the verbs of the statements that changed them."""
    workflow.clock.pass_seconds(work_counts.KEEP_SECONDS + 1)
    with record_statements(workflow.runtime.db) as statements:
        assert work_counts.keep_counts(workflow.runtime)
    return [text.split()[0] for text in statements if "work_counts" in text and not text.startswith("SELECT")]


def test_kept_counts_are_read_until_they_are_stale(workflow: WorkflowHarness) -> None:
    workflow.accept(factories.plan(batch="first"))
    keep_counts(workflow)
    workflow.accept(factories.plan(batch="second"))
    assert read_counts(workflow) == {ACCEPTED: 1, READY: 1, DEPTH: 1, DELAY: 1}
    workflow.clock.pass_seconds(work_counts.STALE_SECONDS + 1)
    assert read_counts(workflow) == {ACCEPTED: 2, READY: 2, DEPTH: 2, DELAY: 62}


def test_counts_are_kept_again_only_after_a_pause(workflow: WorkflowHarness) -> None:
    keep_counts(workflow)
    workflow.accept()
    workflow.clock.pass_seconds(work_counts.KEEP_SECONDS - 1)
    assert not work_counts.keep_counts(workflow.runtime)
    assert read_counts(workflow) == {}


def test_slow_count_is_followed_by_a_longer_pause(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    # Counting took two seconds; then a sweep after 39 and one after 41.
    instants = iter([0, 2, 41, 43, 43])
    monkeypatch.setattr(work_counts, "time", SimpleNamespace(monotonic=lambda: next(instants)))
    for kept in (True, False, True):
        workflow.clock.pass_seconds(work_counts.KEEP_SECONDS + 1)
        assert work_counts.keep_counts(workflow.runtime) is kept


def test_keeping_writes_only_what_has_changed(workflow: WorkflowHarness) -> None:
    export_id = workflow.accept().export_id
    assert keep_counts(workflow) == ["INSERT"]
    work_is_later = ["UPDATE"]
    assert keep_counts(workflow) == work_is_later
    workflow.accept(factories.plan(batch="other"))
    assert keep_counts(workflow) == ["UPDATE", "UPDATE", "UPDATE", *work_is_later]
    cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")
    workflow.finish(export_id)
    keep_counts(workflow)
    kept, waits = read_counts(workflow), DELAY._replace(state=queues.DELIVERIES)
    workflow.clock.pass_seconds(work_counts.STALE_SECONDS + 1)
    found = read_counts(workflow)
    assert {**kept, waits: 0} == {**found, waits: 0}
    assert found[waits] == kept[waits] + work_counts.STALE_SECONDS + 1
    assert ACCEPTED not in kept


def test_counts_of_a_future_time_are_not_used(workflow: WorkflowHarness) -> None:
    keep_counts(workflow)
    workflow.accept()
    workflow.clock.pass_seconds(-3600)
    assert read_counts(workflow) == {ACCEPTED: 1, READY: 1, DEPTH: 1}


def test_oldest_message_to_an_endpoint_that_fails_is_counted_by_kind_of_partner(
    workflow: WorkflowHarness, failing_queues: Answers
) -> None:
    with failing_queues(ChannelUnavailable("no room")):
        workflow.finish(workflow.accept().export_id)
    with workflow.runtime.db.write() as session:
        session.execute(update(Delivery).where(col(Delivery.state) == "pending").values(created_at=workflow.clock.now))
        others = col(PartnerChannel.partner_id) != factories.BROKER
        session.execute(update(PartnerChannel).values(failures=case((others, 1), else_=0)))
    workflow.clock.pass_seconds(1800)
    found = {
        key.state: value for key, value in read_counts(workflow).items() if key.name == work_counts.FAILING_ENDPOINT
    }
    assert found == {"warehouse": 1800, "operator": 1800}
    partners.pause_partner(workflow.runtime, factories.ACCOUNT, factories.WAREHOUSE)
    assert CountKey(work_counts.ALL, work_counts.FAILING_ENDPOINT, "warehouse") not in read_counts(workflow)


def test_several_sweepers_keep_counts_at_once(workflow: WorkflowHarness, database_url: str) -> None:
    # Goods without a certification: its end is near on some days of the server's clock.
    workflow.accept(factories.plan(lines=1))
    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(lambda _: work_counts.keep_counts(workflow.runtime), range(8)))
    assert read_counts(workflow) == {ACCEPTED: 1, READY: 1, DEPTH: 1}
