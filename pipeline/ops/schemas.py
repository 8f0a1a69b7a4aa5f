"""The health of the service and the statistics of an account, as the API returns them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from pipeline.exports.schemas.view import View
from pipeline.exports.states import Outcome


class PartView(View):
    """One part of the service and its health."""

    name: str
    status: Literal["ok", "failing"]
    message: str
    runbook: str | None = Field(default=None, description="The section of the runbook, if the part fails")


class Health(View):
    """The health of the service, part by part."""

    status: Literal["ok", "degraded"]
    version: str
    parts: list[PartView]


class StatsRange(StrEnum):
    """How far back statistics reach."""

    HOURS_3 = "3h"
    HOURS_24 = "24h"
    DAYS_7 = "7d"
    DAYS_90 = "90d"


class _StatsPart(View):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Percentiles(_StatsPart):
    """How long something took, in seconds within a tenth; null if it did not happen."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


class OutcomeSeries(_StatsPart):
    """How many exports reached an outcome in each period."""

    outcome: Outcome
    counts: list[int]


class StepDurations(Percentiles):
    """How long a step took."""

    step: str


class QueueSeries(_StatsPart):
    """The most due work of a queue, and the longest delay in it, in each period; for the whole service."""

    queue: str
    depth: list[int]
    delay_seconds: list[int]


class StatusCount(_StatsPart):
    """How many handoffs reached a status, and the median time since the status before."""

    status: str
    count: int
    median_seconds: float | None


class CorrectionSeries(_StatsPart):
    """How often a customs broker corrected a field; `*` stands for an index."""

    partner_id: str
    field: str
    counts: list[int]


class BrokerFunnel(_StatsPart):
    """How far the handoffs to a customs broker came, and how quickly it reviews them."""

    partner_id: str
    review: Percentiles = Field(description="From the handoff to the first review: accepted, rejected or query")
    sent_back: int = Field(
        description="The handoffs that it rejected or asked about for the first time: those of `reached=sent_back`"
    )
    overdue: int = Field(
        description="The handoffs that missed a deadline for the first time: those of `reached=overdue`"
    )
    most_corrected: CorrectionSeries | None = Field(description="The field that it corrected most often")
    statuses: list[StatusCount]


class CurrentCounts(_StatsPart):
    """The exports that have an outcome now, the inbox, and what customs brokers accepted today."""

    outcomes: dict[Outcome, int] = Field(description="Each counted up to 1,000")
    inbox: int = Field(description="What needs a person and is not acknowledged, counted up to 1,000")
    accepted_today: int = Field(
        description="The handoffs that customs brokers accepted for the first time since 00:00 UTC: those of"
        " `reached=accepted`"
    )


class StatsView(_StatsPart):
    """The statistics of an account; each list of counts has one entry for each of `periods`."""

    periods: Sequence[datetime] = Field(description="The instants at which the periods start")
    period_seconds: int
    now: CurrentCounts
    outcomes: list[OutcomeSeries]
    handoff: Percentiles = Field(description="From the acceptance of an export to its handoff")
    handoff_series: list[Percentiles]
    steps: list[StepDurations]
    queues: list[QueueSeries]
    brokers: list[BrokerFunnel] = Field(description="The slowest first, by the median time to its first review")
    corrections: list[CorrectionSeries]
