"""The canonical form, the hash and the approval of a plan."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import rfc8785

from pipeline.core.clock import CLOCKS_DIFFER
from pipeline.core.errors import PlanExpired, PlanHashMismatch, PlanNotApproved
from pipeline.exports.schemas.plan import Plan

#: The members that the plan hash leaves out: the approval is for a hash, and the hash cannot contain itself.
UNHASHED: Final = ("approval", "planHash")

_BEYOND_THE_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class HashedPlan:
    """A valid plan with its hash, its JSON as it was sent, and the canonical JSON of its members and units."""

    plan: Plan
    plan_hash: str
    raw: Mapping[str, Any]
    members: Mapping[str, str]
    units: Sequence[str]

    @property
    def document(self) -> str:
        """The canonical JSON of the plan."""
        return _join_members(self.members)


@dataclass(frozen=True)
class RegisteredPlan:
    """A plan that is registered for a later execution."""

    plan_id: str
    batch_id: str
    plan_hash: str
    created: bool


def hash_plan(plan: Plan, raw: Mapping[str, Any]) -> HashedPlan:
    """Return `plan` with its hash, computed over `raw`, the JSON that `plan` was read from.

    Raises PlanHashMismatch if the plan's `planHash` differs.
    """
    # The text of a unit is a part of the plan's text, which is a part of what is hashed: each is written once.
    units = [canonical_json(unit) for unit in raw["units"]]
    members = {name: canonical_json(value) for name, value in raw.items() if name != "units"}
    members["units"] = f"[{','.join(units)}]"
    plan_hash = _hash_text(_join_members({name: text for name, text in members.items() if name not in UNHASHED}))
    if plan.plan_hash is not None and plan.plan_hash != plan_hash:
        raise plan_hash_mismatch("/plan/planHash", plan.plan_hash, plan_hash)
    return HashedPlan(plan, plan_hash, raw, members, units)


def _join_members(members: Mapping[str, str]) -> str:
    # The schema's names are ASCII, which every order sorts alike.
    return "{" + ",".join(f'"{name}":{members[name]}' for name in sorted(members)) + "}"


def hash_json(value: Mapping[str, Any]) -> str:
    """Return `sha256:` and the hash of the value's RFC 8785 canonical JSON."""
    return _hash_text(canonical_json(value))


def _hash_text(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """Return the RFC 8785 form of a JSON value without numbers; plans hold none."""
    # RFC 8785 differs from sorted keys only for numbers, and for keys that UTF-16 sorts differently. Without these the
    # encoder in C writes the same text in a twentieth of the time.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return rfc8785.dumps(value).decode() if _BEYOND_THE_BASIC_PLANE.search(text) else text


def plan_hash_mismatch(field: str, given: str, actual: str) -> PlanHashMismatch:
    """Return the error for a plan whose hash differs from the given one."""
    return PlanHashMismatch(
        f"planHash is {given}, but the plan's hash is {actual}; send the approved plan without changes",
        field=field,
        details={"given": given, "actual": actual},
    )


def check_approval(plan: Plan, now: datetime) -> None:
    """Raise PlanNotApproved or PlanExpired if the plan may not be executed at `now`."""
    if plan.approval is None:
        raise PlanNotApproved("the plan has no approval; have it approved, then send it", field="/plan/approval")
    approved_at, expires_at = plan.approval.approved_at, plan.approval.expires_at
    if approved_at - now > CLOCKS_DIFFER:
        raise PlanNotApproved(
            f"approvedAt is {approved_at.isoformat()}, but now is {now.isoformat(timespec='seconds')}; send the time of the approval, with its time zone",
            field="/plan/approval/approvedAt",
        )
    if expires_at is not None and expires_at <= now:
        raise PlanExpired(
            f"the approval expired at {expires_at.isoformat()}; have the plan approved again",
            field="/plan/approval/expiresAt",
        )
