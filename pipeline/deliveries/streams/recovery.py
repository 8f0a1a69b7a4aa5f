"""Recovery of a partner that can take messages again: what waits for a later time is due now.

The circuit breaker and the sweep's limit spread the messages over time.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import partners
from pipeline.accounts.schemas import PartnerChanges, PartnerView
from pipeline.accounts.states import PartnerState
from pipeline.core.db import database_now, row_count
from pipeline.core.errors import InvalidState
from pipeline.core.lease_columns import is_free, waits_for_retry
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.outcomes import IS_UNDELIVERED, delivery_is
from pipeline.deliveries.streams.circuit_breaker import EndpointKey
from pipeline.deliveries.streams.streams import pending_in_stream
from pipeline.exports.audit_trail import Action
from pipeline.exports.states import DeliveryState


def resume_partner(
    runtime: Runtime, account_id: str, partner_id: str, *, test_only: bool = False, actor: str | None = None
) -> PartnerView:
    """Resume a paused partner; what waits for it is due now. Raises NotFound, InvalidState if it is not paused."""
    with runtime.db.write() as session:
        partners.lock_partner(session, account_id, partner_id, test_only=test_only)
        if not partners.change_state(session, account_id, partner_id, PartnerState.LIVE, only_from=PartnerState.PAUSED):
            raise InvalidState(f"{partner_id} is not paused")
        make_partner_due(session, runtime.settings, account_id, partner_id)
        partners.record_partner_act(session, account_id, actor, Action.PARTNER_RESUMED, partner_id)
        session.expire_all()
        return partners.load_partner(session, account_id, partner_id)


def update_partner(
    runtime: Runtime,
    account_id: str,
    partner_id: str,
    changes: PartnerChanges,
    *,
    test_only: bool = False,
    read_at: datetime | None = None,
    actor: str | None = None,
) -> PartnerView:
    """Apply `changes` as `partners.apply_changes`, which raises; if its endpoints change, what waits for it is due now."""
    with runtime.db.write() as session:
        changed = partners.apply_changes(
            session,
            runtime.settings,
            account_id,
            partner_id,
            changes,
            test_only=test_only,
            read_at=read_at,
            actor=actor,
        )
        if changes.channels is not None:
            make_partner_due(session, runtime.settings, account_id, partner_id)
        return changed


def make_partner_due(session: Session, settings: Settings, account_id: str, partner_id: str) -> int:
    """Make the partner's pending deliveries due now that no worker holds. Return their number."""
    return _make_due(session, settings, *_of_partner(account_id, partner_id))


def make_endpoint_due(session: Session, settings: Settings, endpoint: EndpointKey) -> int:
    """Make the retries due now that wait for this endpoint. Return their number.

    The messages behind them in their streams are sent with them.
    """
    of_endpoint = (*_of_partner(endpoint.account_id, endpoint.partner_id), col(Delivery.channel) == endpoint.channel)
    return _make_due(session, settings, *of_endpoint, waits_for_retry(Delivery))


def make_stream_due(session: Session, settings: Settings, stream: DeliveryStream) -> int:
    """Make the stream's pending deliveries due now that no worker holds. Return their number."""
    return _make_due(session, settings, *pending_in_stream(stream))


def _of_partner(account_id: str, partner_id: str) -> Sequence[ColumnElement[bool]]:
    return col(Delivery.account_id) == account_id, col(Delivery.partner_id) == partner_id, IS_UNDELIVERED


def _make_due(session: Session, settings: Settings, *conditions: ColumnElement[bool]) -> int:
    found = session.execute(
        update(Delivery)
        # A delivery that a sweep has published is due soon anyway, and its age stays known.
        .where(*conditions, delivery_is(DeliveryState.PENDING), col(Delivery.stalled_since).is_(None))
        # A claim meanwhile changes `due_at`: PostgreSQL checks these conditions again when it has the row's lock.
        .where(col(Delivery.due_at) > database_now(), is_free(Delivery, settings.lease_seconds))
        .values(due_at=database_now())
        .execution_options(synchronize_session=False)
    )
    return row_count(found)
