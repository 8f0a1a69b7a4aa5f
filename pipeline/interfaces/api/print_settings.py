"""The account's settings for printed documents: languages and logo."""

from typing import Annotated

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from pipeline.accounts import print_settings
from pipeline.accounts.schemas import PrintSettingsChanges, PrintSettingsView
from pipeline.core.json_input import Parsed
from pipeline.interfaces.api.dependencies import Admin, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body

router = APIRouter(prefix="/api/print-settings", tags=["packages"])


@router.get("", responses=LIST_REFUSALS)
def read_print_settings(runtime: RuntimeDep, caller: Reader) -> PrintSettingsView:
    """Return the languages and the logo that new exports print."""
    return print_settings.show_print_settings(runtime, caller.account_id)


@router.patch("", responses=refusal_responses(400, 413), openapi_extra=describe_body(PrintSettingsChanges))
async def change_print_settings(
    runtime: RuntimeDep, caller: Admin, body: Annotated[Parsed[PrintSettingsChanges], json_body(PrintSettingsChanges)]
) -> PrintSettingsView:
    """Change the languages or the logo that new exports print; what the request leaves out stays. Test keys are refused."""

    def change() -> PrintSettingsView:
        return print_settings.change_print_settings(
            runtime, caller.account_id, body.model, changed_by=caller.actor, test_only=caller.test
        )

    return await run_in_threadpool(change)
