"""The test clock of an account, which only test mode moves."""

from typing import Annotated

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from pipeline.core.json_input import Parsed
from pipeline.deliveries import account_clock
from pipeline.exports.schemas.account_clock import ClockMove, ClockView
from pipeline.interfaces.api.dependencies import Operator, PublisherDep, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow import clock_moves

router = APIRouter(prefix="/api/test-clock", tags=["sandbox"])


@router.get("", responses=LIST_REFUSALS)
def read_clock(runtime: RuntimeDep, caller: Reader) -> ClockView:
    """Return what the account's test clock shows, and what happens next to its open test exports."""
    return account_clock.show_clock(runtime, caller.account_id)


@router.post("", responses=refusal_responses(400, 413), openapi_extra=describe_body(ClockMove))
async def move_clock(
    runtime: RuntimeDep,
    publisher: PublisherDep,
    caller: Operator,
    body: Annotated[Parsed[ClockMove], json_body(ClockMove)],
) -> ClockView:
    """Move the test clock ahead to `at`; alarms that are late by it follow at once. A repeat changes nothing.

    Deadlines, arrivals, approvals and checks of test exports follow the clock, live exports never. Live keys are refused.
    """

    def move() -> ClockView:
        moved, tasks = clock_moves.move_clock(runtime, caller, body.model.at)
        publisher.publish(tasks)
        return moved

    return await run_in_threadpool(move)


@router.delete("", responses=refusal_responses(409))
def reset_clock(runtime: RuntimeDep, caller: Operator) -> ClockView:
    """Set the test clock back to the real time; refused while a test handoff has a deadline that is not overdue."""
    return account_clock.reset_clock(runtime, caller)
