"""The console's page that imports a report of filed entries, and shows what became of each entry."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.responses import Response

from config import ace_report
from pipeline.accounts.api_keys import OPERATE, READ
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.deliveries.submissions import filed_entries
from pipeline.exports.schemas.filed_entries import FiledColumns, FiledEntriesReport, FiledEntriesRequest
from pipeline.interfaces.pages.input import read_errors
from pipeline.interfaces.pages.pages import ConsoleRoute, Form, Visit, Visitor
from pipeline.interfaces.pages.upload import Upload, limit_upload

router = APIRouter(prefix="/console/filed-entries", include_in_schema=False, route_class=ConsoleRoute)

_MAX_BYTES: Final = 4_000_000
_MOST_PARTS: Final = 16
#: The inputs of the columns, with their names for people and the names that the report usually has.
_COLUMNS: Final = {
    "entry": ("Entry number", ace_report.ENTRY),
    "heading": ("Tariff number", ace_report.HEADING),
    "duty": ("Duty", ace_report.DUTY),
    "line": ("Number of the line", ace_report.LINE),
    "processing_fee": ("Merchandise processing fee of the entry", ace_report.PROCESSING_FEE),
    "harbor_fee": ("Harbor maintenance fee of the line", ace_report.HARBOR_FEE),
}
_Report = Annotated[Upload, Depends(limit_upload(_MAX_BYTES, OPERATE, _MOST_PARTS))]


@router.get("")
def show_import(visit: Visitor) -> Response:
    """Show the form for a report of filed entries."""
    return _page(visit, Form({}))


@router.post("")
def import_report(visit: Visitor, upload: _Report) -> Response:
    """Compare the entries of the form's file, and record them unless the form asks for a check; then show the result."""
    try:
        request = _read_request(upload)
        report = filed_entries.import_filed_entries(
            visit.runtime, visit.account_id, request, visit.caller.actor, test_only=visit.caller.test
        )
    except Refused as refused:
        return _page(visit, upload.form, refused=refused)
    return _page(visit, upload.form, report=report)


def _read_request(upload: Upload) -> FiledEntriesRequest:
    content = upload.files.get("report")
    if content is None:
        raise ValidationFailed("the form has no file; choose the report as CSV", field="/report")
    try:
        given = {name: upload.form.get(name) or None for name in _COLUMNS}
        return FiledEntriesRequest(
            text=content.decode("utf-8-sig"), columns=FiledColumns(**given), dry_run=upload.form.get("mode") != "record"
        )
    except UnicodeDecodeError as error:
        raise ValidationFailed(
            "the file is not UTF-8 text; export the report as CSV in UTF-8", field="/report"
        ) from error
    except ValidationError as error:
        raise ValidationFailed(f"a column or the file: {error.errors()[0]['msg']}", field="/columns") from error


def _page(
    visit: Visit, form: Form, *, refused: Refused | None = None, report: FiledEntriesReport | None = None
) -> Response:
    visit.caller.require(READ)
    return visit.page(
        "console/work/filed_entries.html",
        refused=refused,
        error=" ".join(read_errors(refused).values()),
        report=report,
        columns=_COLUMNS,
        typed={name: form.get(name) for name in _COLUMNS},
        names_given=any(form.get(name) for name in _COLUMNS),
        columns_status=ace_report.STATUS,
        source=f"{ace_report.SOURCE} (as of {ace_report.AS_OF})",
        may_import=visit.caller.has_role(OPERATE),
    )
