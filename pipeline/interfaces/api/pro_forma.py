"""The pro forma invoice of a plan before its execution; nothing is stored or sent."""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.core.json_input import Parsed
from pipeline.documents.registry import Document
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.interfaces.api.dependencies import Reader, RuntimeDep
from pipeline.interfaces.api.exports import point_into_plan
from pipeline.interfaces.api.headers import download_headers
from pipeline.interfaces.api.openapi import ANY_FILE, EXECUTE_REFUSALS, Responses, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow import pro_forma
from pipeline.workflow.pro_forma import ProformaFormat

router = APIRouter(prefix="/api/exports", tags=["exports"])

_PAGE: Final[Responses] = {200: {"content": ANY_FILE, "description": "The page, as PDF or HTML"}}

UnitRef = Annotated[
    str | None, Query(max_length=64, description="`unitRef` of the unit; a plan of one unit needs none")
]
FileFormat = Annotated[ProformaFormat, Query(alias="format", description="The kind of file")]


@router.post(
    "/proforma", response_class=Response, responses={**_PAGE, **EXECUTE_REFUSALS}, openapi_extra=describe_body(Plan)
)
async def render_proforma(
    runtime: RuntimeDep,
    caller: Reader,
    body: Annotated[Parsed[Plan], json_body(Plan)],
    unit: UnitRef = None,
    file_format: FileFormat = "pdf",
) -> Response:
    """Return a pro forma invoice of a plan, approved or not: the commercial invoice's page, marked, with all findings.

    It is not a commercial invoice, and not for customs entry. Its title, a notice and each page say so.
    """

    def render() -> Document:
        with point_into_plan():
            hashed = hash_plan(body.model, body.raw)
            return pro_forma.render_proforma(runtime, caller, hashed, unit_ref=unit, file_format=file_format)

    return _answer(await run_in_threadpool(render))


@router.get("/plans/{id}/proforma", response_class=Response, responses={**_PAGE, **refusal_responses(404, 409)})
def render_registered_proforma(
    id: str, runtime: RuntimeDep, caller: Reader, unit: UnitRef = None, file_format: FileFormat = "pdf"
) -> Response:
    """Return the pro forma invoice of a registered plan, by the `planId` of its receipt."""
    hashed = pro_forma.load_registered_plan(runtime, caller, id)
    return _answer(pro_forma.render_proforma(runtime, caller, hashed, unit_ref=unit, file_format=file_format))


def _answer(document: Document) -> Response:
    headers = {"Cache-Control": "no-store", **download_headers(document.filename)}
    return Response(document.body, headers=headers, media_type=document.media_type)
