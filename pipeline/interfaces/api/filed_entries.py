"""The import of a report of filed entries."""

from typing import Annotated

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from pipeline.core.json_input import Parsed
from pipeline.deliveries.submissions import filed_entries
from pipeline.exports.schemas.filed_entries import FiledEntriesReport, FiledEntriesRequest
from pipeline.interfaces.api.dependencies import Operator, RuntimeDep
from pipeline.interfaces.api.openapi import refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body

router = APIRouter(prefix="/api/filed-entries", tags=["broker submissions"])


@router.post("", responses=refusal_responses(400, 413, 422), openapi_extra=describe_body(FiledEntriesRequest))
async def import_filed_entries(
    runtime: RuntimeDep, caller: Operator, body: Annotated[Parsed[FiledEntriesRequest], json_body(FiledEntriesRequest)]
) -> FiledEntriesReport:
    """Compare the amounts of filed entries with their estimates, from CBP's report of entry summary lines as CSV.

    Each entry counts once by its content, and is recorded by itself. The names of the columns have the status `check`.
    """

    def record() -> FiledEntriesReport:
        return filed_entries.import_filed_entries(
            runtime, caller.account_id, body.model, caller.actor, test_only=caller.test
        )

    return await run_in_threadpool(record)
