"""What a partner sees of itself in its portal: its deliveries and messages, and a customs broker's handoffs and documents.

Every query is by the visitor's account and partner. Messages that were not sent yet, or never, are left out, and so are
test exports that the sandbox receives in the partner's place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, select, true, tuple_
from sqlalchemy.orm import Mapped, aliased
from sqlmodel import Session, col

from pipeline.accounts.portal_links import PartnerVisitor
from pipeline.accounts.schemas import DeliveryPage, DeliveryView
from pipeline.core.db import index_constant
from pipeline.core.errors import NotFound, Purged
from pipeline.core.json_input import iterate_entries
from pipeline.core.runtime import Runtime
from pipeline.deliveries.account_clock import read_ahead
from pipeline.deliveries.entries.entries import build_entry_views, to_answer
from pipeline.deliveries.entries.facets import fold_entries
from pipeline.deliveries.entries.revisions import find_newest_broker
from pipeline.deliveries.handoff_bundle import gather_bundle, stream_bundle
from pipeline.deliveries.models import BrokerSubmission, Delivery, Notification
from pipeline.deliveries.outbox.subjects import read_subject
from pipeline.deliveries.outcomes import IS_UNDELIVERED
from pipeline.deliveries.queries import MAX_COUNTED, build_delivery_views, comes_after
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import ArtifactLink, HandedUnit
from pipeline.deliveries.streams.messages import build_cloud_event
from pipeline.deliveries.submissions import attachments
from pipeline.deliveries.submissions.answer_forms import MAX_DETAILED_LINES, AnswerableUnit, can_detail, list_fields
from pipeline.deliveries.submissions.conversation import merge_answers, read_newest
from pipeline.deliveries.submissions.links import list_documents
from pipeline.deliveries.submissions.submissions import read_submission
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.queries import find_request
from pipeline.exports.schemas.submissions import BrokerSubmissionView, ConversationItem, EntryView
from pipeline.exports.states import DeliveryState, ExportState, SubmissionState

_IS_DUE: Final = col(BrokerSubmission.deadline_at).is_not(None)

#: The states of deliveries that a partner sees.
SHOWN_STATES: Final = (DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.DEAD)


def list_deliveries(
    runtime: Runtime, visitor: PartnerVisitor, *, state: DeliveryState | None, after: str | None, limit: int
) -> DeliveryPage:
    """Return a page of the partner's deliveries, those of the newest export first, starting after the delivery `after`.

    Raises NotFound if `after` is not a delivery of the partner.
    """
    subject_id, delivery_id = col(Delivery.subject_id), col(Delivery.id)
    with runtime.db.read() as session:
        wanted = _are_own(visitor) if state is None else _are_own(visitor, state)
        if after is not None:
            last = _find_delivery(session, visitor, after)
            wanted += comes_after(last.subject_id, last.id)
        found = session.scalars(
            select(Delivery).where(*wanted).order_by(subject_id.desc(), delivery_id.desc()).limit(limit + 1)
        ).all()
        # Not a join, for which PostgreSQL may read all deliveries of the partner before it sorts them.
        types = dict(
            session.execute(
                select(col(Notification.id), col(Notification.event_type)).where(
                    col(Notification.id).in_([row.notification_id for row in found])
                )
            ).all()
        )
        views = build_delivery_views(session, [(row, types[row.notification_id]) for row in found[:limit]])
    return DeliveryPage(items=views, next_cursor=views[-1].id if len(found) > limit else None)


def count_deliveries(runtime: Runtime, visitor: PartnerVisitor) -> dict[DeliveryState, int]:
    """Return how many of the partner's deliveries are in each state, each at most MAX_COUNTED + 1."""
    with runtime.db.read() as session:
        return {
            state: session.scalar(
                select(func.count()).select_from(
                    select(col(Delivery.id)).where(*_are_own(visitor, state)).limit(MAX_COUNTED + 1).subquery()
                )
            )
            or 0
            for state in SHOWN_STATES
        }


@dataclass(frozen=True)
class DeliveredMessage:
    """A delivery and its message, as every channel carries it. `body` is None if it was purged."""

    delivery: DeliveryView
    body: bytes | None


