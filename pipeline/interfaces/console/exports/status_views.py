"""Views of how an export stands: outcome, the broker's status, deadlines, and what needs a person."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from pipeline.accounts.schemas import DeliveryView
from pipeline.deliveries.entries.headline_text import describe_held
from pipeline.deliveries.remedies import omit_command
from pipeline.deliveries.schemas.messages import MessageType, describe_message_type
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.schemas.inbox import Remedy
from pipeline.exports.schemas.submissions import BrokerSubmissionView
from pipeline.exports.states import DeliveryState, ExportState, Outcome, SubmissionState
from pipeline.interfaces.console.work.inbox_views import ChosenItem
from pipeline.interfaces.deadline_text import TASKS, describe_task
from pipeline.interfaces.event_text import count_noun
from pipeline.interfaces.pages.instants import mark_instants

#: The buttons of a task: the remedy, and its words.
_RETRY_OR_CANCEL: Final = ((Remedy.RETRY.value, "Retry"), (Remedy.CANCEL.value, "Cancel"))
_RELEASE_OR_CANCEL: Final = ((Remedy.RELEASE.value, "Release the handoff"), (Remedy.CANCEL.value, "Cancel"))
_RESEND: Final = (Remedy.RESEND.value, "Resend")
_ACKNOWLEDGE: Final = ((Remedy.ACKNOWLEDGE.value, "Acknowledge"),)


@dataclass(frozen=True)
class PersonTask:
    """One thing that a person must do: why, what to do, and the link or the buttons for it.

    The buttons act on the `targets`, or on the export if there are none. `tested` is the partner whose connection can
    be tested.
    """

    reason: str
    remedy: str
    link: str = ""
    link_text: str = ""
    buttons: tuple[tuple[str, str], ...] = ()
    targets: tuple[str, ...] = ()
    tested: str = ""


@dataclass(frozen=True)
class ShownStatus:
    """How an export stands; `target` is what the inbox's forms send for it."""

    sentence: str
    must_change: bool  # an amendment is the remedy
    deadlines: list[tuple[str, datetime, bool]]
    tasks: list[PersonTask]
    target: str


def show_status(
    export: ExportView,
    amend_link: str = "",
    deliveries: Sequence[DeliveryView] = (),
    dead_letters: Sequence[DeliveryView] = (),
) -> ShownStatus:
    """Return how the export stands.

    Without an `amend_link`, its reader cannot amend it. A lost handoff is found in `deliveries`; `dead_letters` are
    those that can be resent.
    """
    seen = _count_events(export)
    deadlines = [find_deadline(each) for each in export.broker_submissions]
    return ShownStatus(
        mark_instants(export.status),
        export.outcome in (Outcome.REJECTED, Outcome.QUERY, Outcome.NEEDS_ATTENTION),
        [each for each in deadlines if each is not None],
        [*_find_tasks(export, amend_link, deliveries), *_find_dead_letter_tasks(export, dead_letters)],
        urlencode({"export": export.export_id, "name": export.batch_id, "seen": seen}),
    )


def _find_tasks(export: ExportView, amend_link: str, deliveries: Sequence[DeliveryView]) -> Iterator[PersonTask]:
    if export.state is ExportState.FAILED:
        why = (
            "killed workers or raised an unknown error, so the export is quarantined"
            if export.quarantined
            else "failed"
        )
        yield PersonTask(
            f"A step {why}: {export.failure or 'no reason was recorded'}",
            "Remove the cause, then retry the export; or cancel it.",
            buttons=_RETRY_OR_CANCEL,
        )
    if export.outcome is Outcome.HANDOFF_HELD and export.handoff_hold is not None:
        yield PersonTask(
            f"A person holds the handoff: {export.handoff_hold.reason}",
            "Release the handoff, or cancel the export.",
            buttons=_RELEASE_OR_CANCEL,
        )
    for each in export.broker_submissions:
        task = _find_broker_task(export, each, amend_link, deliveries)
        if task is not None:
            yield replace(task, buttons=(*task.buttons, *(() if export.acknowledged else _ACKNOWLEDGE)))


