"""Partners of an account: customs brokers, warehouses, operators and upstream services, and the endpoints of each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts import endpoints, secrets
from pipeline.accounts.models import ConnectionTest, Partner, PartnerChannel
from pipeline.accounts.partner_documents import check_documents, choose_own_file, split_own_file
from pipeline.accounts.recipients import SANDBOX, build_routing_key, default_channel
from pipeline.accounts.schemas import (
    ConnectionTestView,
    CreatedPartner,
    NewPartner,
    PartnerChanges,
    PartnerTested,
    PartnerView,
)
from pipeline.accounts.states import PARTNER_MOVES, PartnerState, describe_activation
from pipeline.core.db import database_now, row_count
from pipeline.core.errors import (
    ASK_FOR_LIVE,
    InsufficientRole,
    InvalidState,
    NotFound,
    PreconditionFailed,
    ValidationFailed,
)
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.schemas.plan import as_json
from pipeline.exports.states import source_states

#: Fields of a change whose column has another name, and fields that null clears.
_COLUMNS = {"artifactTypes": "artifact_types"}
_NULLABLE = frozenset({"artifactTypes", "profile"})

#: The console's page of a new partner has this name in the place of an id.
NEW: Final = "new"


def create_partner(
    runtime: Runtime, account_id: str, new: NewPartner, *, test_only: bool = False, actor: str | None = None
) -> CreatedPartner:
    """Register a partner and return it with its signing secret, which is shown only once.

    The audit trail records the act of `actor`, here and below: the id of a person or a key, or COMMAND_LINE. Raises ValidationFailed if the id is taken or the channels do not fit the partner. Raises InsufficientRole if
    `test_only` and the partner is not marked test.
    """
    if test_only and not new.test:
        raise InsufficientRole(
            f"test mode registers only partners that are marked test; mark it test, or {ASK_FOR_LIVE}", field="/test"
        )
    endpoints.check_endpoints(runtime.settings, new.kind, new.path, new.channels, field="/channels")
    own_file = choose_own_file(new)
    check_documents(new.kind, new.artifact_types, own_file)
    if new.id in (account_id, SANDBOX, NEW):
        raise ValidationFailed(f"the id {new.id} is reserved; choose another id", field="/id")
    secret = secrets.generate_secret()
    try:
        with runtime.db.write() as session:
            endpoints.check_mailboxes(session, account_id, new.channels, field="/channels")
            session.execute(
                insert(Partner).values(
                    account_id=account_id,
                    id=new.id,
                    kind=new.kind,
                    name=new.name,
                    state=(PartnerState.LIVE if new.live else PartnerState.DRAFT).value,
                    test=new.test,
                    path=(new.path or "byob") if new.kind == "customs_broker" else None,
                    artifact_types=new.artifact_types,
                    profile=None if own_file is None else as_json(own_file),
                )
            )
            if new.kind != "operator":
                _take_routing_name(session, account_id, new)
            secrets.store_secret(session, runtime.settings, account_id, new.id, secret)
            default = default_channel(new.kind, new.path)
            endpoints.replace_endpoints(session, runtime.settings, account_id, new.id, new.channels, default)
            created = load_partner(session, account_id, new.id)
            record_partner_act(session, account_id, actor, Action.PARTNER_CREATED, new.id)
    except IntegrityError as error:
        raise ValidationFailed(f"partner {new.id} exists already; choose another id", field="/id") from error
    return CreatedPartner(**dict(created), secret=secret)


def _take_routing_name(session: Session, account_id: str, new: NewPartner) -> None:
    """Set the partner's name in routing keys: its id, or account and id if another account's partner has that name.

    Ids contain no colon, so the longer name is unique. Other accounts' rows are invisible: the constraint decides.
    """
    named = update(Partner).where(col(Partner.account_id) == account_id, col(Partner.id) == new.id)
    try:
        with session.begin_nested():
            session.execute(named.values(routing_name=new.id))
    except IntegrityError:
        session.execute(named.values(routing_name=f"{account_id}:{new.id}"))


def list_partners(runtime: Runtime, account_id: str, *, after: str = "", limit: int | None = None) -> list[PartnerView]:
    """Return the account's partners in the order of ids: all, or at most `limit`, those after the id `after`."""
    with runtime.db.read() as session:
        wanted = select(Partner).where(col(Partner.account_id) == account_id, col(Partner.id) > after)
        rows = session.scalars(wanted.order_by(col(Partner.id)).limit(limit)).all()
        of_rows = [] if limit is None else [col(PartnerChannel.partner_id).in_([row.id for row in rows])]
        channels: dict[str, list[PartnerChannel]] = defaultdict(list)
        for channel in session.scalars(
            select(PartnerChannel)
            .where(col(PartnerChannel.account_id) == account_id, *of_rows)
            .order_by(col(PartnerChannel.position))
        ):
            channels[channel.partner_id].append(channel)
        tests = _load_newest_tests(session, account_id, rows)
        return [_to_view(row, channels[row.id], tests.get(row.id)) for row in rows]


