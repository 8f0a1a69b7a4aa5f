"""Polls customs brokers for answers: files on their SFTP servers, and the borderbuddy endpoint."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final

import structlog
from sqlalchemy import ColumnElement, Select, and_, case, exists, or_, select, tuple_, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import recipients
from pipeline.accounts.channels import CHANNEL_KINDS
from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.recipients import BORDERBUDDY, Target
from pipeline.accounts.states import PartnerState
from pipeline.core import installation
from pipeline.core.bulkhead import Bulkhead, BulkheadLimits
from pipeline.core.db import database_now, statement_now
from pipeline.core.errors import (
    ChannelRefused,
    ChannelUnavailable,
    InvalidRequest,
    InvalidState,
    NotFound,
    Purged,
    Refused,
    SecretUnreadable,
)
from pipeline.core.json_input import parse_json
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.borderbuddy import BorderBuddyChannel
from pipeline.deliveries.channels.protocol import AnswerFile, Answers, PollableChannel
from pipeline.deliveries.channels.registry import open_channels
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.views import SentAcknowledgement
from pipeline.deliveries.streams import circuit_breaker
from pipeline.deliveries.streams.sender import endpoint_limits
from pipeline.deliveries.submissions import broker_answers, submissions
from pipeline.deliveries.submissions.sent_answers import ReadAttachment, receive_sent_answer
from pipeline.exports.models import Export
from pipeline.exports.states import UNANSWERED_STATES, SubmissionState

log = structlog.get_logger(__name__)

#: After the broker's first answer, entry and release take hours or days; after a release, a hold is rare. So polls are
#: this many times rarer.
_ANSWERED_FACTOR: Final = 60
_RELEASED_FACTOR: Final = 360
_DAY_SECONDS: Final = 86_400


#: Only one thread of a process polls the borderbuddy endpoint at a time, for any number of handoffs.
ENDPOINT_POLLERS: Final[Bulkhead[str, str]] = Bulkhead()
_ONE: Final = BulkheadLimits(per_destination=1, unhealthy=1)

#: Only one thread reads a folder at a time, and unhealthy servers get a limited number. Keys are account and partner.
FOLDER_POLLERS: Final[Bulkhead[tuple[str, str], None]] = Bulkhead()


@dataclass(frozen=True)
class Poll:
    """What to poll: a partner's server by one of its channels, or the borderbuddy endpoint for one submission."""

    account_id: str
    partner_id: str
    channel: str
    submission_id: str | None = None


@dataclass(frozen=True)
class PollResult:
    """The numbers of answers of one poll. `ignored` counts entries of the folder that are not answers."""

    recorded: int = 0
    repeated: int = 0
    refused: int = 0
    ignored: int = 0


def take_due_polls(runtime: Runtime) -> list[Poll]:
    """Return the due polls and mark them as polled, so that concurrent sweeps do not return them too."""
    if not installation.may_send(runtime):
        return []
    with runtime.db.write() as session:
        return _take_due_folders(session, runtime.settings) + _take_due_submissions(session, runtime.settings)


def poll_folder(runtime: Runtime, account_id: str, partner_id: str, channel: str) -> PollResult:
    """Record the answers that the channel finds on the partner's server, and move each file away.

    Nothing is read while another thread of this process reads the folder, or if unhealthy servers hold all their
    threads. Only answers to submissions of this account and partner are accepted. A file that was recorded but not
    moved, because the process died, is recorded again without effect. A file that is not an answer is refused
    with the reason. It raises only DatabaseBusy: an unreachable server is polled again later.
    """
    with structlog.contextvars.bound_contextvars(partner_id=partner_id, channel=channel):
        with runtime.db.read() as session:
            sealed = recipients.find_sealed_target(session, account_id, partner_id, channel, test_export=False)
            breaker = circuit_breaker.load_breaker_states(session, account_id, partner_id).get(channel)
        reader = open_channels(runtime.settings).get(channel)
        if sealed is None or not isinstance(reader, PollableChannel):
            return PollResult()
        limits = replace(endpoint_limits(runtime.settings), per_destination=1)
        unhealthy = breaker is not None and breaker.failures > 0
        slot = FOLDER_POLLERS.acquire((account_id, partner_id), limits, unhealthy=unhealthy)
        if slot is None:
            return PollResult()
        result = PollResult()
        try:
            target = sealed.unseal(runtime.settings)
            with reader.open_answers(target) as folder:
                listed = folder.list_files()
                result = PollResult(ignored=listed.ignored)
                for each in listed.names:
                    result = _process_file(runtime, target, folder, each, result)
        except (ChannelUnavailable, ChannelRefused, SecretUnreadable) as error:
            log.warning("answers_not_read", reason=str(error))
        finally:
            FOLDER_POLLERS.release(slot)
        if result.ignored:
            log.warning("answer_files_ignored", count=result.ignored)
        if result.recorded or result.repeated or result.refused:
            log.info("answers_read", recorded=result.recorded, repeated=result.repeated, refused=result.refused)
        return result