def _count_events(export: ExportView) -> int:
    return export.events[-1].seq if export.events else 0


def _choose_delivery(export: ExportView, each: DeliveryView) -> str:
    title = describe_message_type(each.event_type)
    chosen = ChosenItem(export.export_id, each.id, seen_seq=_count_events(export), name=f"{title} to {each.partner_id}")
    return chosen.value


def _find_dead_letter_tasks(export: ExportView, dead_letters: Sequence[DeliveryView]) -> Iterator[PersonTask]:
    """Yield a task for each partner, channel, error and remedy of the dead letters."""
    groups: dict[tuple[str, str, str, str], list[DeliveryView]] = defaultdict(list)
    for each in dead_letters:
        error = each.error or "no attempt was possible"
        groups[each.partner_id, each.channel, error, omit_command(each.remedy or "")].append(each)
    for (partner_id, channel, error, remedy), letters in groups.items():
        titles = dict.fromkeys(describe_message_type(each.event_type) for each in letters)
        yield PersonTask(
            f"{count_noun(len(letters), 'message')} ({', '.join(titles)}) did not reach {partner_id} by {channel}: {error}",
            remedy or "Correct the partner's endpoint, then resend the message.",
            f"/console/partners/{quote(partner_id)}",
            "The partner",
            (_RESEND,) if export.acknowledged else (_RESEND, *_ACKNOWLEDGE),
            targets=tuple(_choose_delivery(export, each) for each in letters),
            tested=partner_id,
        )


def _find_broker_task(
    export: ExportView, each: BrokerSubmissionView, amend_link: str, deliveries: Sequence[DeliveryView]
) -> PersonTask | None:
    if export.state is ExportState.SUPERSEDED:
        return None
    broker, link = each.partner_id, f"/console/partners/{quote(each.partner_id)}"
    match each.submission_status:
        case SubmissionState.REJECTED:
            remedy = "Correct the fields that the broker names, and send the plan again as an amendment."
            return PersonTask(f"{broker} rejected the handoff.", remedy, amend_link, "Fix and amend")
        case SubmissionState.QUERY:
            if (
                export.acknowledged is not None
                and export.conversation[-1:]
                and export.conversation[-1].side == "exporter"
            ):
                return None  # the broker's turn
            remedy = "Write to the broker, or correct the plan and send it again as an amendment."
            return PersonTask(f"{broker} asks a question.", remedy, amend_link, "Fix and amend")
        case SubmissionState.NOT_WITHDRAWN:
            remedy = f"Ask {broker} to cancel the entry, or acknowledge that the goods go."
            return PersonTask(
                "An entry is filed although its withdrawal is requested.", remedy, link, "The customs broker"
            )
        case SubmissionState.HELD:
            found = describe_held([entry.headline for entry in each.entries])
            title = f"{found[0].upper()}{found[1:]}."
            return PersonTask(title, f"Ask {broker} what customs needs.", link, "The customs broker")
    if each.overdue_at is not None and each.deadline_at is not None:
        handoffs = [
            _choose_delivery(export, delivery)
            for delivery in deliveries
            if delivery.event_type == MessageType.HANDOFF_READY and delivery.state is DeliveryState.DELIVERED
        ]
        return PersonTask(
            f"{broker} missed a deadline.",
            "Ask the broker; if the handoff is lost, resend it.",
            link,
            "The customs broker",
            (_RESEND,) if handoffs else (),
            targets=tuple(handoffs),
        )
    return None


def find_deadline(submission: BrokerSubmissionView) -> tuple[str, datetime, bool] | None:
    """Return what must happen, by when, and whether operators know that it is overdue; None if no status is awaited."""
    if submission.deadline_at is not None and submission.submission_status in TASKS:
        task = describe_task(submission.submission_status, submission.partner_id)
        return task, submission.deadline_at, submission.overdue_at is not None
    if submission.summary_due_at is None:
        return None
    task = describe_task(None, submission.partner_id)
    return task, submission.summary_due_at, submission.summary_overdue_at is not None
