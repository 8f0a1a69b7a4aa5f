"""The rows that an export's tables must hold, derived from its log and its plan alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlmodel import SQLModel

from pipeline.core.db import table
from pipeline.customs import treatment
from pipeline.deliveries.email_content import build_handoff_subject
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.documents.repository import PURGED
from pipeline.exports import packages
from pipeline.exports.models import Artifact, Export, ExportPackage, ExportUnit, LineTreatment, Step
from pipeline.exports.plans import HashedPlan, canonical_json
from pipeline.exports.states import ExportState, StepState
from pipeline.ops.rebuild.history import History, UnitHistory, Untold
from pipeline.workflow.step_leases import EXPORT_LEVEL
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS

_PER_UNIT = [spec.name for spec in STEPS if spec.per_unit]


@dataclass(frozen=True)
class Row:
    """One row: `holds` is what each column must say, `may` what it can, the likeliest first.

    What is in neither is bookkeeping that comes again by itself, such as leases; `beside` is what a row that is made again
    gets of it.
    """

    model: type[SQLModel]
    key: Mapping[str, Any]
    holds: Mapping[str, Any] = field(default_factory=dict)
    may: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)

    def with_more(self, other: Row) -> Row:
        """Return the row with what another part derives of it."""
        return replace(
            self,
            holds={**self.holds, **other.holds},
            may={**self.may, **other.may},
            beside={**self.beside, **other.beside},
        )

    @property
    def derived(self) -> frozenset[str]:
        """The columns that are held against what is there."""
        return frozenset({*self.key, *self.holds, *self.may})

    def mends(self, name: str) -> bool:
        """Tell whether the column can be filled in again: it is derived, or bookkeeping that begins anew."""
        column = table(self.model).c[name]
        return name in self.restored or column.nullable or column.default is not None

    @property
    def restored(self) -> dict[str, Any]:
        """The row as it is made again, but for its bookkeeping."""
        return {**self.key, **self.holds, **{name: values[0] for name, values in self.may.items()}, **self.beside}


@dataclass(frozen=True)
class Known:
    """Everything that rows are derived from. Without `read` there is no plan, and only what the log says itself is derived.

    Of a purged export that is all, but for what was purged: of that it is derived that it is gone.
    """

    history: History
    account_id: str
    plan_id: str | None
    read: HashedPlan | None
    all_notified: bool = False  # the three steps that end an export are all marked done

    @property
    def purged(self) -> bool:
        """Whether the payload is gone on purpose."""
        return self.history.purged_at is not None


def rows(known: Known) -> Iterator[Row]:
    """Yield the rows of every table but those of messages, parents first.

    Raises Untold where the log was written by a version that did not say enough.
    """
    yield _export(known)
    yield from _units(known)
    yield from _steps(known)
    for unit_no, unit in sorted(known.history.units.items()):
        if known.read is not None and not known.purged:
            if unit.recorded is not None:
                yield from _packages(known, unit_no, unit.recorded)
            if unit.treated is not None:
                yield from _treatments(known, unit_no)
        yield from _documents(known, unit_no, unit)
    yield from _submission(known)
    yield from _answers(known)


def _of_plan(known: Known, unit_no: int) -> Any:
    if known.read is None or unit_no > len(known.read.plan.units):
        raise Untold(f"the log speaks of unit {unit_no}, which the plan does not have")
    return known.read.plan.units[unit_no - 1]


def _said(known: Known, name: str) -> Any:
    accepted = known.history.accepted
    if name not in accepted:
        raise Untold(f"EXPORT_ACCEPTED does not say {name}: an older version wrote it")
    return accepted[name]


def _export(known: Known) -> Row:
    told = known.history
    holds: dict[str, Any] = {
        "account_id": known.account_id,
        "batch_id": _said(known, "batchId"),
        "revision": told.revision,
        "supersedes_id": told.supersedes_id,
        "plan_hash": _said(known, "planHash"),
        "test": _said(known, "test"),
        "units_total": _said(known, "units"),
        "units_closed": sum(unit.closed for unit in told.units.values()),
        "next_seq": told.events + 1,
        "trace_parent": told.accepted.get("traceParent"),
        "accepted_at": told.accepted_at,
        "failure": None if known.purged else told.failure,
        "quarantined": told.quarantined,
        "purged_at": told.purged_at,
    }
    if known.purged:
        holds["findings"] = []
    if known.plan_id is not None:
        holds["plan_id"] = known.plan_id
    treated = [unit.treated for _, unit in sorted(told.units.items()) if unit.treated is not None]
    if len(treated) == holds["units_total"]:
        holds["treatment_digest"] = treatment.export_digest({data["unitRef"]: data["digest"] for data in treated})
    if known.read is not None:
        plan = known.read.plan
        digests = {unit.unit_ref: treatment.unit_digest(treatment.line_digests(unit)) for unit in plan.units}
        holds |= {
            "broker_id": plan.broker.id,
            "warehouse_id": plan.warehouse.id,
            "ruleset_id": plan.ruleset.id,
            "ruleset_as_of": plan.ruleset.as_of,
            "treatment_digest": treatment.export_digest(digests),
        }
    # That the first step was begun is written nowhere before it ends.
    fresh = told.state is ExportState.ACCEPTED
    states = (told.state,) if not fresh else (ExportState.EXECUTING, ExportState.ACCEPTED)
    if fresh and told.begun:
        states = (ExportState.EXECUTING,)
    return Row(
        Export,
        {"id": told.export_id},
        holds,
        {"state": tuple(state.value for state in states)},
        {"findings": [], "updated_at": told.at, "finished_at": told.ended_at},
    )


def _units(known: Known) -> Iterator[Row]:
    told = known.history
    minted: Sequence[Mapping[str, str]] = _said(known, "customsPackages")
    for unit_no, given in enumerate(minted, 1):
        unit = told.units.get(unit_no, UnitHistory())
        recorded: Mapping[str, Any] = unit.recorded or {}
        holds: dict[str, Any] = {
            "account_id": known.account_id,
            "customs_package_id": given["id"],
            "package_number": recorded.get("packageNumber", given.get("packageNumber")),
            "released": told.superseded,
        }
        if known.read is not None:
            of_plan = _of_plan(known, unit_no)
            holds["unit_ref"] = of_plan.unit_ref
            holds["treatment_digest"] = treatment.unit_digest(treatment.line_digests(of_plan))
            holds["document"] = canonical_json(known.read.raw["units"][unit_no - 1])
        elif unit.treated is not None:
            holds |= {"unit_ref": unit.treated["unitRef"], "treatment_digest": unit.treated["digest"]}
        if known.purged:
            holds["document"] = PURGED
        key = {"export_id": told.export_id, "unit_no": unit_no}
        yield Row(ExportUnit, key, holds, beside={"created_at": told.accepted_at})


def _steps(known: Known) -> Iterator[Row]:
    told = known.history
    for unit_no in range(1, _said(known, "units") + 1):
        unit = told.units.get(unit_no, UnitHistory())
        done = [unit.recorded is not None, unit.treated is not None, unit.rendered, unit.closed]
        opened = True
        for name, is_done in zip(_PER_UNIT, done, strict=True):
            yield _step(told, unit_no, name, (_state(told, unit_no, name, done=is_done, opened=opened),))
            opened = opened and is_done
    handed_off = told.handed_off is not None
    closed = sum(unit.closed for unit in told.units.values()) == _said(known, "units")
    state = _state(told, EXPORT_LEVEL, "hand_off", done=handed_off, opened=closed)
    yield _step(told, EXPORT_LEVEL, "hand_off", (state,))
    for name in NOTIFY_STEPS:
        undone = _state(told, EXPORT_LEVEL, name, done=told.executed, opened=handed_off)
        # Which of the three have ended is written when all have, by the last: all of them and not a word cannot be. To do
        # one again sends nothing twice.
        ended = handed_off and not told.executed and not known.all_notified
        yield _step(told, EXPORT_LEVEL, name, (undone, StepState.DONE) if ended else (undone,))


def _state(told: History, unit_no: int, name: str, *, done: bool, opened: bool) -> StepState:
    if done:
        return StepState.DONE
    if told.failed_step == (unit_no, name):
        return StepState.CANCELLED if told.cancelled else StepState.FAILED
    if told.cancelled or told.superseded:
        return StepState.CANCELLED
    return StepState.READY if opened else StepState.WAITING


def _step(told: History, unit_no: int, name: str, states: tuple[StepState, ...]) -> Row:
    position = next(place for place, spec in enumerate(STEPS) if spec.name == name)
    return Row(
        Step,
        {"export_id": told.export_id, "unit_no": unit_no, "name": name},
        {"position": position},
        {"state": tuple(state.value for state in states)},
    )


def _packages(known: Known, unit_no: int, recorded: Mapping[str, Any]) -> Iterator[Row]:
    told, unit = known.history, _of_plan(known, unit_no)
    if recorded["ssccsIssued"] and "ssccPrefix" not in recorded:
        raise Untold("PACKAGES_RECORDED does not say which SSCCs were issued: an older version wrote it")
    kept = {unit.packages[place - 1].package_ref: sscc for place, sscc in recorded.get("reusedSsccs", ())}
    ssccs = packages.assign_ssccs(unit, kept, recorded.get("ssccPrefix"), recorded.get("firstSerial", 0))
    released = told.cancelled or told.superseded or _said(known, "test")
    for row in packages.package_rows(
        unit, ssccs, export_id=told.export_id, unit_no=unit_no, account_id=known.account_id
    ):
        yield _row(ExportPackage, ("export_id", "unit_no", "package_ref"), row | {"released": released})


def _treatments(known: Known, unit_no: int) -> Iterator[Row]:
    unit = _of_plan(known, unit_no)
    digests = treatment.line_digests(unit)
    for row in treatment.rows_of(unit, digests, export_id=known.history.export_id, unit_no=unit_no):
        yield _row(LineTreatment, ("export_id", "unit_no", "line_ref"), row)


def _row(model: type[SQLModel], key: Sequence[str], row: Mapping[str, Any]) -> Row:
    return Row(model, {name: row[name] for name in key}, {name: row[name] for name in row if name not in key})


def _documents(known: Known, unit_no: int, unit: UnitHistory) -> Iterator[Row]:
    for at, data in unit.documents:
        holds = {
            "export_id": known.history.export_id,
            "unit_no": unit_no,
            "account_id": known.account_id,
            "artifact_type": data["artifactType"],
            "filename": data["filename"],
            "media_type": data["mediaType"],
            "template_version": data["templateVersion"],
            "size": data["size"],
            "sha256": data["sha256"],
        }
        if not known.purged:  # else its bytes go some time after the rest
            holds["purged_at"] = None
        yield Row(Artifact, {"id": data["artifactId"]}, holds, beside={"generated_at": at})


def _submission(known: Known) -> Iterator[Row]:
    told, data = known.history, known.history.handed_off
    if data is None:
        return
    holds = {
        "export_id": told.export_id,
        "account_id": known.account_id,
        "partner_id": data["partnerId"],
        "submission_type": "handoff",
        "path": data["path"],
        "channel": data["channel"],
    }
    if known.purged:
        holds |= {"recipient": None, "subject": "", "error_message": None, "deadline_at": None}
    numbers = [] if known.read is None else [unit.invoice.number for unit in known.read.plan.units]
    subject = build_handoff_subject(_said(known, "batchId"), numbers)
    # Its status hangs on what was sent as well: see messages.
    yield Row(
        BrokerSubmission, {"id": data["submissionId"]}, holds, beside={} if known.purged else {"subject": subject}
    )


def _answers(known: Known) -> Iterator[Row]:
    for at, data in known.history.answers:
        holds = {
            "status": data["status"],
            "reference": data.get("reference"),
            "entry_number": data.get("entryNumber"),
            "message": None if known.purged else data.get("message"),
            "fields": [] if known.purged else data.get("fields", []),
        }
        key = {"submission_id": data["submissionId"], "id": data["id"]}
        yield Row(Acknowledgement, key, holds, beside={"received_at": at})