def read_message(runtime: Runtime, visitor: PartnerVisitor, delivery_id: str) -> DeliveredMessage:
    """Return one of the partner's deliveries with its message. Raises NotFound."""
    with runtime.db.read() as session:
        row = _find_delivery(session, visitor, delivery_id)
        notification = session.get_one(Notification, row.notification_id)
        subject = read_subject(session, row.subject_id)
        (view,) = build_delivery_views(session, [(row, notification.event_type)])
        if subject.is_purged:
            return DeliveredMessage(view, None)
        body = build_cloud_event(runtime.settings, notification, subject.trace, holder=visitor.partner_id)
        return DeliveredMessage(view, body)


def find_message(runtime: Runtime, visitor: PartnerVisitor, notification_id: str) -> bytes | None:
    """Return the message with this CloudEvent id. None if the partner does not see it, or it was purged."""
    with runtime.db.read() as session:
        delivery_id = session.scalar(
            select(col(Delivery.id))
            .where(col(Delivery.notification_id) == notification_id, *_are_own(visitor))
            .limit(1)
        )
    return None if delivery_id is None else read_message(runtime, visitor, delivery_id).body


@dataclass(frozen=True)
class HandoffSummary:
    """A handoff in the list of a customs broker."""

    submission_id: str
    batch_id: str
    revision: int
    test: bool
    status: SubmissionState
    deadline_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True)
class HandoffList:
    """One page of handoffs; the clock of the test ones is `ahead`."""

    items: Sequence[HandoffSummary]
    next_cursor: str | None
    ahead: timedelta


def list_handoffs(
    runtime: Runtime, visitor: PartnerVisitor, *, after: str | None, limit: int, due: bool = False
) -> HandoffList:
    """Return a page of the handoffs to the partner, the last changed first, starting after the submission `after`.

    With `due`, those whose next answer has a deadline, the earliest deadline first. Raises NotFound.
    """
    place = col(BrokerSubmission.deadline_at if due else BrokerSubmission.updated_at), col(BrokerSubmission.id)
    with runtime.db.read() as session:
        wanted = _are_own_handoffs(visitor)
        if due:
            wanted.append(_IS_DUE)
        if after is not None:
            last = _find_submission(session, visitor, after)
            # One that was answered since has no deadline: the list begins again.
            reached = last.deadline_at if due else last.updated_at
            if reached is not None:
                wanted.append(tuple_(*place) > (reached, last.id) if due else tuple_(*place) < (reached, last.id))
        found = session.execute(
            select(BrokerSubmission, Export)
            .join(Export, col(Export.id) == col(BrokerSubmission.export_id))
            .where(*wanted)
            .order_by(*(place if due else [each.desc() for each in place]))
            .limit(limit + 1)
        ).all()
        ahead = read_ahead(session, visitor.account_id, test=any(export.test for _, export in found))
    items = [
        HandoffSummary(
            submission_id=row.id,
            batch_id=export.batch_id,
            revision=export.revision,
            test=export.test,
            status=SubmissionState(row.state),
            deadline_at=row.deadline_at,
            updated_at=row.updated_at,
        )
        for row, export in found[:limit]
    ]
    return HandoffList(items, items[-1].submission_id if len(found) > limit else None, ahead)


def count_due_handoffs(runtime: Runtime, visitor: PartnerVisitor) -> int:
    """Return how many handoffs to the partner have a deadline for its next answer, at most MAX_COUNTED + 1."""
    due = select(col(BrokerSubmission.id)).where(*_are_own_handoffs(visitor), _IS_DUE).limit(MAX_COUNTED + 1)
    with runtime.db.read() as session:
        return session.scalar(select(func.count()).select_from(due.subquery())) or 0


@dataclass(frozen=True)
class HandoffUnits:
    """Some units of a handoff, and their fields that an answer may name: JSON Pointers by readable name."""

    units: Sequence[HandedUnit]
    fields: Mapping[str, str]

    @property
    def documents(self) -> Sequence[ArtifactLink]:
        """The documents of the units, each once."""
        return list(list_documents(self.units).values())


