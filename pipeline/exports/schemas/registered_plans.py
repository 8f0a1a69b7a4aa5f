"""What the API answers about registered plans."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pipeline.exports.schemas.view import View

PlanState = Literal["planned", "executed", "purged"]


class RegisteredPlanSummary(View):
    """A registered plan in a list."""

    plan_id: str = Field(alias="planId")
    batch_id: str = Field(alias="batchId")
    plan_hash: str = Field(alias="planHash")
    test: bool = Field(description="Whether a test key registered it")
    state: PlanState = Field(description="`planned` until an export executes it")
    export_id: str | None = Field(alias="exportId", description="The export that executes it; null if there is none")
    registered_at: datetime = Field(alias="registeredAt")


class RegisteredPlanView(RegisteredPlanSummary):
    """A registered plan."""

    plan: dict[str, Any] | None = Field(description="The plan as it was registered; null after the purge")


class RegisteredPlanPage(View):
    """One page of the account's plans, the newest first; `nextCursor` is null on the last."""

    items: list[RegisteredPlanSummary]
    next_cursor: str | None = Field(alias="nextCursor")
