"""How a plan becomes an export: checked whole, then written in one transaction, once for each account and batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import rfc8785
from psycopg.errors import LockNotAvailable
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from pipeline import events, inspection, packages
from pipeline.accounts import Caller
from pipeline.customs import checks, treatment
from pipeline.db import database_now, utc_now
from pipeline.errors import (
    AlreadyExecuted,
    DatabaseBusy,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidAccountScope,
    NotFound,
    PlanExpired,
    PlanHashMismatch,
    PlanNotApproved,
    PlanNotExecutable,
    UnknownPartner,
    ValidationFailed,
)
from pipeline.events import EventType, NewEvent
from pipeline.execution import first_steps
from pipeline.ids import new_id
from pipeline.models import Export, ExportUnit, IdempotencyRecord, Partner, PlanSnapshot, Step
from pipeline.runtime import Runtime
from pipeline.schemas.execution import ExecuteRequest
from pipeline.schemas.plan import Plan
from pipeline.schemas.problems import Finding
from pipeline.states import ExportState, PartnerState

#: What the plan hash leaves out: the approval is given to a hash, and the hash cannot contain itself.
UNHASHED: Final = ("approval", "planHash")

#: How often acceptance starts over when another request wrote the same key or batch first.
RACES: Final = 5


@dataclass(frozen=True)
class ReadPlan:
    """A plan that fits the schema, with its hash, and as it was sent."""

    plan: Plan
    plan_hash: str
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Acceptance:
    """The answer to a request to execute: `created` where this very request made the export."""

    export_id: str
    status: int
    body: str
    created: bool = False
    replayed: bool = False


@dataclass(frozen=True)
class RegisteredPlan:
    """A plan that is kept for a later execution."""

    plan_id: str
    batch_id: str
    plan_hash: str
    created: bool


def read_plan(plan: Plan, raw: Mapping[str, Any]) -> ReadPlan:
    """Return `plan` with its hash, which is taken over the JSON as it was sent: `raw` is what `plan` was read from.

    Raises PlanHashMismatch where its `planHash` is another's.
    """
    plan_hash = hash_of({key: value for key, value in raw.items() if key not in UNHASHED})
    if plan.plan_hash is not None and plan.plan_hash != plan_hash:
        raise _mismatch("/plan/planHash", plan.plan_hash, plan_hash)
    return ReadPlan(plan, plan_hash, raw)


def hash_of(value: Mapping[str, Any]) -> str:
    """Return `sha256:` and the hash of the value's RFC 8785 canonical JSON."""
    return "sha256:" + hashlib.sha256(rfc8785.dumps(dict(value))).hexdigest()


def findings_of(plan: Plan) -> list[Finding]:
    """Return everything that a person should know about the plan, as of its entries' dates."""
    return packages.check_plan(plan) + checks.check_plan(plan)


def preflight(runtime: Runtime, caller: Caller, read: ReadPlan) -> list[Finding]:
    """Return what execution would find, by the same checks; nothing is written.

    Raises InvalidAccountScope of a plan of another account.
    """
    _own(caller, read.plan)
    found = findings_of(read.plan)
    with runtime.db.read() as session:
        try:
            _partners(session, caller, read.plan)
        except UnknownPartner as unknown:
            found.append(
                Finding(
                    rule="P01",
                    severity="block",
                    pointer=unknown.field or "",
                    message=unknown.message,
                    remedy="Register the partner, or name another one.",
                )
            )
    return found


def register_plan(runtime: Runtime, caller: Caller, read: ReadPlan) -> RegisteredPlan:
    """Keep an approved plan for a later execution; the same plan twice is one.

    Raises PlanNotApproved and PlanExpired, and AlreadyExecuted where its batch was executed with another plan.
    """
    _own(caller, read.plan)
    _approved(read.plan, utc_now())
    with runtime.db.write() as session:
        executed = _executed(session, caller.account_id, read.plan.batch_id)
        if executed is not None and executed.plan_hash != read.plan_hash:
            raise _executed_otherwise(executed)
        plan_id, created = _keep(session, caller.account_id, read)
    return RegisteredPlan(plan_id, read.plan.batch_id, read.plan_hash, created)