def get_partner(runtime: Runtime, account_id: str, partner_id: str) -> PartnerView:
    """Return one partner. Raises NotFound."""
    with runtime.db.read() as session:
        return load_partner(session, account_id, partner_id)


def apply_changes(
    session: Session,
    settings: Settings,
    account_id: str,
    partner_id: str,
    changes: PartnerChanges,
    *,
    test_only: bool = False,
    read_at: datetime | None = None,
    actor: str | None = None,
) -> PartnerView:
    """Apply `changes` in the caller's transaction. A verified partner with new endpoints must be tested again.

    `read_at` is the `updated_at` of the partner that the caller saw; if it has changed since, nothing is applied. Raises
    NotFound, PreconditionFailed, and ValidationFailed if the channels do not fit the partner. Raises InsufficientRole if
    `test_only` and the partner is not marked test, or would lose the mark.
    """
    row = lock_partner(session, account_id, partner_id, test_only=test_only)
    if read_at is not None and row.updated_at != read_at:
        raise PreconditionFailed(
            f"{partner_id} was changed at {row.updated_at:%Y-%m-%d %H:%M:%S} UTC, after this form was opened; compare"
            " the values, then save again"
        )
    if test_only and changes.test is False:
        raise InsufficientRole(f"test mode cannot remove the mark test; {ASK_FOR_LIVE}", field="/test")
    path = changes.path or row.path
    if changes.channels is not None:
        endpoints.check_endpoints(settings, row.kind, path, changes.channels, field="/channels")
        endpoints.check_mailboxes(session, account_id, changes.channels, field="/channels")
    own_file = choose_own_file(changes)
    check_documents(row.kind, changes.artifact_types, own_file)
    wanted = changes.model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude={"channels", "profile", "message_profile"}
    )
    if changes.model_fields_set & {"profile", "message_profile"}:
        wanted["profile"] = None if own_file is None else as_json(own_file)
    values = {
        _COLUMNS.get(name, name): value for name, value in wanted.items() if value is not None or name in _NULLABLE
    }
    endpoints_changed = {} if changes.channels is None else {"endpoints_changed_at": database_now()}
    session.execute(
        update(Partner)
        .where(col(Partner.account_id) == account_id, col(Partner.id) == partner_id)
        .values(updated_at=database_now(), **(values | endpoints_changed))
    )
    if changes.channels is not None:
        default = default_channel(row.kind, path)
        endpoints.replace_endpoints(session, settings, account_id, partner_id, changes.channels, default)
        change_state(session, account_id, partner_id, PartnerState.TESTING, only_from=PartnerState.VERIFIED)
    changed = {"fields": ", ".join(sorted(changes.model_fields_set))}
    record_partner_act(session, account_id, actor, Action.PARTNER_CHANGED, partner_id, changed)
    session.expire_all()
    return load_partner(session, account_id, partner_id)


