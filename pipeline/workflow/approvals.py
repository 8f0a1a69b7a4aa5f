"""The approval that makes a plan executable."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from pipeline.core.errors import PlanExpired, PlanNotApproved
from pipeline.exports.schemas.plan import Plan

#: The clock of the approver may be ahead of ours by so much.
_CLOCKS_DIFFER: Final = timedelta(minutes=5)


def check_approval(plan: Plan, now: datetime) -> None:
    """Raise PlanNotApproved or PlanExpired if the plan may not be executed at `now`."""
    if plan.approval is None:
        raise PlanNotApproved("the plan has no approval; have it approved, then send it", field="/plan/approval")
    approved_at, expires_at = plan.approval.approved_at, plan.approval.expires_at
    if approved_at > now + _CLOCKS_DIFFER:
        raise PlanNotApproved(
            f"the approval is of {approved_at.isoformat()}, which is in the future; state when the plan was approved",
            field="/plan/approval/approvedAt",
        )
    if expires_at is not None and expires_at <= now:
        raise PlanExpired(
            f"the approval expired at {expires_at.isoformat()}; have the plan approved again",
            field="/plan/approval/expiresAt",
        )
