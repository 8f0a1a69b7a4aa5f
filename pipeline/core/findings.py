"""Findings: the problems of a plan that the checks report, and how many of them are listed."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Severity = Literal["block", "warn", "note"]

#: The most findings that are listed; the rest is only counted, which bounds the response. Blocking findings must all be
#: fixed, so more of them are listed: one for each line of a plan of 10,000 lines.
MAX_LISTED: Final = 1_000
MAX_BLOCKING_LISTED: Final = 10_000

#: The order of severities, the worst first.
SEVERITY_ORDER: Final = {"block": 0, "warn": 1, "note": 2}


class ExpectedValue(BaseModel):
    """A value that the rules expect at a place. At most one value of a group applies."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")

    value: str = Field(description="Such as the heading 9903.82.09")
    group: str = Field(description="Such as the program S232_METALS")
    applies_if: str | None = Field(
        default=None,
        description="The missing fact on which it depends; without it the value applies",
        exclude_if=lambda value: value is None,
    )


class Finding(BaseModel):
    """One problem of a plan; a finding of severity `block` prevents its execution."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")

    rule: str = Field(description="Stable rule id, such as V03 or P02")
    severity: Severity
    pointer: str = Field(description="RFC 6901 JSON Pointer into the plan")
    message: str = Field(description="One sentence that a merchant understands")
    remedy: str = Field(description="What to do about it")
    source: str | None = Field(default=None, description="Where the rule comes from")
    waived_by: str | None = Field(
        default=None, description="The waiver that accepts this finding", exclude_if=lambda value: value is None
    )
    expected: tuple[ExpectedValue, ...] | None = Field(
        default=None,
        description="The whole list that the rules expect at this place, in its order, for programs",
        exclude_if=lambda value: value is None,
    )

    @classmethod
    def blocking(cls, rule: str, pointer: str, message: str, remedy: str, source: str | None = None) -> Self:
        """Return a finding that prevents the plan's execution."""
        return cls(rule=rule, severity="block", pointer=pointer, message=message, remedy=remedy, source=source)

    @classmethod
    def warning(cls, rule: str, pointer: str, message: str, remedy: str, source: str | None = None) -> Self:
        """Return a finding that warns."""
        return cls(rule=rule, severity="warn", pointer=pointer, message=message, remedy=remedy, source=source)

    @classmethod
    def note(cls, rule: str, pointer: str, message: str, remedy: str, source: str | None = None) -> Self:
        """Return a finding that only informs."""
        return cls(rule=rule, severity="note", pointer=pointer, message=message, remedy=remedy, source=source)


class RuleCount(BaseModel):
    """The number of findings of one rule and severity, and how many of them the account has waived."""

    model_config = ConfigDict(frozen=True)

    rule: str
    severity: Severity
    findings: int
    waived: int


def count_by_rule(findings: Sequence[Finding]) -> list[RuleCount]:
    """Return the number of findings by rule and severity, blocking ones first."""
    numbers = Counter((finding.severity, finding.rule) for finding in findings)
    waived = Counter((finding.severity, finding.rule) for finding in findings if finding.waived_by is not None)
    return [
        RuleCount(rule=rule, severity=severity, findings=number, waived=waived[severity, rule])
        for (severity, rule), number in sorted(
            numbers.items(), key=lambda item: (SEVERITY_ORDER[item[0][0]], item[0][1])
        )
    ]


def top_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings to list: all, or the most severe if there are more than a response lists."""
    blocking = sum(1 for finding in findings if finding.severity == "block")
    most = max(MAX_LISTED, min(blocking, MAX_BLOCKING_LISTED))
    if len(findings) <= most:
        return list(findings)
    return sorted(findings, key=lambda finding: (finding.waived_by is not None, SEVERITY_ORDER[finding.severity]))[
        :most
    ]
