"""The first events of an export's log: what acceptance records, so that a rebuild can restore the tables."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.accounts.print_settings import PrintSettings
from pipeline.core.clock import format_utc
from pipeline.core.findings import count_by_rule
from pipeline.core.trace_context import TraceContext
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.hash_chain import digest_rows
from pipeline.exports.models import Export, ExportUnit
from pipeline.orders.batches import PlannedFacts
from pipeline.workflow.preflight import Findings


def describe_acceptance(
    export: Export, units: Sequence[ExportUnit], found: Findings, printing: PrintSettings, trace: TraceContext | None
) -> NewEvent:
    """Return the first event of an export."""
    fact = {
        "batchId": export.batch_id,
        "planHash": export.plan_hash,
        "test": export.test,
        "units": len(units),
        "customsPackages": [_package_identity(unit) for unit in units],
        "findingsDigest": digest_rows(export.findings),
        "rulesHash": export.rules_hash,
        **({} if export.upstream_id is None else {"upstream": export.upstream_id}),
        **printing.fact,
        **_trace_fact(trace),
        **_recorded_findings(found),
    }
    return NewEvent(EventType.EXPORT_ACCEPTED, fact)


def describe_planning(planned: PlannedFacts) -> list[NewEvent]:
    """Return the events that say when this service created the batch and planned it from orders."""
    created, at = format_utc(planned.created_at), format_utc(planned.planned_at)
    return [
        NewEvent(EventType.EXPORT_BATCH_CREATED, {"batchId": planned.batch_id, "createdAt": created}),
        NewEvent(EventType.EXPORT_PLANNED, {"planHash": planned.plan_hash, "orders": planned.orders, "plannedAt": at}),
    ]


def _trace_fact(trace: TraceContext | None) -> dict[str, str]:
    if trace is None:
        return {}
    return {"traceParent": trace.parent} | ({} if trace.state is None else {"traceState": trace.state})


def _package_identity(unit: ExportUnit) -> dict[str, Any]:
    # The facts of a unit that the plan does not hold.
    kept: dict[str, Any] = {} if unit.package_number is None else {"packageNumber": unit.package_number}
    tariff = {} if unit.tariff is None else {"tariff": json.loads(unit.tariff)}
    same = {} if unit.same_since is None else {"sameSince": unit.same_since}
    return {"id": unit.customs_package_id} | kept | same | tariff


def _recorded_findings(found: Findings) -> dict[str, Any]:
    # The findings and waivers at acceptance. Waivers expire and long lists are cut, but the log stays.
    if not found.all:
        return {}
    rules = [each.model_dump(mode="json") for each in count_by_rule(found.all)]
    waived = [
        {"id": waiver.id, "rule": waiver.rule, "reason": waiver.reason, "waivedBy": waiver.waived_by}
        for waiver in found.waivers
    ]
    return {"findings": rules, **({"waivers": waived} if waived else {})}