def accept(
    runtime: Runtime,
    caller: Caller,
    request: ExecuteRequest,
    *,
    raw_plan: Mapping[str, Any] | None,
    idempotency_key: str | None,
    trace_parent: str | None = None,
) -> Acceptance:
    """Accept an approved plan for execution, in one transaction; when this returns the export is ours to finish.

    `raw_plan` is the JSON that `request.plan` was read from, None where the request names a registered plan.
    The same key with the same request, and the same batch with the same plan, answer with the export that is there.
    Raises the refusals of the contract; a refused request has written nothing.
    """
    if request.account_id != caller.account_id:
        raise InvalidAccountScope(f"the key does not belong to account {request.account_id}", field="/accountId")
    sent = None if request.plan is None or raw_plan is None else read_plan(request.plan, raw_plan)
    fingerprint = _fingerprint(request, sent)
    with runtime.db.read() as session:
        known = _replay(session, caller.account_id, idempotency_key, fingerprint)
    if known is not None:
        return known
    read = sent or _registered(runtime, caller, request)
    _own(caller, read.plan)
    if read.plan.batch_id != request.batch_id:
        raise ValidationFailed(
            f"the plan's batchId is {read.plan.batch_id}, the request's {request.batch_id}; send them alike",
            field="/plan/batchId",
        )
    if request.plan_hash is not None and request.plan_hash != read.plan_hash:
        raise _mismatch("/planHash", request.plan_hash, read.plan_hash)
    for _ in range(RACES):
        try:
            return _accept_once(runtime, caller, read, idempotency_key, fingerprint, trace_parent)
        except IntegrityError:
            continue  # another request wrote this key or this batch first: look again, it is there now
        except DatabaseBusy as busy:
            if idempotency_key and isinstance(getattr(busy.__cause__, "orig", None), LockNotAvailable):
                raise IdempotencyInProgress(
                    "a request with this idempotency key is being answered; repeat it in a moment",
                    field="Idempotency-Key",
                    headers={"Retry-After": "1"},
                ) from busy
            raise
    raise DatabaseBusy(f"batch {read.plan.batch_id} is being accepted by too many requests at once")


def _accept_once(
    runtime: Runtime, caller: Caller, read: ReadPlan, key: str | None, fingerprint: str, trace_parent: str | None
) -> Acceptance:
    plan = read.plan
    with runtime.db.read() as session:
        known = _replay(session, caller.account_id, key, fingerprint)
        executed = _executed(session, caller.account_id, plan.batch_id)
    if known is not None:
        return known
    if executed is not None:
        return _same_again(runtime, caller, read, executed, key, fingerprint)
    _approved(plan, utc_now())
    found = findings_of(plan)
    if any(finding.severity == "block" for finding in found):
        raise PlanNotExecutable(found)
    with runtime.db.write() as session:
        _partners(session, caller, plan)
        plan_id, _ = _keep(session, caller.account_id, read)
        rows = _rows(session, caller, read, plan_id, found, trace_parent)
        body = inspection.assemble(rows).model_dump_json(by_alias=True)
        _write(session, rows, runtime.settings.stalled_seconds)
        if key is not None:
            _remember(session, caller.account_id, key, fingerprint, rows.export.id, body)
    return Acceptance(rows.export.id, 202, body, created=True)