def activate_partner(
    runtime: Runtime, account_id: str, partner_id: str, *, test_only: bool = False, actor: str | None = None
) -> PartnerView:
    """Activate a partner whose endpoints all passed the connection test, so that live exports reach it.

    Raises NotFound, InvalidState if the partner is not verified, and InsufficientRole if `test_only` and it is not
    marked test. `pause_partner` and `resume` also raise InsufficientRole in that case.
    """
    with runtime.db.write() as session:
        row = lock_partner(session, account_id, partner_id, test_only=test_only)
        if not change_state(session, account_id, partner_id, PartnerState.LIVE, only_from=PartnerState.VERIFIED):
            raise InvalidState(
                f"{partner_id} is {row.state}; {describe_activation(account_id, partner_id, PartnerState(row.state))}"
            )
        record_partner_act(session, account_id, actor, Action.PARTNER_ACTIVATED, partner_id)
        session.expire_all()
        return load_partner(session, account_id, partner_id)


def pause_partner(
    runtime: Runtime, account_id: str, partner_id: str, *, test_only: bool = False, actor: str | None = None
) -> PartnerView:
    """Stop sending to the partner until it is resumed. Pending messages are kept.

    Raises NotFound, and InvalidState if the partner was never live.
    """
    with runtime.db.write() as session:
        row = lock_partner(session, account_id, partner_id, test_only=test_only)
        if change_state(session, account_id, partner_id, PartnerState.PAUSED):
            record_partner_act(session, account_id, actor, Action.PARTNER_PAUSED, partner_id)
        elif row.state != PartnerState.PAUSED.value:
            raise InvalidState(f"{partner_id} is {row.state}; only a live partner can be paused")
        session.expire_all()
        return load_partner(session, account_id, partner_id)


def change_state(
    session: Session, account_id: str, partner_id: str, to: PartnerState, *, only_from: PartnerState | None = None
) -> bool:
    """Move the partner to a state if the move is legal, in the caller's transaction. Return whether it moved."""
    origins = source_states(PARTNER_MOVES, to) if only_from is None else [only_from]
    moved = session.execute(
        update(Partner)
        .where(
            col(Partner.account_id) == account_id,
            col(Partner.id) == partner_id,
            col(Partner.state).in_([origin.value for origin in origins]),
        )
        .values(state=to.value, updated_at=database_now())
        .execution_options(synchronize_session=False)
    )
    return row_count(moved) == 1


def rotate_secret(
    runtime: Runtime,
    account_id: str,
    partner_id: str,
    overlap_hours: int,
    *,
    test_only: bool = False,
    newest: int | None = None,
    actor: str | None = None,
) -> secrets.Rotation:
    """Give the partner a new signing secret, and return it with those that stay valid for `overlap_hours`.

    `newest` is the number of the newest secret that the caller saw, 0 if there was none, so that the same form cannot rotate twice. Raises
    NotFound, InvalidState if there is a newer secret, and InsufficientRole if `test_only` and the partner is not marked
    test.
    """
    secret = secrets.generate_secret()
    with runtime.db.write() as session:
        lock_partner(session, account_id, partner_id, test_only=test_only)
        known = [each.number for each in secrets.list_secrets(session, account_id, partner_id)]
        if newest is not None and newest != max(known, default=0):
            raise InvalidState(
                f"the secret of {partner_id} was rotated after this page was opened, and was shown only then; open the page"
                " again to see which secrets are valid"
            )
        ends_at = secrets.expire_secrets(session, account_id, partner_id, overlap_hours * 3600)
        older = secrets.load_older_secrets(session, runtime.settings, account_id, partner_id)
        secrets.store_secret(session, runtime.settings, account_id, partner_id, secret)
        detail = {"overlapHours": overlap_hours}
        record_partner_act(session, account_id, actor, Action.SIGNING_SECRET_ROTATED, partner_id, detail)
    return secrets.Rotation(partner_id, secret, ends_at, older)


