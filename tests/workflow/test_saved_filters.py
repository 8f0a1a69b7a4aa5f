"""Saved filters: by name, for one account, bounded."""

import pytest

from pipeline.core.errors import InvalidState, ValidationFailed
from pipeline.workflow import saved_filters
from pipeline.workflow.saved_filters import SavedFilterView
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness

ACCOUNT = factories.ACCOUNT


def test_filter_is_saved_replaced_and_deleted(workflow: WorkflowHarness) -> None:
    for name, query in (("b", "state=failed"), ("a", "outcome=held"), ("b", "state=cancelled")):
        saved_filters.save_filter(workflow.runtime, ACCOUNT, name, query, "per_1")
    wanted = [SavedFilterView("a", "outcome=held"), SavedFilterView("b", "state=cancelled")]
    assert saved_filters.list_filters(workflow.runtime, ACCOUNT) == wanted
    assert saved_filters.list_filters(workflow.runtime, "acc_other") == []
    for _ in range(2):
        saved_filters.delete_filter(workflow.runtime, ACCOUNT, "b")
    assert saved_filters.list_filters(workflow.runtime, ACCOUNT) == wanted[:1]


@pytest.mark.parametrize(
    ("name", "query", "field"),
    [
        ("", "state=failed", "name"),
        ("n" * 61, "state=failed", "name"),
        ("a\u202eb", "state=failed", "name"),
        ("a", "", "query"),
    ],
)
def test_filter_without_a_readable_name_or_content_is_refused(
    workflow: WorkflowHarness, name: str, query: str, field: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        saved_filters.save_filter(workflow.runtime, ACCOUNT, name, query, "per_1")
    assert refused.value.field == field


def test_number_of_filters_is_bounded(workflow: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_filters, "MOST_FILTERS", 2)
    for name in ("a", "b", "a"):
        saved_filters.save_filter(workflow.runtime, ACCOUNT, name, "state=failed", "per_1")
    with pytest.raises(InvalidState, match="delete one"):
        saved_filters.save_filter(workflow.runtime, ACCOUNT, "c", "state=failed", "per_1")
