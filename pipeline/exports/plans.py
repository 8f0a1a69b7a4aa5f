"""A plan as it is read: its canonical form and its hash."""

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

#: What the plan hash leaves out: the approval is given to a hash, and the hash cannot contain itself.
UNHASHED: Final = ("approval", "planHash")

_BEYOND_THE_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class HashedPlan:
    """A plan that fits the schema, with its hash, and as it was sent."""

    plan: Plan
    plan_hash: str
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class RegisteredPlan:
    """A plan that is kept for a later execution."""

    plan_id: str
    batch_id: str
    plan_hash: str
    created: bool


def hash_plan(plan: Plan, raw: Mapping[str, Any]) -> HashedPlan:
    """Return `plan` with its hash, which is taken over the JSON as it was sent: `raw` is what `plan` was read from.

    Raises PlanHashMismatch where its `planHash` is another's.
    """
    plan_hash = hash_json({key: value for key, value in raw.items() if key not in UNHASHED})
    if plan.plan_hash is not None and plan.plan_hash != plan_hash:
        raise plan_hash_mismatch("/plan/planHash", plan.plan_hash, plan_hash)
    return HashedPlan(plan, plan_hash, raw)


def hash_json(value: Mapping[str, Any]) -> str:
    """Return `sha256:` and the hash of the value's RFC 8785 canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return the RFC 8785 form of JSON that holds no numbers, as no plan does."""
    # What RFC 8785 asks for beyond sorted keys concerns numbers, and keys that UTF-16 sorts otherwise. Without either
    # the encoder in C writes the same text in a twentieth of the time.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return rfc8785.dumps(dict(value)).decode() if _BEYOND_THE_BASIC_PLANE.search(text) else text


def plan_hash_mismatch(field: str, given: str, actual: str) -> PlanHashMismatch:
    """Return the refusal of a plan whose hash is not the one that was said."""
    return PlanHashMismatch(
        f"planHash says {given}, the plan's own is {actual}; send the plan that was approved, unchanged",
        field=field,
        details={"given": given, "actual": actual},
    )