def poll_endpoint(runtime: Runtime, submission_id: str) -> PollResult:
    """Record the borderbuddy endpoint's answers to the submission so far. Raises only DatabaseBusy.

    If another thread of this process is polling the endpoint, that thread polls this submission next.
    """
    results = ENDPOINT_POLLERS.run(BORDERBUDDY, submission_id, _ONE, lambda each: _poll_submission(runtime, each))
    return PollResult(
        recorded=sum(result.recorded for result in results),
        repeated=sum(result.repeated for result in results),
        refused=sum(result.refused for result in results),
    )


def _poll_submission(runtime: Runtime, submission_id: str) -> PollResult:
    with runtime.db.read() as session:
        row = session.get(BrokerSubmission, submission_id)
        export = None if row is None else session.get(Export, row.export_id)
        if row is None or export is None or row.handoff_id is None:
            return PollResult()
        sealed = recipients.find_sealed_target(
            session, row.account_id, row.partner_id, row.channel, test_export=export.test
        )
    if sealed is None:
        return PollResult()
    with structlog.contextvars.bound_contextvars(submission_id=submission_id, partner_id=row.partner_id):
        try:
            answers = BorderBuddyChannel(runtime.settings).fetch_answers(
                row.handoff_id, sealed.unseal(runtime.settings)
            )
        except (ChannelUnavailable, ChannelRefused, SecretUnreadable) as error:
            log.warning("answers_not_read", reason=str(error))
            return PollResult()
        result = PollResult()
        for each in answers:
            try:
                receipt = broker_answers.receive_answer(
                    runtime, row.id, each, f"partner:{row.partner_id}", fetched=True
                )
            except Purged as purged:
                log.warning("answers_dropped", reason=str(purged))
                return PollResult()
            except InvalidState as refused:
                log.warning("answer_refused", reason=str(refused))
                result = replace(result, refused=result.refused + 1)
            else:
                result = _count_receipt(result, recorded=receipt.recorded)
    if result.recorded:
        _poll_soon(runtime, submission_id)
    return result


def _poll_soon(runtime: Runtime, submission_id: str) -> None:
    """Poll again after one interval: more may follow the news, and the status may be another one."""
    of_submission = col(BrokerSubmission.id) == submission_id, col(BrokerSubmission.polled_at) > database_now()
    with runtime.db.write() as session:
        session.execute(update(BrokerSubmission).where(*of_submission).values(polled_at=database_now()))


def _count_receipt(result: PollResult, *, recorded: bool) -> PollResult:
    if recorded:
        return replace(result, recorded=result.recorded + 1)
    return replace(result, repeated=result.repeated + 1)


def _take_due_folders(session: Session, settings: Settings) -> list[Poll]:
    found = session.execute(_take_folders(settings)).all()
    # Checked once per poll, not once per sweep: most partners rarely have open submissions.
    return [Poll(*row) for row in found if session.scalar(_select_open_submission(settings, *row[:2])) is not None]


@lru_cache(maxsize=1)
def _take_folders(settings: Settings) -> ReturningUpdate[str, str, str]:
    """Return the statement that marks the due folders as polled and returns their accounts, partners and channels."""
    key_columns = (col(PartnerChannel.account_id), col(PartnerChannel.partner_id), col(PartnerChannel.channel))
    sent_to = exists().where(
        col(Partner.account_id) == col(PartnerChannel.account_id),
        col(Partner.id) == col(PartnerChannel.partner_id),
        col(Partner.state) != PartnerState.PAUSED.value,
    )
    polled_at = col(PartnerChannel.polled_at)
    ready = and_(
        col(PartnerChannel.channel).in_([each.name for each in CHANNEL_KINDS.values() if each.pollable]),
        or_(polled_at.is_(None), polled_at <= database_now(-settings.partner_poll_seconds)),
        or_(col(PartnerChannel.open_until).is_(None), ~circuit_breaker.is_open()),
        sent_to,
    )
    return (
        update(PartnerChannel)
        .where(tuple_(*key_columns).in_(select(*key_columns).where(ready).limit(settings.sweep_limit)), ready)
        .values(polled_at=database_now())
        .returning(*key_columns)
        .execution_options(synchronize_session=False)
    )


def _select_open_submission(settings: Settings, account_id: str, partner_id: str) -> Select[str]:
    return (
        select(col(BrokerSubmission.id))
        .where(
            col(BrokerSubmission.account_id) == account_id,
            col(BrokerSubmission.partner_id) == partner_id,
            _is_open(settings),
        )
        .limit(1)
    )


