"""A report of filed entries is compared with the estimates: each entry once by its content, each by itself."""

from typing import Any

import pytest

from pipeline.core.errors import ValidationFailed
from pipeline.deliveries.submissions.filed_entries import import_filed_entries
from pipeline.exports.schemas.filed_entries import FiledEntriesReport, FiledEntriesRequest
from tests.deliveries.entries.conftest import make_workflow, workflow
from tests.deliveries.entries.test_assessment import assert_rows_follow_from_log, find_assessment, list_items
from tests.deliveries.entries.test_entries import answer, packages, read
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export

__all__ = ["make_workflow", "workflow"]

HEADER = "Entry Summary Number,Entry Summary Line Number,HTS Number - Full,Line Tariff Duty Amount\n"
FEES = HEADER.strip() + ",Total Paid MPF Amount,Line HMF Amount\n"
#: The duties of the estimate of one unit.
LINES = "{0},1,9903.82.09,12.00\n{0},3,9903.88.03,$12.50\n{0},3,99030531,6.25\n"
NUMBER = "ABC-1234567-8"


def run(
    workflow: WorkflowHarness,
    text: str,
    columns: dict[str, str] | None = None,
    *,
    test_only: bool = False,
    account: str = factories.ACCOUNT,
    dry_run: bool = False,
) -> FiledEntriesReport:
    given: dict[str, Any] = {"text": text, "columns": columns or {}, "dryRun": dry_run}
    request = FiledEntriesRequest.model_validate(given)
    return import_filed_entries(workflow.runtime, account, request, "key_person", test_only=test_only)


def file_entry(workflow: WorkflowHarness) -> str:
    export_id = execute_export(workflow, factories.plan())
    answer(workflow, export_id, "a-1", "filed", entryNumber=NUMBER)
    return export_id


def test_each_entry_is_compared_once_and_by_itself(workflow: WorkflowHarness, database_url: str) -> None:
    export_id = execute_export(workflow, factories.plan(units=2))
    first, second = packages(workflow, export_id)
    answer(workflow, export_id, "a-1", "summary_paid", first, entryNumber=NUMBER)
    answer(workflow, export_id, "a-2", "filed", second, entryNumber="ABC12345686")
    text = f'\ufeff"My\nreport"\n\n{HEADER}' + LINES.format(NUMBER)
    text += 'ABC12345686,1,9903.88.03,"1,012.50"\nXYZ-7654321-0,1,9903.88.03,1.00\n'
    tried = run(workflow, text, dry_run=True)
    assert [(each.result, each.differs) for each in tried.entries] == [("new", False), ("new", True), ("unknown", None)]
    assert len(read(workflow, export_id).broker_submissions[0].acknowledgements) == 2
    report = run(workflow, text)
    assert [(each.entry_number, each.source, each.result, each.differs) for each in report.entries] == [
        ("ABC12345678", "entry summary CSV, lines 5-7", "recorded", False),
        ("ABC12345686", "entry summary CSV, line 8", "recorded", True),
        ("XYZ76543210", "entry summary CSV, line 9", "unknown", None),
    ]
    assert "duty 9903.88.03: assessed 1012.50 - estimated 12.50 = 1000.00" in str(report.entries[1].differences)
    assert (report.columns_status, report.bad_rows, len(report.not_read)) == ("check", [], 2)
    (submission,) = read(workflow, export_id).broker_submissions
    assert [each.summary for each in submission.entries] == ["summary_paid", None]
    assert find_assessment(workflow, export_id, 1).source == "entry summary CSV, line 8"
    assert len(list_items(workflow)) == 1
    # The same amounts on other lines, and with the copies of the answers, are the same.
    assert [each.result for each in run(workflow, "title\n" + text).entries] == ["repeated", "repeated", "unknown"]
    assert [each.result for each in run(workflow, text, dry_run=True).entries] == ["repeated", "repeated", "unknown"]
    assert len(read(workflow, export_id).broker_submissions[0].acknowledgements) == 4
    assert {each.result for each in run(workflow, text, test_only=True).entries} == {"unknown"}
    assert {each.result for each in run(workflow, text, account="acc_other").entries} == {"unknown"}
    assert_rows_follow_from_log(workflow, export_id)