@dataclass(frozen=True)
class PartnerHandoff:
    """A handoff: its status and answers, and the JSON of its message, which is None if it was purged."""

    submission: BrokerSubmissionView
    export_id: str
    batch_id: str
    revision: int
    test: bool
    ahead: timedelta  # of the account's test clock, in a test
    withdrawal: str | None  # why a person requested the withdrawal of the export
    state: ExportState
    is_reassigned: bool  # it is superseded, and another customs broker has the newest revision
    units_total: int
    message: str | None
    conversation: Sequence[ConversationItem]  # all answers, and the newest messages to the partner

    def read_units(self, shown: range) -> HandoffUnits:
        """Return the units of the message at these places, counted from 0."""
        # Each unit has a line, so that more units have too many for their fields. Of those, the last ones are not read.
        few = self.units_total <= MAX_DETAILED_LINES
        read = list(islice(self._iterate_units(), None if few else shown.stop))
        named = [_name_unit(place, unit) for place, unit in enumerate(read)]
        chosen = slice(shown.start, shown.stop)
        return HandoffUnits(
            [HandedUnit.model_validate(unit) for unit in read[chosen]],
            list_fields(named[chosen], alone=self.units_total == 1, detailed=few and can_detail(named)),
        )

    def find_unit(self, wanted: str) -> int | None:
        """Return the place of the first unit with this reference, package number or invoice number; None if there is none."""
        for place, unit in enumerate(self._iterate_units()):
            names = (unit["unitRef"], unit["packageNumber"], unit["invoice"]["number"])
            if wanted.casefold() in {name.casefold() for name in names}:
                return place
        return None

    def list_fields(self) -> dict[str, str]:
        """Return the fields of all units that an answer may name: JSON Pointers by readable name."""
        units = [_name_unit(place, unit) for place, unit in enumerate(self._iterate_units())]
        return list_fields(units, alone=len(units) == 1, detailed=can_detail(units))

    def list_packages(self) -> list[str]:
        """Return the numbers of all customs packages."""
        return [unit["packageNumber"] for unit in self._iterate_units()]

    def fold_entries(self, packages: Sequence[str]) -> list[EntryView]:
        """Return what the answers so far say about these customs packages."""
        answers = map(to_answer, self.submission.acknowledgements)
        return build_entry_views(fold_entries(packages, answers))

    def find_document(self, artifact_id: str) -> ArtifactLink | None:
        """Return the document with this id; None if the message has none."""
        for unit in self._iterate_units():
            for each in (unit["invoiceData"], *unit["artifacts"]):
                if each is not None and each["id"] == artifact_id:
                    return ArtifactLink.model_validate(each)
        return None

    def _iterate_units(self) -> Iterator[Mapping[str, Any]]:
        # Each is read when it is asked for: a page shows some of a thousand.
        return iterate_entries(self.message or "{}", "units")


def _name_unit(place: int, unit: Mapping[str, Any]) -> AnswerableUnit:
    return AnswerableUnit(place, unit["unitRef"], [line["sku"] for line in unit["lines"] or ()])


def read_handoff(runtime: Runtime, visitor: PartnerVisitor, submission_id: str) -> PartnerHandoff:
    """Return one handoff to the partner. Raises NotFound."""
    with runtime.db.read() as session:
        row = _find_submission(session, visitor, submission_id)
        export = session.get_one(Export, row.export_id)
        data = session.scalar(
            select(col(Notification.data)).where(
                col(Notification.export_id) == row.export_id,
                col(Notification.event_type) == MessageType.HANDOFF_READY.value,
            )
        )
        view = read_submission(session, visitor.account_id, submission_id, packages=())
        newest = read_newest(session, row.export_id).items
        withdrawal = find_request(session, export.id, export.withdrawal_seq)
        ahead = read_ahead(session, visitor.account_id, test=export.test)
        state = ExportState(export.state)
        is_reassigned = state is ExportState.SUPERSEDED and find_newest_broker(session, export) != row.partner_id
    if view is None:
        raise _no_handoff(submission_id)
    return PartnerHandoff(
        submission=view,
        export_id=export.id,
        batch_id=export.batch_id,
        revision=export.revision,
        test=export.test,
        ahead=ahead,
        withdrawal=None if withdrawal is None else withdrawal.reason,
        state=state,
        is_reassigned=is_reassigned,
        units_total=export.units_total,
        message=None if export.purged_at is not None else data,
        conversation=merge_answers(view, newest),
    )