def _rows(
    session: Session,
    caller: Caller,
    read: ReadPlan,
    plan_id: str,
    found: Sequence[Finding],
    trace_parent: str | None,
) -> inspection.ExportRows:
    plan = read.plan
    now = session.scalar(select(database_now()))
    digests = {unit.unit_ref: treatment.unit_digest(treatment.line_digests(unit)) for unit in plan.units}
    export = Export(
        id=new_id("exp"),
        account_id=caller.account_id,
        batch_id=plan.batch_id,
        plan_id=plan_id,
        plan_hash=read.plan_hash,
        test=caller.mode == "test",
        state=ExportState.ACCEPTED.value,
        broker_id=plan.broker.id,
        warehouse_id=plan.warehouse.id,
        ruleset_id=plan.ruleset.id,
        ruleset_as_of=plan.ruleset.as_of,
        units_total=len(plan.units),
        treatment_digest=treatment.export_digest(digests),
        findings=[finding.model_dump(mode="json", by_alias=True) for finding in found],
        trace_parent=trace_parent,
        accepted_at=now,
        updated_at=now,
    )
    units = [
        ExportUnit(
            export_id=export.id,
            unit_no=no,
            account_id=caller.account_id,
            unit_ref=unit.unit_ref,
            customs_package_id=new_id("cpk"),
            treatment_digest=digests[unit.unit_ref],
            document=rfc8785.dumps(read.raw["units"][no - 1]).decode(),
            created_at=now,
        )
        for no, unit in enumerate(plan.units, 1)
    ]
    accepted = events.Event(
        export_id=export.id,
        seq=1,
        type=EventType.EXPORT_ACCEPTED.value,
        at=now,
        actor=caller.key_id,
        data={"batchId": plan.batch_id, "planHash": read.plan_hash, "units": len(units)},
    )
    steps = [Step(**{**row, "due_at": None}) for row in first_steps(export.id, [unit.unit_no for unit in units], 0)]
    return inspection.ExportRows(export=export, units=units, steps=steps, events=[accepted])


def _write(session: Session, rows: inspection.ExportRows, stalled_seconds: float) -> None:
    export = rows.export
    session.execute(insert(Export), [export.model_dump(exclude={"next_seq"}) | {"next_seq": 1}])
    session.execute(insert(ExportUnit), [unit.model_dump() for unit in rows.units])
    session.execute(insert(Step), first_steps(export.id, [unit.unit_no for unit in rows.units], stalled_seconds))
    (accepted,) = rows.events
    events.append(session, export.id, accepted.actor, [NewEvent(EventType.EXPORT_ACCEPTED, accepted.data)])


def _same_again(
    runtime: Runtime, caller: Caller, read: ReadPlan, executed: Export, key: str | None, fingerprint: str
) -> Acceptance:
    if executed.plan_hash != read.plan_hash:
        raise _executed_otherwise(executed)
    with runtime.db.read() as session:
        body = inspection.read(session, caller.account_id, executed.id).model_dump_json(by_alias=True)
    if key is not None:
        with runtime.db.write() as session:
            _remember(session, caller.account_id, key, fingerprint, executed.id, body)
    return Acceptance(executed.id, 202, body)


def _fingerprint(request: ExecuteRequest, sent: ReadPlan | None) -> str:
    # Two bodies are the same request when this is: a plan is told by its hash and by what the hash leaves out.
    return hash_of(
        {
            "accountId": request.account_id,
            "batchId": request.batch_id,
            "planHash": request.plan_hash,
            "plan": sent and {"hash": sent.plan_hash, **{name: sent.raw.get(name) for name in UNHASHED}},
        }
    )


def _replay(session: Session, account_id: str, key: str | None, fingerprint: str) -> Acceptance | None:
    if key is None:
        return None
    record = session.get(IdempotencyRecord, (account_id, key))
    if record is None:
        return None
    if record.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            "this idempotency key was used with another body; take a new key for a new request",
            field="Idempotency-Key",
        )
    return Acceptance(record.export_id, record.status, record.body, replayed=True)


def _remember(session: Session, account_id: str, key: str, fingerprint: str, export_id: str, body: str) -> None:
    session.execute(
        insert(IdempotencyRecord),
        [
            {
                "account_id": account_id,
                "key": key,
                "fingerprint": fingerprint,
                "export_id": export_id,
                "status": 202,
                "body": body,
            }
        ],
    )


