"""The status text of an export: one sentence about what it does, what it waits for, or why it stopped."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC
from typing import Final

from pipeline.deliveries.arrivals import describe_arrival
from pipeline.deliveries.entries.headline_text import describe_headlines, describe_held
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outcomes import has_arrived
from pipeline.exports.models import Export, Step
from pipeline.exports.schemas.export import PersonsRequestView
from pipeline.exports.states import ACTIVE_STATES, ExportState, StepState, SubmissionState
from pipeline.workflow.partner_checks import FILES_NOTHING
from pipeline.workflow.steps import STEPS_BY_NAME

_SUBMISSION_TEXTS: Final = {
    SubmissionState.PENDING: "the handoff to {partner} is pending",
    SubmissionState.SENT: "the handoff to {partner} is being delivered",
    SubmissionState.DELIVERED: "waiting for {partner} to answer",
    SubmissionState.RECEIVED: "{partner} can read the handoff; waiting for {partner} to answer",
    SubmissionState.ACCEPTED: "{partner} accepted the handoff",
    SubmissionState.REJECTED: "{partner} rejected the handoff and names the reason",
    SubmissionState.QUERY: "{partner} asks a question",
    SubmissionState.FILED: "{partner} filed the entry",
    SubmissionState.RELEASED: "customs released the goods",
    SubmissionState.HELD: "{held}",
    SubmissionState.WITHDRAWING: "the withdrawal is requested; waiting for {partner} to confirm it",
    SubmissionState.WITHDRAWN: "withdrawn: {partner} files no entry",
    SubmissionState.NOT_WITHDRAWN: "{partner} filed the entry although its withdrawal is requested",
    SubmissionState.FAILED: "the handoff could not be delivered to {partner}",
}

#: What did not happen before the deadline, by the last status before it.
_OVERDUE_TEXTS: Final = {
    SubmissionState.PENDING: "the handoff to {partner} was not delivered",
    SubmissionState.SENT: "the handoff to {partner} was not delivered",
    SubmissionState.DELIVERED: "{partner} did not answer",
    SubmissionState.RECEIVED: "{partner} can read the handoff but did not answer",
    SubmissionState.ACCEPTED: "{partner} accepted the handoff but did not file the entry",
    SubmissionState.WITHDRAWING: "{partner} did not confirm the withdrawal",
    SubmissionState.FILED: "{partner} filed the entry but customs did not release the goods",
}


def describe_export(
    export: Export,
    *,
    unit_refs: Mapping[int, str],
    steps: Sequence[Step],
    submissions: Sequence[BrokerSubmission],
    undelivered: Mapping[str, int],
    retried: Mapping[str, str],
    headlines: Mapping[str, Mapping[str, int]],
    hold: PersonsRequestView | None = None,
) -> str:
    """Return the sentence; `undelivered` counts the dead letters by recipient.

    `retried` has the error of each handoff that waits for its next attempt, by customs broker; `headlines` counts the
    entries of each answered submission; `hold` says who holds the handoff.
    """
    state = ExportState(export.state)
    if hold is not None and export.state in ACTIVE_STATES:
        since = hold.at.astimezone(UTC)
        return (
            f"The handoff is held by {hold.by} since {since:%Y-%m-%d %H:%M:%S} UTC: {hold.reason};"
            f" {export.units_closed} of {export.units_total} units are closed"
        )
    if state is ExportState.ACCEPTED:
        return "Accepted; waiting for a worker to begin"
    if state is ExportState.EXECUTING:
        return _describe_executing(export, unit_refs, steps)
    if state is ExportState.FAILED:
        return _describe_failed(export, unit_refs, steps)
    if state is ExportState.CANCELLED:
        return "Cancelled before the handoff"
    if state is ExportState.SUPERSEDED:
        return "Superseded by a newer revision"
    answers = [
        " - ".join(filter(None, (_describe_submission(row, retried.get(row.partner_id), counted), differing)))
        for row in submissions
        for counted in (headlines.get(row.id, {}),)
        for differing in (describe_headlines(counted),)
    ]
    if any(finding["rule"] == FILES_NOTHING for finding in export.findings):
        answers = [f"{answer} (sandbox: nobody files)" for answer in answers]
    given_up = [
        f"{count} {_messages(count)} to {partner} could not be delivered" for partner, count in undelivered.items()
    ]
    return "; ".join(["Executed", *answers, *given_up])


def _describe_submission(row: BrokerSubmission, failed: str | None, headlines: Collection[str]) -> str:
    status = SubmissionState(row.state)
    late = None if row.overdue_at is None or row.deadline_at is None else _OVERDUE_TEXTS.get(status)
    if late is None or row.deadline_at is None:
        if failed and status in (SubmissionState.PENDING, SubmissionState.SENT):
            return f"{row.partner_id} did not take the handoff, which waits for its next attempt: {failed}"
        return _SUBMISSION_TEXTS[status].format(partner=row.partner_id, held=describe_held(headlines))
    deadline = row.deadline_at.astimezone(UTC)
    text = f"overdue: {late.format(partner=row.partner_id)} by {deadline:%Y-%m-%d %H:%M:%S} UTC"
    if row.arrives_at is None:
        return text
    return f"{text}, and {describe_arrival(row.arrives_at, arrived=has_arrived(row))}"


def _describe_executing(export: Export, unit_refs: Mapping[int, str], steps: Sequence[Step]) -> str:
    open_steps = [step for step in steps if step.state == StepState.READY]
    if not open_steps:
        return "Executing; waiting for the next step"
    # The step that is furthest behind delays the export.
    step = min(open_steps, key=lambda step: (step.position, step.unit_no))
    spec = STEPS_BY_NAME.get(step.name)
    doing = (spec.text if spec else step.name).format(broker=export.broker_id, warehouse=export.warehouse_id)
    sentence = f"{doing}: {export.units_closed} of {export.units_total} units are closed" if step.unit_no else doing
    if step.error:
        where = f" of {unit_refs[step.unit_no]}" if step.unit_no else ""
        sentence += f"; attempt {max(1, step.attempts)}{where} failed and will be retried: {step.error}"
    return sentence


def _describe_failed(export: Export, unit_refs: Mapping[int, str], steps: Sequence[Step]) -> str:
    failed = next((step for step in steps if step.state == StepState.FAILED), None)
    if failed is None:
        return f"Failed: {export.failure}" if export.failure else "Failed"
    where = f" of {unit_refs[failed.unit_no]}" if failed.unit_no else ""
    if not export.quarantined:
        return f"Failed at {failed.name}{where}: {failed.error or export.failure}"
    return (
        f"Quarantined at {failed.name}{where} after {failed.attempts} attempts, until a person retries or cancels it:"
        f" {failed.error or export.failure}"
    )


def _messages(count: int) -> str:
    return "message" if count == 1 else "messages"