def read_document(
    runtime: Runtime, visitor: PartnerVisitor, submission_id: str, artifact_id: str
) -> tuple[ArtifactLink, bytes]:
    """Return a document of a handoff to the partner. Raises NotFound, Purged and StoreUnavailable."""
    handoff = read_handoff(runtime, visitor, submission_id)
    if handoff.message is None:
        raise Purged.for_export(handoff.batch_id, "its documents are gone")
    if artifact_id.startswith(attachments.PREFIX):
        return attachments.read_for_broker(runtime, handoff.export_id, visitor.partner_id, artifact_id)
    link = handoff.find_document(artifact_id)
    if link is None:
        raise NotFound(f"handoff {submission_id} has no document {artifact_id}")
    return link, runtime.store.get(link.sha256)


def pack_documents(runtime: Runtime, visitor: PartnerVisitor, submission_id: str) -> tuple[str, Iterator[bytes]]:
    """Return the batch and the zip of a handoff's message and documents. Raises NotFound and Purged."""
    with runtime.db.read() as session:
        row = _find_submission(session, visitor, submission_id)
        export = session.get_one(Export, row.export_id)
        packed = gather_bundle(session, runtime.settings, export, to_partner=True)
    return export.batch_id, stream_bundle(runtime.store, packed)


def check_delivery(runtime: Runtime, visitor: PartnerVisitor, delivery_id: str) -> None:
    """Raise NotFound unless it is a delivery that the partner sees."""
    with runtime.db.read() as session:
        _find_delivery(session, visitor, delivery_id)


def _are_own(visitor: PartnerVisitor, *states: DeliveryState) -> list[ColumnElement[bool]]:
    """Return the conditions of the partner's deliveries in these states, by default in all that it sees."""
    wanted = [
        col(Delivery.account_id) == visitor.account_id,
        col(Delivery.partner_id) == visitor.partner_id,
        col(Delivery.state).in_([index_constant(state) for state in states or SHOWN_STATES]),
        _reaches_partner(visitor, col(Delivery.subject_id), may_be_plan=True),
    ]
    undelivered = states and DeliveryState.DELIVERED not in states
    return [*wanted, IS_UNDELIVERED] if undelivered else wanted


def _are_own_handoffs(visitor: PartnerVisitor) -> list[ColumnElement[bool]]:
    """Return the conditions of the handoffs to the partner whose message it sees."""
    is_sent = exists().where(
        col(Delivery.subject_id) == col(BrokerSubmission.export_id),
        col(Delivery.partner_id) == col(BrokerSubmission.partner_id),
        col(Delivery.state).in_([state.value for state in SHOWN_STATES]),
    )
    return [
        col(BrokerSubmission.account_id) == visitor.account_id,
        col(BrokerSubmission.partner_id) == visitor.partner_id,
        is_sent,
        _reaches_partner(visitor, col(BrokerSubmission.export_id)),
    ]


def _reaches_partner(
    visitor: PartnerVisitor, subject_id: Mapped[str], *, may_be_plan: bool = False
) -> ColumnElement[bool]:
    if visitor.test:
        return true()
    # An alias: a query that joins the export must not take its row for this one. A scalar, which PostgreSQL looks up for
    # each row of a page; for EXISTS, it may read all exports.
    reached, plan = aliased(Export), aliased(PlanSnapshot)
    is_test = select(col(reached.test)).where(col(reached.id) == subject_id).scalar_subquery()
    if not may_be_plan:
        return is_test.is_(False)
    of_plan = select(col(plan.test)).where(col(plan.id) == subject_id).scalar_subquery()
    return func.coalesce(is_test, of_plan).is_(False)


def _find_delivery(session: Session, visitor: PartnerVisitor, delivery_id: str) -> Delivery:
    row = session.scalars(select(Delivery).where(col(Delivery.id) == delivery_id, *_are_own(visitor))).first()
    if row is None:
        raise NotFound(f"you have no delivery with the id {delivery_id}; the page Deliveries lists yours")
    return row


def _find_submission(session: Session, visitor: PartnerVisitor, submission_id: str) -> BrokerSubmission:
    row = session.scalars(
        select(BrokerSubmission).where(col(BrokerSubmission.id) == submission_id, *_are_own_handoffs(visitor))
    ).first()
    if row is None:
        raise _no_handoff(submission_id)
    return row


def _no_handoff(submission_id: str) -> NotFound:
    return NotFound(f"you have no handoff with the id {submission_id}; the page Handoffs lists yours")
