"""Findings: what a check has to say of a plan, and how many are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Severity = Literal["block", "warn", "note"]

#: More findings than this are counted, not listed: nobody reads a thousand, and an answer has bounds. What blocks must
#: all be mended, and is listed where a plan of ten thousand lines has one for each of them.
MAX_LISTED: Final = 1_000
MAX_BLOCKING_LISTED: Final = 10_000

_SEVERITY_ORDER: Final = {"block": 0, "warn": 1, "note": 2}


class Finding(BaseModel):
    """One thing about a plan that a person should know; `block` refuses execution."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")

    rule: str = Field(description="Stable rule id, such as V03 or P02")
    severity: Severity
    pointer: str = Field(description="RFC 6901 JSON Pointer into the plan")
    message: str = Field(description="One sentence that a merchant understands")
    remedy: str = Field(description="What to do about it")
    source: str | None = Field(default=None, description="Where the rule comes from")
    waived_by: str | None = Field(
        default=None, description="The waiver that takes it upon the account", exclude_if=lambda value: value is None
    )


class RuleCount(BaseModel):
    """How many findings of one rule and severity there are, and how many of them the account waives."""

    model_config = ConfigDict(frozen=True)

    rule: str
    severity: Severity
    findings: int
    waived: int


def count_by_rule(findings: Sequence[Finding]) -> list[RuleCount]:
    """Return the findings counted by rule and severity, what blocks first."""
    numbers = Counter((finding.severity, finding.rule) for finding in findings)
    waived = Counter((finding.severity, finding.rule) for finding in findings if finding.waived_by is not None)
    return [
        RuleCount(rule=rule, severity=severity, findings=number, waived=waived[severity, rule])
        for (severity, rule), number in sorted(
            numbers.items(), key=lambda item: (_SEVERITY_ORDER[item[0][0]], item[0][1])
        )
    ]


def top_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that are listed: all, or the loudest where there are more than an answer takes."""
    blocking = sum(1 for finding in findings if finding.severity == "block")
    most = max(MAX_LISTED, min(blocking, MAX_BLOCKING_LISTED))
    if len(findings) <= most:
        return list(findings)
    return sorted(findings, key=lambda finding: (finding.waived_by is not None, _SEVERITY_ORDER[finding.severity]))[
        :most
    ]
