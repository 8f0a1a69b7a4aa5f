"""The rows that an export's tables must hold, derived only from its log and its plan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlmodel import SQLModel

from pipeline.core.db import table
from pipeline.customs import treatment
from pipeline.customs.checks.informal import informal_columns
from pipeline.customs.checks.same_goods import same_goods_columns
from pipeline.deliveries.email.content import build_handoff_subject
from pipeline.deliveries.entries.entries import any_differs, entry_columns
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, ConversationMessage, CustomsEntry
from pipeline.documents.repository import PURGED
from pipeline.exports import packages
from pipeline.exports.file_models import ConversationFile
from pipeline.exports.models import Artifact, Export, ExportPackage, ExportUnit, LineTreatment, Step
from pipeline.exports.plans import HashedPlan, canonical_json
from pipeline.exports.states import ExportState, StepState
from pipeline.ops.rebuild.history import ExportHistory, MissingFact, UnitHistory, read_hold, to_instant
from pipeline.ops.rebuild.summaries import has_summary_trouble, list_due
from pipeline.workflow.steps import CLOSE_UNIT, EXPORT_LEVEL, HAND_OFF, NOTIFY_STEPS, STEPS

_PER_UNIT = [spec.name for spec in STEPS if spec.per_unit]


@dataclass(frozen=True)
class ExpectedRow:
    """One expected row: `values` maps columns to their value, `allowed` to the possible values, the likeliest first.

    Other columns are bookkeeping that the service writes again, such as leases; `defaults` fills them in a restored
    row.
    """

    model: type[SQLModel]
    key: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def merged_with(self, other: "ExpectedRow") -> "ExpectedRow":
        """Return the row with the columns that another part derives for it."""
        return replace(
            self,
            values={**self.values, **other.values},
            allowed={**self.allowed, **other.allowed},
            defaults={**self.defaults, **other.defaults},
        )

    @property
    def derived_columns(self) -> frozenset[str]:
        """The columns that are compared with the stored row."""
        return frozenset({*self.key, *self.values, *self.allowed})

    def can_restore(self, name: str) -> bool:
        """Return whether the column can be restored: it is derived, or bookkeeping with an initial value."""
        column = table(self.model).c[name]
        return name in self.restored_values or column.nullable or column.default is not None

    @property
    def restored_values(self) -> dict[str, Any]:
        """The restored row without its bookkeeping."""
        return {
            **self.key,
            **self.values,
            **{name: allowed[0] for name, allowed in self.allowed.items()},
            **self.defaults,
        }


@dataclass(frozen=True)
class ExportFacts:
    """Everything that rows are derived from; if `plan` is None, only what the log itself says is derived.

    A purged export has no plan. Its purged columns are expected to be empty.
    """

    history: ExportHistory
    account_id: str
    plan_id: str | None
    plan: HashedPlan | None
    all_notified: bool = False  # the three notify steps are all marked done
    ssccs_free: bool = False  # its SSCCs are so old that another export may have taken them

    @property
    def purged(self) -> bool:
        """Whether the payload was purged."""
        return self.history.purged_at is not None


def expected_rows(facts: ExportFacts) -> Iterator[ExpectedRow]:
    """Yield the rows of all tables except those of messages, parents first.

    Raises MissingFact if the log was written by a version that did not record enough.
    """
    yield _export_row(facts)
    yield from _unit_rows(facts)
    yield from _step_rows(facts)
    for unit_no, unit in sorted(facts.history.units.items()):
        if facts.plan is not None and not facts.purged:
            if unit.recorded is not None:
                yield from _package_rows(facts, unit_no, unit.recorded)
            if unit.treated is not None:
                yield from _treatment_rows(facts, unit_no)
        yield from _artifact_rows(facts, unit_no, unit)
    yield from _submission_row(facts)
    yield from _answer_rows(facts)
    yield from _attachment_rows(facts)


def _plan_unit(facts: ExportFacts, unit_no: int) -> Any:
    if facts.plan is None or unit_no > len(facts.plan.plan.units):
        raise MissingFact(f"the log names unit {unit_no}, which the plan does not have")
    return facts.plan.plan.units[unit_no - 1]


def _accepted_fact(facts: ExportFacts, name: str) -> Any:
    accepted = facts.history.accepted
    if name not in accepted:
        raise MissingFact(f"EXPORT_ACCEPTED does not say {name}: an older version wrote it")
    return accepted[name]


def _export_row(facts: ExportFacts) -> ExpectedRow:
    history = facts.history
    values: dict[str, Any] = {
        "account_id": facts.account_id,
        "batch_id": _accepted_fact(facts, "batchId"),
        "revision": history.revision,
        "supersedes_id": history.supersedes_id,
        "plan_hash": _accepted_fact(facts, "planHash"),
        "test": _accepted_fact(facts, "test"),
        "units_total": _accepted_fact(facts, "units"),
        "units_closed": sum(CLOSE_UNIT.name in unit.done for unit in history.units.values()),
        "next_seq": history.events + 1,
        "rules_hash": history.accepted.get("rulesHash"),
        "trace_parent": history.accepted.get("traceParent"),
        "trace_state": history.accepted.get("traceState"),
        "prints_french": history.accepted.get("printsFrench", False),
        "logo_sha256": history.accepted.get("logo"),
        "broker_name": history.accepted.get("brokerName"),
        "upstream_id": history.accepted.get("upstream"),
        "accepted_at": history.accepted_at,
        "failure": None if facts.purged else history.failure,
        "quarantined": history.quarantined,
        "acknowledged_seq": history.acknowledged_seq,
        "amounts_differ": (bool(history.broker_answers) and any_differs(history.fold_entries())) or None,
        "summary_trouble": has_summary_trouble(history) or None,
        "earlier_entry": history.earlier_entry or None,
        "hold_seq": history.hold_seq,
        "withdrawal_seq": history.withdrawal_seq,
        "purged_at": history.purged_at,
    }
    defaults: dict[str, Any] = {"findings": [], "updated_at": history.at, "finished_at": history.ended_at}
    if facts.purged:
        values |= {"findings": [], "approved_by": None, "approved_at": None}
    if facts.plan_id is not None:
        values["plan_id"] = facts.plan_id
    treated = [unit.treated for _, unit in sorted(history.units.items()) if unit.treated is not None]
    if len(treated) == values["units_total"]:
        values["treatment_digest"] = treatment.export_digest({data["unitRef"]: data["digest"] for data in treated})
    if facts.plan is not None:
        plan = facts.plan.plan
        if plan.approval is not None:  # the hash does not cover it, so another approval may have been sent
            defaults |= {"approved_by": plan.approval.approved_by, "approved_at": plan.approval.approved_at_utc}
        digests = {unit.unit_ref: treatment.unit_digest(treatment.line_digests(unit)) for unit in plan.units}
        values |= {
            "broker_id": plan.broker.id,
            "warehouse_id": plan.warehouse.id,
            "ruleset_id": plan.ruleset.id,
            "ruleset_as_of": plan.ruleset.as_of,
            "treatment_digest": treatment.export_digest(digests),
        }
    # The start of the first step is recorded only when it ends.
    fresh = history.state is ExportState.ACCEPTED
    states = (history.state,) if not fresh else (ExportState.EXECUTING, ExportState.ACCEPTED)
    if fresh and history.started:
        states = (ExportState.EXECUTING,)
    return ExpectedRow(
        Export,
        {"id": history.export_id},
        values,
        # A version that did not keep the sender may have accepted it.
        {"state": tuple(state.value for state in states), "sent_by": (history.sent_by, None)},
        defaults,
    )


def _unit_rows(facts: ExportFacts) -> Iterator[ExpectedRow]:
    history = facts.history
    customs_packages: Sequence[Mapping[str, Any]] = _accepted_fact(facts, "customsPackages")
    units = () if facts.plan is None else facts.plan.plan.units
    goods = list(same_goods_columns(units, test=_accepted_fact(facts, "test")))
    for unit_no, customs_package in enumerate(customs_packages, 1):
        unit = history.units.get(unit_no, UnitHistory())
        allowed: dict[str, tuple[Any, ...]] = {}
        recorded: Mapping[str, Any] = unit.recorded or {}
        values: dict[str, Any] = {
            "account_id": facts.account_id,
            "customs_package_id": customs_package["id"],
            "package_number": recorded.get("packageNumber", customs_package.get("packageNumber")),
            "released": history.superseded,
            "same_since": customs_package.get("sameSince"),
            "tariff": canonical_json(customs_package["tariff"]) if "tariff" in customs_package else None,
        }
        if facts.plan is not None:
            plan_unit = _plan_unit(facts, unit_no)
            values["unit_ref"] = plan_unit.unit_ref
            values["treatment_digest"] = treatment.unit_digest(treatment.line_digests(plan_unit))
            values["document"] = canonical_json(facts.plan.raw["units"][unit_no - 1])
            values["invoice_number"] = plan_unit.invoice.number
            values["purchase_order"] = plan_unit.invoice.purchase_order
            values |= informal_columns(plan_unit) | {"invoice_key": goods[unit_no - 1]["invoice_key"]}
            # A later export takes the control number of a cancelled one, and of one of years ago.
            allowed = {"control_number_key": (goods[unit_no - 1]["control_number_key"], None)}
        elif unit.treated is not None:
            values |= {"unit_ref": unit.treated["unitRef"], "treatment_digest": unit.treated["digest"]}
        if facts.purged:
            values |= {"document": PURGED, "tariff": None, "invoice_number": None, "purchase_order": None}
            values |= {"informal_key": None, "informal_usd": None, "control_number_key": None, "invoice_key": None}
            allowed = {}
        key = {"export_id": history.export_id, "unit_no": unit_no}
        yield ExpectedRow(ExportUnit, key, values, allowed, defaults={"created_at": history.accepted_at})


def _step_rows(facts: ExportFacts) -> Iterator[ExpectedRow]:
    history = facts.history
    for unit_no in range(1, _accepted_fact(facts, "units") + 1):
        unit = history.units.get(unit_no, UnitHistory())
        opened = True
        for name in _PER_UNIT:
            is_done = name in unit.done
            yield _step_row(history, unit_no, name, (_step_state(history, unit_no, name, done=is_done, opened=opened),))
            opened = opened and is_done
    handed_off = history.handed_off is not None
    closed = sum(CLOSE_UNIT.name in unit.done for unit in history.units.values()) == _accepted_fact(facts, "units")
    state = _step_state(history, EXPORT_LEVEL, HAND_OFF.name, done=handed_off, opened=closed)
    yield _step_row(history, EXPORT_LEVEL, HAND_OFF.name, (state,))
    for name in NOTIFY_STEPS:
        undone = _step_state(history, EXPORT_LEVEL, name, done=history.executed, opened=handed_off)
        # The log records the end of these three steps only when all have ended. Running one again sends nothing twice.
        ended = handed_off and not history.executed and not facts.all_notified
        yield _step_row(history, EXPORT_LEVEL, name, (undone, StepState.DONE) if ended else (undone,))


def _step_state(history: ExportHistory, unit_no: int, name: str, *, done: bool, opened: bool) -> StepState:
    if done:
        return StepState.DONE
    if history.failed_step == (unit_no, name):
        return StepState.CANCELLED if history.cancelled else StepState.FAILED
    if history.cancelled or history.superseded:
        return StepState.CANCELLED
    return StepState.READY if opened else StepState.WAITING


def _step_row(history: ExportHistory, unit_no: int, name: str, states: tuple[StepState, ...]) -> ExpectedRow:
    position = next(place for place, spec in enumerate(STEPS) if spec.name == name)
    waits = history.hold_seq is not None and name == HAND_OFF.name and states == (StepState.READY,)
    return ExpectedRow(
        Step,
        {"export_id": history.export_id, "unit_no": unit_no, "name": name},
        {"position": position} | ({"due_at": None} if waits else {}),
        {"state": tuple(state.value for state in states)},
    )


def _package_rows(facts: ExportFacts, unit_no: int, recorded: Mapping[str, Any]) -> Iterator[ExpectedRow]:
    history, unit = facts.history, _plan_unit(facts, unit_no)
    if recorded["ssccsIssued"] and "ssccPrefix" not in recorded:
        raise MissingFact("PACKAGES_RECORDED does not say which SSCCs were issued: an older version wrote it")
    kept = {unit.packages[place - 1].package_ref: sscc for place, sscc in recorded.get("reusedSsccs", ())}
    ssccs = packages.assign_ssccs(unit, kept, recorded.get("ssccPrefix"), recorded.get("firstSerial", 0))
    released = history.cancelled or history.superseded or _accepted_fact(facts, "test")
    for row in packages.package_rows(
        unit, ssccs, export_id=history.export_id, unit_no=unit_no, account_id=facts.account_id
    ):
        expected = _to_expected_row(ExportPackage, ("export_id", "unit_no", "package_ref"), row)
        yield replace(
            expected,
            allowed={
                "released": (released, True) if facts.ssccs_free or history.withdrawal_seq is not None else (released,)
            },
        )


def _treatment_rows(facts: ExportFacts, unit_no: int) -> Iterator[ExpectedRow]:
    unit = _plan_unit(facts, unit_no)
    digests = treatment.line_digests(unit)
    for row in treatment.treatment_rows(unit, digests, export_id=facts.history.export_id, unit_no=unit_no):
        yield _to_expected_row(LineTreatment, ("export_id", "unit_no", "line_ref"), row)


def _to_expected_row(model: type[SQLModel], key: Sequence[str], row: Mapping[str, Any]) -> ExpectedRow:
    return ExpectedRow(model, {name: row[name] for name in key}, {name: row[name] for name in row if name not in key})


def _artifact_rows(facts: ExportFacts, unit_no: int, unit: UnitHistory) -> Iterator[ExpectedRow]:
    for at, data in unit.documents:
        values = {
            "export_id": facts.history.export_id,
            "unit_no": unit_no,
            "account_id": facts.account_id,
            "artifact_type": data["artifactType"],
            "filename": data["filename"],
            "media_type": data["mediaType"],
            "template_version": data["templateVersion"],
            "size": data["size"],
            "sha256": data["sha256"],
        }
        if not facts.purged:  # the bytes of a purged export are deleted some time later
            values["purged_at"] = None
        yield ExpectedRow(Artifact, {"id": data["artifactId"]}, values, defaults={"generated_at": at})


def _submission_row(facts: ExportFacts) -> Iterator[ExpectedRow]:
    history, data = facts.history, facts.history.handed_off
    if data is None:
        return
    values = {
        "export_id": history.export_id,
        "account_id": facts.account_id,
        "partner_id": data["partnerId"],
        "submission_type": "handoff",
        "path": data["path"],
        "channel": data["channel"],
        "arrives_at": to_instant(data.get("arrivesAt")),
        "arrives_by": data.get("arrivesBy"),
    }
    if facts.purged:
        values |= {"recipient": None, "subject": "", "error_message": None, "deadline_at": None}
    values |= {} if history.summary_late else {"summary_overdue_at": None}
    numbers = [] if facts.plan is None else [unit.invoice.number for unit in facts.plan.plan.units]
    subject = build_handoff_subject(_accepted_fact(facts, "batchId"), numbers)
    # The status of a submission also depends on its deliveries: see messages.
    reached: dict[str, Any] = {f"first_{each}_at": at for each, at in history.milestones.items()}
    defaults = reached if facts.purged else reached | {"subject": subject}
    defaults |= {"summary_overdue_at": history.at} if history.summary_late else {}
    # An older version leaves `test_account_id` empty.
    allowed: dict[str, tuple[Any, ...]] = {
        "test_account_id": (facts.account_id, None) if _accepted_fact(facts, "test") else (None,),
        "summary_due_at": list_due(history, purged=facts.purged),
    }
    yield ExpectedRow(BrokerSubmission, {"id": data["submissionId"]}, values, allowed, defaults=defaults)


def _answer_rows(facts: ExportFacts) -> Iterator[ExpectedRow]:
    for at, data in facts.history.broker_answers:
        values = {
            "status": data["status"],
            "reference": data.get("reference"),
            "entry_number": data.get("entryNumber"),
            "message": None if facts.purged else data.get("message"),
            "fields": [] if facts.purged else data.get("fields", []),
            "packages": data.get("customsPackageNumbers"),
            "hold": read_hold(data),
            "at": to_instant(data.get("at")),
            "effective_at": to_instant(data.get("effectiveAt")),
            "corrects": data.get("corrects"),
            "in_reply_to": data.get("inReplyTo"),
            "attachments": data.get("attachments"),
            "raw": None if facts.purged else data.get("raw"),
            "assessed": None if facts.purged else data.get("assessed"),
            "comparison": None if facts.purged else data.get("comparison"),
        }
        key = {"submission_id": data["submissionId"], "id": data["id"]}
        received_at = to_instant(data.get("receivedAt")) or at
        yield ExpectedRow(Acknowledgement, key, values, defaults={"received_at": received_at})
    for written_at, author, data in facts.history.messages_written:
        values = {
            "author": author,
            "text": None if facts.purged else data["text"],
            "packages": data.get("customsPackageNumbers"),
            "in_reply_to": data.get("inReplyTo"),
            "attachments": data.get("attachments"),
            "written_at": written_at,
        }
        yield ExpectedRow(ConversationMessage, {"submission_id": data["submissionId"], "id": data["messageId"]}, values)
    for number, folded in facts.history.fold_entries().items() if facts.history.broker_answers else ():
        key = {"submission_id": facts.history.handed_off_id, "package_number": number}
        yield ExpectedRow(CustomsEntry, key, entry_columns(folded), defaults={"updated_at": facts.history.at})


def _attachment_rows(facts: ExportFacts) -> Iterator[ExpectedRow]:
    for attached_at, author, data in facts.history.files:
        values = {
            "export_id": facts.history.export_id,
            "account_id": facts.account_id,
            "partner_id": data.get("partnerId"),
            "author": author,
            "filename": None if facts.purged else data["filename"],
            "media_type": data["mediaType"],
            "size": data["size"],
            "sha256": data["sha256"],
            "attached_at": attached_at,
        }
        if not facts.purged:  # the bytes of a purged export are deleted some time later
            values["purged_at"] = None
        yield ExpectedRow(ConversationFile, {"id": data["attachmentId"]}, values)