@pytest.mark.parametrize(
    ("header", "ends", "fees", "unread"),
    [
        (FEES, ("34.58,", "34.58,2.00", "34.58,2.00"), {"499": "0.00", "501": "2.00"}, 0),
        (FEES, (",", "$30.00,", ","), {"499": "-4.58"}, 0),
        (HEADER, (), {}, 2),
        (FEES.replace("Entry Summary Line Number", "No"), ("34.58,2", "34.58,2", "34.58,2"), {"499": "0.00"}, 1),
    ],
)
def test_fees_are_compared_as_far_as_the_file_says_them(
    workflow: WorkflowHarness, header: str, ends: tuple[str, ...], fees: dict[str, str], unread: int
) -> None:
    export_id = file_entry(workflow)
    rows = LINES.format(NUMBER).splitlines()
    text = header + "\n".join(f"{row},{end}" for row, end in zip(rows, ends or ("",) * 3, strict=True))
    report = run(workflow, text)
    lines = {each.code: each for each in find_assessment(workflow, export_id).lines if each.kind == "fee"}
    found = {code: str(each.difference_usd) for code, each in lines.items() if each.difference_usd is not None}
    assert (found, len(report.not_read)) == (fees, unread)
    assert report.entries[0].differs is any(value != "0.00" for value in fees.values())
    silent = [each for each in report.entries[0].not_compared if each.endswith("the source does not say it")]
    assert [each[:7] for each in silent] == [*(["fee 499"] if "499" not in fees else []), "fee 056"]


def test_newer_amounts_count_and_a_repeat_says_so(workflow: WorkflowHarness) -> None:
    export_id = file_entry(workflow)
    text = HEADER + LINES.format(NUMBER)
    assert run(workflow, text).entries[0].result == "recorded"
    assert run(workflow, text.replace("6.25", "60.25")).entries[0].differs is True
    repeated = run(workflow, text).entries[0]
    assert (repeated.result, repeated.differs) == ("repeated", True)
    assert "are newer and count" in str(repeated.text)
    other = execute_export(workflow, factories.plan(batch="batch_other"))
    answer(workflow, other, "a-1", "filed", entryNumber=NUMBER)
    refused = run(workflow, text).entries[0]
    assert (refused.result, "batch_other have this entry number" in str(refused.text)) == ("refused", True)
    assert find_assessment(workflow, export_id).differs


def test_bad_rows_are_named_and_stop_only_their_entry(workflow: WorkflowHarness) -> None:
    file_entry(workflow)
    rows = "".join(f"{line},34.58,\n" for line in LINES.format(NUMBER).splitlines())
    for row, problem in (
        ("ABC-1234567-8,1,9903.88.03,-1,,", "'-1' is not an amount in USD"),
        ("ABC-1234567-8,1,9903.88.03,,,", "'' is not an amount in USD"),
        ("ABC-1234567-8,1,9903.88.03,1e9,,", "is not an amount in USD"),
        ("ABC-1234567-8,1,=cmd(),1,,", "is not a tariff number"),
        ("ABC-1234567-8,3,99030531,6.25,34.58,", "it repeats line 4"),
        ("ABC-1234567-8,1", "is not a tariff number"),
        ("ABC-1234567-8,1,9903.88.03,1,35,", "different merchandise processing fees"),
        ("ABC-1234567-8,,9903.88.03,1,,2", "no number of its line"),
        ("ABC-1234567-8,1,9903.88.03,1,,2\nABC-1234567-8,1,9903.88.03,1,,3", "different harbor maintenance fees"),
    ):
        report = run(workflow, FEES + rows + row + "\n")
        assert [each.result for each in report.entries] == ["refused"]
        bad = report.bad_rows[0]
        assert (bad.line, bad.entry_number, problem in bad.text) == (5 + row.count("\n"), "ABC12345678", True), bad
    report = run(workflow, HEADER + LINES.format(NUMBER) + "Total,,,1\n" * 300)
    assert ([each.result for each in report.entries], report.bad_row_count, len(report.bad_rows)) == (
        ["recorded"],
        300,
        200,
    )


@pytest.mark.parametrize(
    ("text", "columns", "field"),
    [
        ("a,b\n1,2\n", {}, "/columns"),
        ("\n" * 30 + HEADER, {}, "/columns"),
        (HEADER, {"entry": "Entry No"}, "/columns"),
        (HEADER, {"harborFee": "HMF"}, "/columns"),
        (HEADER + '"open', {}, "/text"),
        (HEADER + "ABC-1234567-8,1,9903.88.03,1\n" * 20_001, {}, "/text"),
        (HEADER + "".join(f"ABC-{each:07}-8,1,9903.88.03,1\n" for each in range(501)), {}, "/text"),
    ],
)
def test_wrong_file_is_refused(workflow: WorkflowHarness, text: str, columns: dict[str, str], field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        run(workflow, text, columns)
    assert refused.value.field == field
