"""The canonical form and the hash of a plan."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

from pipeline.core.errors import PlanHashMismatch
from pipeline.exports.schemas.plan import Plan

#: The members that the plan hash leaves out: the approval is for a hash, and the hash cannot contain itself.
UNHASHED: Final = ("approval", "planHash")

_BEYOND_THE_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class HashedPlan:
    """A valid plan with its hash, and its JSON as it was sent."""

    plan: Plan
    plan_hash: str
    raw: Mapping[str, Any]


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
    plan_hash = hash_json({key: value for key, value in raw.items() if key not in UNHASHED})
    if plan.plan_hash is not None and plan.plan_hash != plan_hash:
        raise plan_hash_mismatch("/plan/planHash", plan.plan_hash, plan_hash)
    return HashedPlan(plan, plan_hash, raw)


def hash_json(value: Mapping[str, Any]) -> str:
    """Return `sha256:` and the hash of the value's RFC 8785 canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return the RFC 8785 form of JSON without numbers; plans hold none."""
    # RFC 8785 differs from sorted keys only for numbers, and for keys that UTF-16 sorts differently. Without these the
    # encoder in C writes the same text in a twentieth of the time.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return rfc8785.dumps(dict(value)).decode() if _BEYOND_THE_BASIC_PLANE.search(text) else text


def plan_hash_mismatch(field: str, given: str, actual: str) -> PlanHashMismatch:
    """Return the error for a plan whose hash differs from the given one."""
    return PlanHashMismatch(
        f"planHash is {given}, but the plan's hash is {actual}; send the approved plan without changes",
        field=field,
        details={"given": given, "actual": actual},
    )