def _registered(runtime: Runtime, caller: Caller, request: ExecuteRequest) -> ReadPlan:
    query = select(PlanSnapshot).where(
        col(PlanSnapshot.account_id) == caller.account_id, col(PlanSnapshot.batch_id) == request.batch_id
    )
    if request.plan_hash is not None:
        query = query.where(col(PlanSnapshot.plan_hash) == request.plan_hash)
    with runtime.db.read() as session:
        snapshot = session.scalars(query.order_by(col(PlanSnapshot.id).desc()).limit(1)).first()
    if snapshot is None:
        raise NotFound(
            f"no plan is registered for batch {request.batch_id}; register one, or send it as `plan`",
            field="/batchId",
        )
    return read_plan(Plan.model_validate_json(snapshot.document), json.loads(snapshot.document))


def _own(caller: Caller, plan: Plan) -> None:
    if plan.account_id != caller.account_id:
        raise InvalidAccountScope(f"the key does not belong to account {plan.account_id}", field="/plan/accountId")


def _approved(plan: Plan, now: datetime) -> None:
    if plan.approval is None:
        raise PlanNotApproved("the plan carries no approval; have it approved, then send it", field="/plan/approval")
    expires_at = plan.approval.expires_at
    if expires_at is not None and expires_at <= now:
        raise PlanExpired(
            f"the approval expired at {expires_at.isoformat()}; have the plan approved anew",
            field="/plan/approval/expiresAt",
        )


def _partners(session: Session, caller: Caller, plan: Plan) -> None:
    wanted = (
        ("customs_broker", plan.broker.id, "/plan/broker/id"),
        ("warehouse", plan.warehouse.id, "/plan/warehouse/id"),
    )
    known = {
        (partner.kind, partner.id): partner
        for partner in session.scalars(
            select(Partner).where(
                col(Partner.account_id) == caller.account_id, col(Partner.id).in_([wish[1] for wish in wanted])
            )
        )
    }
    for kind, partner_id, field in wanted:
        partner = known.get((kind, partner_id))
        noun = kind.replace("_", " ")
        if partner is None:
            raise UnknownPartner(f"{partner_id} is not a {noun} of this account; register it first", field=field)
        if partner.state != PartnerState.LIVE.value:
            raise UnknownPartner(f"the {noun} {partner_id} is {partner.state}; resume it first", field=field)
        if caller.mode == "test" and not partner.test:
            raise UnknownPartner(
                f"the {noun} {partner_id} is live and a test key must not reach it; name one that is marked test",
                field=field,
            )


def _executed(session: Session, account_id: str, batch_id: str) -> Export | None:
    return session.scalars(
        select(Export)
        .where(col(Export.account_id) == account_id, col(Export.batch_id) == batch_id)
        .order_by(col(Export.revision).desc())
        .limit(1)
    ).first()


def _executed_otherwise(executed: Export) -> AlreadyExecuted:
    return AlreadyExecuted(
        f"batch {executed.batch_id} is export {executed.id}, made of plan {executed.plan_hash};"
        " a changed plan needs a batch id of its own",
        field="/batchId",
        details={"exportId": executed.id, "planHash": executed.plan_hash},
    )


def _mismatch(field: str, given: str, actual: str) -> PlanHashMismatch:
    return PlanHashMismatch(
        f"planHash says {given}, the plan's own is {actual}; send the plan that was approved, unchanged",
        field=field,
        details={"given": given, "actual": actual},
    )


def _keep(session: Session, account_id: str, read: ReadPlan) -> tuple[str, bool]:
    known = session.scalar(
        select(col(PlanSnapshot.id)).where(
            col(PlanSnapshot.account_id) == account_id,
            col(PlanSnapshot.batch_id) == read.plan.batch_id,
            col(PlanSnapshot.plan_hash) == read.plan_hash,
        )
    )
    if known is not None:
        return known, False
    plan_id = new_id("pln")
    session.execute(
        insert(PlanSnapshot),
        [
            {
                "id": plan_id,
                "account_id": account_id,
                "batch_id": read.plan.batch_id,
                "plan_hash": read.plan_hash,
                "document": rfc8785.dumps(dict(read.raw)).decode(),
            }
        ],
    )
    return plan_id, True
