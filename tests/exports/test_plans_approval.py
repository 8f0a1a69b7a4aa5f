"""Only a plan whose approval is given, is not in the future, and has not expired, is executed."""

from datetime import timedelta

import pytest

from pipeline.core.errors import PlanExpired, PlanNotApproved, Refused
from pipeline.exports.plans import check_approval
from pipeline.exports.schemas.plan import Plan
from tests.support import factories


@pytest.mark.parametrize(
    ("approved", "expires", "refusal", "field"),
    [
        (timedelta(), None, None, None),
        (timedelta(minutes=5), timedelta(minutes=6), None, None),
        (timedelta(minutes=5, seconds=1), None, PlanNotApproved, "/plan/approval/approvedAt"),
        (timedelta(days=-1), timedelta(), PlanExpired, "/plan/approval/expiresAt"),
    ],
)
def test_approval_counts_up_to_its_limits(
    approved: timedelta, expires: timedelta | None, refusal: type[Refused] | None, field: str | None
) -> None:
    def write(offset: timedelta) -> str:
        return (factories.NOW + offset).isoformat()

    ends = None if expires is None else write(expires)
    approval = {"approvedBy": "ops@maple.example", "approvedAt": write(approved), "expiresAt": ends}
    plan = Plan.model_validate(factories.plan(approval=approval))
    if refusal is None:
        check_approval(plan, factories.NOW)
        return
    with pytest.raises(refusal) as refused:
        check_approval(plan, factories.NOW)
    assert refused.value.field == field
