"""A handoff is not overdue any more when its answer is no longer expected."""

from collections.abc import Callable
from datetime import date

import pytest
from sqlalchemy import update

from pipeline.core.db import database_now
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.submissions import overdue
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import Outcome
from pipeline.interfaces.api.metrics import WorkCollector
from pipeline.ops import retention
from pipeline.workflow import queries
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment


def count_late(workflow: WorkflowHarness) -> tuple[float, list[str]]:
    """Return the gauge's number of overdue handoffs, and the exports listed as overdue."""
    families = {family.name: family for family in WorkCollector(workflow.runtime).collect()}
    late = sum(sample.value for sample in families["exports_handoffs_overdue"].samples)
    wanted = ExportFilter(outcome=(Outcome.OVERDUE,))
    with workflow.runtime.db.read() as session:
        listed = queries.list_exports(session, factories.ACCOUNT, wanted, cursor=None, limit=9).items
    return late, [each.export_id for each in listed]


def amend(workflow: WorkflowHarness, export_id: str) -> None:
    make_amendment(workflow, export_id)


def purge(workflow: WorkflowHarness, _: str) -> None:
    assert retention.purge_expired(workflow.runtime, date(2040, 1, 1)).exports


@pytest.mark.parametrize("end", [amend, purge])
def test_overdue_handoff_counts_until_amendment_or_purge(
    workflow: WorkflowHarness, database_url: str, end: Callable[[WorkflowHarness, str], None]
) -> None:
    export_id = execute_export(workflow)
    assert count_late(workflow) == (0, [])
    workflow.change(update(BrokerSubmission).values(deadline_at=database_now(-1)))
    overdue.notify_overdue(workflow.runtime)
    assert count_late(workflow) == (1, [export_id])
    end(workflow, export_id)
    assert count_late(workflow) == (0, [])
