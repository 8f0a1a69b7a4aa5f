"""Accounts: creation, look-up, and what a key of theirs may do."""

import re
from collections.abc import Sequence
from typing import cast

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from pipeline.accounts.api_keys import Caller, Mode
from pipeline.accounts.models import ApiKey
from pipeline.accounts.schemas import OwnKey
from pipeline.core.errors import ASK_FOR_LIVE, NotFound, ValidationFailed
from pipeline.core.field_types import check_printable
from pipeline.core.runtime import Runtime
from pipeline.core.text_safety import check_readable
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account

_ACCOUNT_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
_GS1_PREFIX = re.compile(r"^[0-9]{4,12}$")


def explain_live(subject: str) -> str:
    """Return why test mode must not change settings of an account, and the remedy."""
    return f"{subject} are those of live exports, too; {ASK_FOR_LIVE}"


def account_not_found(account_id: str) -> NotFound:
    """Return the error for an account that does not exist."""
    return NotFound(f"there is no account {account_id}; create it with exports accounts create", field="/accountId")


def create_account(
    runtime: Runtime, account_id: str, name: str, *, gs1_prefix: str | None = None, actor: str | None = None
) -> None:
    """Create an account, as the first act of `actor` in its trail. SSCCs are issued from the GS1 company prefix `gs1_prefix`.

    Raises ValidationFailed if the id or the prefix is malformed, or the account exists.
    """
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise ValidationFailed(
            "an account id must be up to 64 letters, digits, _ and -, for example acc_demo", field="/accountId"
        )
    if gs1_prefix is not None and not _GS1_PREFIX.fullmatch(gs1_prefix):
        raise ValidationFailed("a GS1 company prefix must have 4 to 12 digits", field="/gs1Prefix")
    _check_name(name)
    try:
        with runtime.db.write() as session:
            session.add(Account(id=account_id, name=name, gs1_prefix=gs1_prefix))
            session.flush()
            if actor is not None:
                record_act(session, account_id, actor, Action.ACCOUNT_CREATED, account_id)
    except IntegrityError as error:
        raise ValidationFailed(f"the account {account_id} exists already", field="/accountId") from error


def _check_name(name: str) -> None:
    """Raise ValidationFailed if people would read the name differently than systems do."""
    try:
        check_readable(check_printable(name))
    except ValueError as error:
        raise ValidationFailed(f"the name {error}", field="/name") from error


def find_account(runtime: Runtime, account_id: str) -> Account | None:
    """Return the account, or None."""
    with runtime.db.read() as session:
        return session.get(Account, account_id)


def list_accounts(session: Session) -> Sequence[Account]:
    """Return every account, by id."""
    return session.exec(select(Account).order_by(col(Account.id))).all()


def describe_own_key(runtime: Runtime, caller: Caller) -> OwnKey:
    """Return what the caller's key may do. The caller is a key, not a person."""
    with runtime.db.read() as session:
        row, account_name = session.exec(
            select(ApiKey, Account.name).where(col(ApiKey.id) == caller.actor, Account.id == col(ApiKey.account_id))
        ).one()
    return OwnKey(
        account_id=row.account_id,
        account_name=account_name,
        key_id=row.id,
        name=row.name,
        mode=cast("Mode", row.mode),
        roles=sorted(row.roles),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
