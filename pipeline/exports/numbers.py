"""Numbers of an account: each package number and each SSCC serial is given once.

A transaction takes them from the account's row. PostgreSQL keeps that row locked until the transaction ends, so one
account could number only one unit at a time. A transaction that finds the row locked reserves a block: the numbers of a
hundred units like its own. Later transactions take their numbers from a block that no other has locked. So no number is
lost, but units that are recorded at the same time get theirs out of order. A rollback releases all that was taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, case, delete, insert, select, text, update
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.exports.models import Account, NumberBlock
from pipeline.exports.sscc import last_serial

#: A block holds the numbers of so many units.
BLOCK_UNITS: Final = 100

_accounts, _blocks = table(Account).c, table(NumberBlock).c
_TAKE_FROM_ACCOUNT: Final = (
    update(table(Account))
    .where(_accounts.id == bindparam("account"))
    .values(
        packages_numbered=_accounts.packages_numbered + bindparam("packages"),
        ssccs_issued=case(
            (_accounts.gs1_prefix.is_(None), _accounts.ssccs_issued),
            else_=_accounts.ssccs_issued + bindparam("ssccs"),
        ),
    )
    .returning(_accounts.packages_numbered, _accounts.ssccs_issued, _accounts.gs1_prefix)
)
#: Takes from the smallest block that suffices, or from the account if it has no such block. It skips locked rows, and
#: returns no row if nothing else is left. One statement, because most transactions need no more.
_TAKE: Final = text("""
WITH wanted AS (
    SELECT gs1_prefix, blocks_dropped_to, CASE WHEN gs1_prefix IS NULL THEN 0 ELSE CAST(:ssccs AS bigint) END AS ssccs
    FROM accounts WHERE id = :account
), block AS (
    UPDATE number_blocks
    SET packages_left = packages_left - :packages, ssccs_left = ssccs_left - (SELECT ssccs FROM wanted)
    WHERE account_id = :account AND last_package = (
        SELECT last_package FROM number_blocks
        WHERE account_id = :account AND packages_left > 0 AND ssccs_left >= (SELECT ssccs FROM wanted)
            AND last_package > (SELECT blocks_dropped_to FROM wanted)
        ORDER BY ssccs_left LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING last_package - packages_left AS package, last_sscc - ssccs_left AS sscc
), counters AS (
    UPDATE accounts
    SET packages_numbered = packages_numbered + :packages, ssccs_issued = ssccs_issued + (SELECT ssccs FROM wanted)
    WHERE id = (
        SELECT id FROM accounts
        WHERE id = :account AND NOT EXISTS (
            SELECT 1 FROM number_blocks
            WHERE account_id = :account AND packages_left > 0 AND ssccs_left >= (SELECT ssccs FROM wanted)
                AND last_package > (SELECT blocks_dropped_to FROM wanted)
        )
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING packages_numbered AS package, ssccs_issued AS sscc
)
SELECT taken.package, taken.sscc, wanted.gs1_prefix
FROM (SELECT package, sscc FROM block UNION ALL SELECT package, sscc FROM counters) AS taken, wanted
""")
_LOCK_ACCOUNT: Final = (
    select(_accounts.ssccs_issued, _accounts.gs1_prefix)
    .where(_accounts.id == bindparam("account"))
    .with_for_update(key_share=True)
)
_INSERT_BLOCK: Final = insert(table(NumberBlock))
_of_account = _blocks.account_id == bindparam("account")
# A transaction that waits for the account may hold a block: it locked the row, then found that it does not suffice.
_used_up = select(_blocks.last_package).where(_of_account, _blocks.packages_left == 0).with_for_update(skip_locked=True)
_DELETE_USED_UP: Final = delete(table(NumberBlock)).where(_of_account, _blocks.last_package.in_(_used_up))


@dataclass(frozen=True)
class TakenNumbers:
    """The last package number and the last SSCC serial that were taken; without a `gs1_prefix`, no SSCCs are."""

    package: int
    sscc: int
    gs1_prefix: str | None


def take_numbers(session: Session, account_id: str, *, packages: int, ssccs: int) -> TakenNumbers:
    """Return the next numbers of the account: no package number or one, and `ssccs` serials in a row.

    Serials may exceed the account's GS1 prefix; issue_sscc() checks that.
    """
    wanted = {"account": account_id, "packages": packages, "ssccs": ssccs}
    if session.get_bind().dialect.name == "sqlite":  # one transaction writes at a time
        return TakenNumbers(*session.execute(_TAKE_FROM_ACCOUNT, wanted).one())
    taken = session.execute(_TAKE, wanted).one_or_none()
    return reserve_block(session, account_id, packages=packages, ssccs=ssccs) if taken is None else TakenNumbers(*taken)


def reserve_block(session: Session, account_id: str, *, packages: int, ssccs: int) -> TakenNumbers:
    """Wait for the account's row, reserve a block, and return the first numbers of it."""
    account = session.execute(_LOCK_ACCOUNT, {"account": account_id}).one()
    few = 0 if account.gs1_prefix is None else ssccs
    many = few * BLOCK_UNITS
    # The last serials of a prefix are not reserved: another unit may need them now.
    if few and account.ssccs_issued + many > last_serial(account.gs1_prefix):
        many = few
    reserved = {"account": account_id, "packages": BLOCK_UNITS, "ssccs": many}
    end = session.execute(_TAKE_FROM_ACCOUNT, reserved).one()
    block = {
        "account_id": account_id,
        "last_package": end.packages_numbered,
        "packages_left": BLOCK_UNITS - packages,
        "last_sscc": end.ssccs_issued,
        "ssccs_left": many - few,
    }
    session.execute(_DELETE_USED_UP, {"account": account_id})
    session.execute(_INSERT_BLOCK, block)
    return TakenNumbers(
        end.packages_numbered - block["packages_left"], end.ssccs_issued - block["ssccs_left"], end.gs1_prefix
    )
