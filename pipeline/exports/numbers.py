"""Numbers of an account: each package number and each SSCC serial is given once.

A transaction takes them from the account's row. PostgreSQL keeps that row locked until the transaction ends, so one
account could number only one unit at a time. A transaction that finds the row locked reserves a block: numbers for units
like its own. Later transactions take from a block that no other has locked. Package numbers and serials have separate
blocks, and what a block has left goes to later units. So no number is lost, but units that are recorded at the same time
get theirs out of order. A rollback releases all that was taken.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Index, bindparam, case, delete, func, insert, select, text, update
from sqlmodel import Field, Session, SQLModel

from pipeline.core.columns import partial_index
from pipeline.core.db import table
from pipeline.exports.models import Account
from pipeline.exports.sscc import PREFIX_LENGTHS, last_serial

#: A block holds the numbers of so many units.
BLOCK_UNITS: Final = 100

#: From this part on, a person must see to more serials.
PREFIX_NEARLY_USED: Final = 0.8

#: All blocks of an account together have at most so many package numbers, and this part of the serials of its prefix.
MOST_RESERVED_PACKAGES: Final = 50 * BLOCK_UNITS
_RESERVED_SERIALS_PART: Final = 100
#: One block has at most this part of those serials, so that others can be reserved beside it.
_ONE_BLOCK_PART: Final = 10


class NumberBlock(SQLModel, table=True):
    """Package numbers that an account has reserved, and not yet given: the last ones up to `last_package`."""

    __tablename__ = "number_blocks"
    __table_args__ = (
        partial_index("ix_number_blocks_left", "account_id", "ssccs_left", where=text("packages_left > 0")),
    )

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    last_package: int = Field(primary_key=True, sa_type=BigInteger)
    packages_left: int
    # Only version 0.1.0 uses these two.
    last_sscc: int = Field(default=0, sa_type=BigInteger)
    ssccs_left: int = Field(default=0, sa_type=BigInteger)


class SerialBlock(SQLModel, table=True):
    """SSCC serials that an account has reserved, and not yet given: the last ones up to `last_serial`."""

    __tablename__ = "serial_blocks"
    __table_args__ = (Index("ix_serial_blocks_left", "account_id", "serials_left"),)

    account_id: str = Field(foreign_key="accounts.id", primary_key=True)
    last_serial: int = Field(primary_key=True, sa_type=BigInteger)
    serials_left: int = Field(sa_type=BigInteger)


_accounts, _blocks, _serials = table(Account).c, table(NumberBlock).c, table(SerialBlock).c
_TAKE_FROM_ACCOUNT: Final = (
    update(table(Account))
    .where(_accounts.id == bindparam("account"))
    .values(
        packages_numbered=_accounts.packages_numbered + bindparam("packages"),
        ssccs_issued=case(
            (_accounts.gs1_prefix.is_(None), _accounts.ssccs_issued), else_=_accounts.ssccs_issued + bindparam("ssccs")
        ),
    )
    .returning(_accounts.packages_numbered, _accounts.ssccs_issued, _accounts.gs1_prefix)
)
#: Takes each kind of number from a block that suffices, else from the account. It skips locked rows, and returns no number
#: of a kind if nothing else is left. One statement, because most transactions need no more.
_TAKE: Final = text("""
WITH wanted AS (
    SELECT gs1_prefix, blocks_dropped_to, serial_blocks_dropped_to,
        CASE WHEN gs1_prefix IS NULL THEN 0 ELSE CAST(:ssccs AS bigint) END AS ssccs
    FROM accounts WHERE id = :account
), package_block AS (
    UPDATE number_blocks SET packages_left = packages_left - :packages
    WHERE account_id = :account AND last_package = (
        SELECT last_package FROM number_blocks
        WHERE account_id = :account AND packages_left > 0 AND :packages > 0
            AND last_package > (SELECT blocks_dropped_to FROM wanted)
        ORDER BY last_package LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING last_package - packages_left AS package
), serial_block AS (
    UPDATE serial_blocks SET serials_left = serials_left - (SELECT ssccs FROM wanted)
    WHERE account_id = :account AND last_serial = (
        SELECT last_serial FROM serial_blocks
        WHERE account_id = :account AND (SELECT ssccs FROM wanted) > 0 AND serials_left >= (SELECT ssccs FROM wanted)
            AND last_serial > (SELECT serial_blocks_dropped_to FROM wanted)
        ORDER BY serials_left LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING last_serial - serials_left AS sscc
), missing AS (
    SELECT CASE WHEN EXISTS (SELECT FROM package_block) THEN 0 ELSE :packages END AS packages,
        CASE WHEN EXISTS (SELECT FROM serial_block) THEN 0 ELSE ssccs END AS ssccs
    FROM wanted
), counters AS (
    UPDATE accounts
    SET packages_numbered = packages_numbered + missing.packages, ssccs_issued = ssccs_issued + missing.ssccs
    FROM missing
    WHERE id = (
        SELECT id FROM accounts
        WHERE id = :account AND (SELECT packages + ssccs FROM missing) > 0
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING packages_numbered AS package, ssccs_issued AS sscc
)
SELECT coalesce((SELECT package FROM package_block), (SELECT package FROM counters)) AS package,
    coalesce((SELECT sscc FROM serial_block), (SELECT sscc FROM counters)) AS sscc, gs1_prefix
FROM wanted
""")
_LOCK_ACCOUNT: Final = (
    select(
        _accounts.gs1_prefix, _accounts.ssccs_issued, _accounts.blocks_dropped_to, _accounts.serial_blocks_dropped_to
    )
    .where(_accounts.id == bindparam("account"))
    .with_for_update(key_share=True)
)
_INSERT_PACKAGES: Final = insert(table(NumberBlock))
_INSERT_SERIALS: Final = insert(table(SerialBlock))
_of_account = _blocks.account_id == bindparam("account")
_serials_of_account = _serials.account_id == bindparam("account")
_PACKAGES_LEFT: Final = select(func.coalesce(func.sum(_blocks.packages_left), 0)).where(
    _of_account, _blocks.last_package > bindparam("dropped_to")
)
_SERIALS_LEFT: Final = select(func.coalesce(func.sum(_serials.serials_left), 0)).where(
    _serials_of_account, _serials.last_serial > bindparam("dropped_to")
)
# A transaction that waits for the account may hold a block: it locked the row, then found that it does not suffice.
_used_up = select(_blocks.last_package).where(_of_account, _blocks.packages_left == 0).with_for_update(skip_locked=True)
_DELETE_PACKAGES: Final = delete(table(NumberBlock)).where(_of_account, _blocks.last_package.in_(_used_up))
_serials_used_up = (
    select(_serials.last_serial)
    .where(_serials_of_account, _serials.serials_left == 0)
    .with_for_update(skip_locked=True)
)
_DELETE_SERIALS: Final = delete(table(SerialBlock)).where(
    _serials_of_account, _serials.last_serial.in_(_serials_used_up)
)
_serials_of_prefix = case(
    {length: last_serial("0" * length) for length in PREFIX_LENGTHS}, value=func.length(_accounts.gs1_prefix)
)
_MOST_USED_PREFIX: Final = (
    select(_accounts.id, _accounts.gs1_prefix, _accounts.ssccs_issued)
    .where(_accounts.gs1_prefix.is_not(None))
    .order_by((_accounts.ssccs_issued * 1.0 / _serials_of_prefix).desc(), _accounts.id)
    .limit(1)
)


@dataclass(frozen=True)
class TakenNumbers:
    """The last package number and the last SSCC serial that were taken; without a `gs1_prefix`, no SSCCs are.

    A number of a kind that was not asked for means nothing.
    """

    package: int
    sscc: int
    gs1_prefix: str | None


class PrefixUse(NamedTuple):
    """The account with a GS1 prefix, and how many of its serials are given or reserved."""

    account_id: str
    gs1_prefix: str
    issued: int

    @property
    def part(self) -> float:
        """The part of the prefix's serials that is used."""
        return self.issued / last_serial(self.gs1_prefix)


class Reserved(NamedTuple):
    """How many numbers the blocks of an account have at most."""

    packages: int
    ssccs: int


def take_numbers(session: Session, account_id: str, *, packages: int, ssccs: int) -> TakenNumbers:
    """Return the next numbers of the account: no package number or one, and `ssccs` serials in a row.

    Serials may exceed the account's GS1 prefix; issue_sscc() checks that.
    """
    wanted = {"account": account_id, "packages": packages, "ssccs": ssccs}
    if session.get_bind().dialect.name == "sqlite":  # one transaction writes at a time
        return TakenNumbers(*session.execute(_TAKE_FROM_ACCOUNT, wanted).one())
    package, sscc, gs1_prefix = session.execute(_TAKE, wanted).one()
    lacks_packages = packages if package is None else 0
    lacks_ssccs = ssccs if sscc is None and gs1_prefix is not None else 0
    if lacks_packages or lacks_ssccs:
        reserved = reserve_blocks(session, account_id, packages=lacks_packages, ssccs=lacks_ssccs)
        package = reserved.package if lacks_packages else package
        sscc = reserved.sscc if lacks_ssccs else sscc
    return TakenNumbers(package or 0, sscc or 0, gs1_prefix)


def reserve_blocks(session: Session, account_id: str, *, packages: int, ssccs: int) -> TakenNumbers:
    """Wait for the account's row, reserve a block for each kind that is asked for, and return the first numbers of them."""
    of_account = {"account": account_id}
    account = session.execute(_LOCK_ACCOUNT, of_account).one()
    few = 0 if account.gs1_prefix is None else ssccs
    block_packages = block_serials = 0
    if packages:
        session.execute(_DELETE_PACKAGES, of_account)
        left = session.execute(_PACKAGES_LEFT, of_account | {"dropped_to": account.blocks_dropped_to}).scalar_one()
        block_packages = BLOCK_UNITS if left + BLOCK_UNITS <= MOST_RESERVED_PACKAGES else packages
    if few:
        session.execute(_DELETE_SERIALS, of_account)
        dropped_to = {"dropped_to": account.serial_blocks_dropped_to}
        left = session.execute(_SERIALS_LEFT, of_account | dropped_to).scalar_one()
        block_serials = _size_serial_block(account.gs1_prefix, account.ssccs_issued, left, few)
    end = session.execute(_TAKE_FROM_ACCOUNT, of_account | {"packages": block_packages, "ssccs": block_serials}).one()
    if block_packages > packages:
        block = {"last_package": end.packages_numbered, "packages_left": block_packages - packages}
        # Processes of version 0.1.0 keep serials in the same row.
        session.execute(_INSERT_PACKAGES, {"account_id": account_id, "last_sscc": 0, "ssccs_left": 0} | block)
    if block_serials > few:
        block = {"last_serial": end.ssccs_issued, "serials_left": block_serials - few}
        session.execute(_INSERT_SERIALS, {"account_id": account_id} | block)
    return TakenNumbers(
        end.packages_numbered - block_packages + packages, end.ssccs_issued - block_serials + few, end.gs1_prefix
    )


def _size_serial_block(gs1_prefix: str, issued: int, left: int, few: int) -> int:
    """Return how many serials to reserve for units of `few` each; `left` are in other blocks."""
    most = _most_reserved_serials(gs1_prefix)
    many = min(few * BLOCK_UNITS, most // _ONE_BLOCK_PART // few * few)
    # The last serials of a prefix are not reserved: another unit may need them now.
    return many if many > few and left + many <= most and issued + many <= last_serial(gs1_prefix) else few


def most_reserved(session: Session, gs1_prefix: str | None) -> Reserved:
    """Return how many numbers of each kind the blocks of an account with this prefix have at most."""
    if session.get_bind().dialect.name == "sqlite":
        return Reserved(0, 0)
    return Reserved(MOST_RESERVED_PACKAGES, 0 if gs1_prefix is None else _most_reserved_serials(gs1_prefix))


def find_most_used_prefix(session: Session) -> PrefixUse | None:
    """Return the account that has used the greatest part of its GS1 prefix; None if no account has a prefix."""
    found = session.execute(_MOST_USED_PREFIX).one_or_none()
    return None if found is None else PrefixUse(*found)


def _most_reserved_serials(gs1_prefix: str) -> int:
    return last_serial(gs1_prefix) // _RESERVED_SERIALS_PART