def record_partner_act(
    session: Session,
    account_id: str,
    actor: str | None,
    action: Action,
    partner_id: str,
    detail: Mapping[str, str | int] | None = None,
) -> None:
    """Write an act on a partner to the account's audit trail, unless `actor` is None."""
    if actor is not None:
        record_act(session, account_id, actor, action, partner_id, detail)


def apply_test_result(session: Session, account_id: str, partner_id: str, test_id: str) -> PartnerTested:
    """Move the partner by a connection test that was just stored, in the caller's transaction, and return both.

    A live or paused partner does not move. A test moves nothing if a newer test exists or the endpoints have changed.
    """
    row = lock_partner(session, account_id, partner_id)
    result = _to_test_view(session.get_one(ConnectionTest, test_id), row)
    if not result.outdated and _load_newest_tests(session, account_id, [row])[partner_id].id == test_id:
        change_state(session, account_id, partner_id, PartnerState.VERIFIED if result.passed else PartnerState.TESTING)
        session.refresh(row)
    return PartnerTested(**dict(result), state=PartnerState(row.state))


def lock_partner(session: Session, account_id: str, partner_id: str, *, test_only: bool = False) -> Partner:
    """Return the partner, locked. Raises NotFound, and InsufficientRole if `test_only` and it is not marked test."""
    row = session.get(Partner, (account_id, partner_id), with_for_update=True)
    if row is None:
        raise NotFound(f"there is no partner {partner_id} in this account")
    if test_only and not row.test:
        raise InsufficientRole(f"{partner_id} is not marked test, so test mode cannot change it; {ASK_FOR_LIVE}")
    return row


def load_partner(session: Session, account_id: str, partner_id: str) -> PartnerView:
    """Return one partner as the session sees it. Raises NotFound."""
    row = session.get(Partner, (account_id, partner_id))
    if row is None:
        raise NotFound(f"there is no partner {partner_id} in this account")
    channels = session.scalars(
        select(PartnerChannel)
        .where(col(PartnerChannel.account_id) == account_id, col(PartnerChannel.partner_id) == partner_id)
        .order_by(col(PartnerChannel.position))
    ).all()
    return _to_view(row, channels, _load_newest_tests(session, account_id, [row]).get(partner_id))


def _load_newest_tests(session: Session, account_id: str, partners: Sequence[Partner]) -> dict[str, ConnectionTestView]:
    """Return the newest connection test of each partner, by partner id. Partners without a test are left out."""
    newest = (
        select(func.max(col(ConnectionTest.id)))
        .where(
            col(ConnectionTest.account_id) == account_id,
            col(ConnectionTest.partner_id).in_([partner.id for partner in partners]),
        )
        .group_by(col(ConnectionTest.partner_id))
    )
    by_id = {partner.id: partner for partner in partners}
    return {
        row.partner_id: _to_test_view(row, by_id[row.partner_id])
        for row in session.scalars(select(ConnectionTest).where(col(ConnectionTest.id).in_(newest)))
    }


def _to_test_view(row: ConnectionTest, partner: Partner) -> ConnectionTestView:
    return ConnectionTestView.model_validate(
        {
            "id": row.id,
            "partner_id": row.partner_id,
            "passed": row.passed,
            "outdated": row.tested_at < partner.endpoints_changed_at,
            "tested_by": row.tested_by,
            "tested_at": row.tested_at,
            "endpoints": row.endpoints,
        }
    )


def _to_view(row: Partner, channels: Sequence[PartnerChannel], test: ConnectionTestView | None) -> PartnerView:
    return PartnerView.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "name": row.name,
            "state": row.state,
            "test": row.test,
            "path": row.path,
            "artifact_types": row.artifact_types,
            **split_own_file(row.profile),
            "channels": [each.endpoint for each in channels],
            "queue_binding": build_routing_key(row.account_id, row.kind, row.routing_name or row.id, "#"),
            "last_test": test,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )
