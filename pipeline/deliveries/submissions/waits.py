"""When the next status of a submission is due: a time after the previous one, or a lead before the arrival if that is sooner."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Float, String, func, literal, select

from config.settings import Settings
from pipeline.core.columns import json_number
from pipeline.core.db import Instant, database_deadline, table
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.models import Account
from pipeline.exports.states import SubmissionState

#: Status -> the lead of the next one, as accounts name it.
_LEADS: Final[Mapping[SubmissionState, str]] = {
    SubmissionState.DELIVERED: "received",
    SubmissionState.RECEIVED: "answered",
    SubmissionState.ACCEPTED: "filed",
    SubmissionState.WITHDRAWING: "answered",
    SubmissionState.FILED: "released",
}

_submissions, _accounts = table(BrokerSubmission).c, table(Account).c


@dataclass(frozen=True)
class Arrival:
    """An arrival as SQL: whose goods, when, by which mode of transport, and how far the clock is ahead that counts."""

    account_id: ColumnElement[Any]
    at: ColumnElement[Any]
    by: ColumnElement[Any]
    ahead_seconds: ColumnElement[Any]


def read_ahead(test_account_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return by how many seconds the test clock of the account is ahead, as SQL; 0 without an account.

    The statement that decides by the clock reads it, so it is the newest value and costs no statement.
    """
    of_account = select(_accounts.test_clock_seconds).where(_accounts.id == test_account_id)
    return func.coalesce(of_account.scalar_subquery(), 0)


#: The seconds by which the clock of the submission that a statement changes is ahead.
AHEAD: Final = read_ahead(_submissions.test_account_id)

#: That of the submission that a statement changes.
ARRIVAL: Final = Arrival(_submissions.account_id, _submissions.arrives_at, _submissions.arrives_by, AHEAD)


def find_wait(settings: Settings, status: SubmissionState) -> tuple[float, float | None] | None:
    """Return how long after `status` the next one is due, and how long before the arrival; None if none is expected.

    An account may have a lead of its own instead of the second.
    """
    return {
        SubmissionState.PENDING: (settings.deadline_delivered_seconds, None),
        SubmissionState.SENT: (settings.deadline_delivered_seconds, None),
        SubmissionState.DELIVERED: (settings.deadline_received_seconds, settings.lead_received_seconds),
        SubmissionState.RECEIVED: (settings.deadline_answered_seconds, settings.lead_answered_seconds),
        SubmissionState.ACCEPTED: (settings.deadline_filed_seconds, settings.lead_filed_seconds),
        SubmissionState.WITHDRAWING: (settings.deadline_answered_seconds, settings.lead_answered_seconds),
        SubmissionState.FILED: (settings.deadline_released_seconds, settings.lead_released_seconds),
    }.get(status)


def status_deadline(
    settings: Settings,
    status: SubmissionState,
    account_id: str,
    arrives_at: datetime | None,
    arrives_by: str | None,
    *,
    test: bool = False,
) -> ColumnElement[datetime] | None:
    """Return the deadline of the status after `status` for goods that arrive then, or None if none is expected.

    In a `test` export, the test clock of the account counts.
    """
    ahead = read_ahead(literal(account_id)) if test else literal(0.0, Float())
    arrival = Arrival(literal(account_id), literal(arrives_at, Instant()), literal(arrives_by, String()), ahead)
    return find_deadline(settings, status, arrival)


def find_deadline(
    settings: Settings, status: SubmissionState | None, arrival: Arrival = ARRIVAL, *, elapsed: float = 0.0
) -> ColumnElement[datetime] | None:
    """Return the deadline of the status after `status`, or None if none is expected; `elapsed` seconds are over."""
    wait = None if status is None else find_wait(settings, status)
    if status is None or wait is None:
        return None
    return build_deadline(status, literal(wait[0] - elapsed, Float()), literal(wait[1], Float()), arrival)


def build_deadline(
    status: SubmissionState, after: ColumnElement[Any], lead: ColumnElement[Any], arrival: Arrival = ARRIVAL
) -> ColumnElement[datetime]:
    """Return the deadline of the status after `status`, from the seconds of `find_wait`."""
    return database_deadline(after, arrival.at, _choose_lead(status, lead, arrival), arrival.ahead_seconds)


def _choose_lead(status: SubmissionState, lead: ColumnElement[Any], arrival: Arrival) -> ColumnElement[Any]:
    """Return the account's own lead if it has one, else `lead`.

    The statement that writes the deadline reads it, so it is the newest one and costs no statement.
    """
    if status not in _LEADS:
        return lead
    own = select(json_number(_accounts.deadline_leads, arrival.by, literal(_LEADS[status])) * 60.0)
    return func.coalesce(own.where(_accounts.id == arrival.account_id).scalar_subquery(), lead)