def _take_due_submissions(session: Session, settings: Settings) -> list[Poll]:
    return [Poll(*row) for row in session.execute(_take_submissions(settings))]


@lru_cache(maxsize=1)
def _take_submissions(settings: Settings) -> ReturningUpdate[str, str, str, str]:
    """Return the statement that marks the due submissions as polled and returns the columns of a `Poll`."""
    state, polled_at = col(BrokerSubmission.state), col(BrokerSubmission.polled_at)
    interval = settings.partner_poll_seconds
    # One that is polled less often counts as polled in the future, so that the index finds only those that are due.
    counts_as_polled = case(
        (state.in_(UNANSWERED_STATES), database_now()),
        (state == SubmissionState.RELEASED.value, database_now(interval * (_RELEASED_FACTOR - 1))),
        else_=database_now(interval * (_ANSWERED_FACTOR - 1)),
    )
    ready = and_(
        col(BrokerSubmission.channel) == BORDERBUDDY,
        col(BrokerSubmission.handoff_id).is_not(None),
        polled_at <= statement_now(-interval),
        polled_at > _poll_cutoff(settings),
        _is_open(settings),
    )
    return (
        update(BrokerSubmission)
        .where(
            col(BrokerSubmission.id).in_(
                select(col(BrokerSubmission.id)).where(ready).order_by(polled_at).limit(settings.sweep_limit)
            ),
            ready,
        )
        .values(polled_at=counts_as_polled)
        .returning(
            col(BrokerSubmission.account_id),
            col(BrokerSubmission.partner_id),
            col(BrokerSubmission.channel),
            col(BrokerSubmission.id),
        )
        .execution_options(synchronize_session=False)
    )


def _is_open(settings: Settings) -> ColumnElement[bool]:
    """Return the condition that a submission was sent and can still be answered."""
    was_sent = col(BrokerSubmission.state) != SubmissionState.PENDING.value
    return and_(was_sent, col(BrokerSubmission.updated_at) > _poll_cutoff(settings))


def _poll_cutoff(settings: Settings) -> statement_now:
    return statement_now(-settings.partner_poll_days * _DAY_SECONDS)


def _process_file(runtime: Runtime, target: Target, folder: Answers, name: str, result: PollResult) -> PollResult:
    file = folder.read_file(name)
    if file is None:
        return result
    named: list[str] = []
    try:
        recorded = _record_file(runtime, target, file, lambda each: _read_attachment(folder, each, named))
    except Refused as refused:
        reason = str(refused)
        log.warning("answer_file_refused", file=name, code=refused.code)
        _try_move(lambda: folder.move_to_refused(name, reason), name)
        return replace(result, refused=result.refused + 1)
    if _try_move(lambda: folder.move_to_done(name), name):
        # The answer goes first: one that is read again needs its files.
        for each in dict.fromkeys(named):
            _try_move(partial(folder.move_to_done, each), each)
    result = replace(result, ignored=max(result.ignored - len(set(named)), 0))
    return _count_receipt(result, recorded=recorded)


def _read_attachment(folder: Answers, name: str, taken: list[str]) -> bytes:
    """Return the bytes of a file beside an answer, and note its name. Raises InvalidRequest."""
    file = folder.read_attachment(name)
    if file is None:
        raise InvalidRequest(f"the file {name} is not beside the answer; write it to the folder, then the answer again")
    if file.problem is not None:
        raise InvalidRequest(f"the file {name!r} was not taken: {file.problem}")
    taken.append(name)
    return file.body


def _record_file(runtime: Runtime, target: Target, file: AnswerFile, read_attachment: ReadAttachment) -> bool:
    """Record the answer in the file. Return whether it is new. Raises Refused if the file is not an answer."""
    if file.problem is not None:
        raise InvalidRequest(file.problem)
    sent = parse_json(file.body, SentAcknowledgement, max_depth=runtime.settings.max_json_depth).model
    with runtime.db.read() as session:
        submission = submissions.find_submission(session, sent.submission_id)
    if (submission.account_id, submission.partner_id) != (target.account_id, target.partner_id):
        # Do not reveal submissions of others: they look unknown.
        raise NotFound(f"there is no broker submission {sent.submission_id}")
    actor = f"partner:{target.partner_id}"
    return receive_sent_answer(runtime, submission, sent, actor, read_attachment=read_attachment).recorded


def _try_move(move: Callable[[], None], name: str) -> bool:
    try:
        move()
    except ChannelUnavailable as error:
        # The answer is recorded anyway. The next poll records it again without effect.
        log.warning("answer_file_not_moved", file=name, reason=str(error))
        return False
    return True
