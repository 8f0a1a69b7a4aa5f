"""Numbers that an account issues only once. After a restore or a failover, skip some so that none is issued twice."""

import re
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account
from pipeline.exports.numbers import most_reserved
from pipeline.exports.packages import package_number
from pipeline.exports.sscc import is_sscc, issue_sscc

log = structlog.get_logger(__name__)

#: A limit against mistyped numbers: skipped numbers cannot be recovered.
MAX_SKIPPED: Final = 1_000_000

_PACKAGE_NUMBER: Final = re.compile(r"(?:CP-)?(\d{1,12})", re.ASCII)
_SERIAL: Final = re.compile(r"\d{1,12}", re.ASCII)


@dataclass(frozen=True)
class NextNumbers:
    """How many numbers were skipped, and the next ones. `sscc` is None if the account issues no SSCCs."""

    packages_skipped: int
    ssccs_skipped: int
    package_number: str
    sscc: str | None


def skip_numbers(
    runtime: Runtime,
    account_id: str,
    *,
    packages: int = 0,
    ssccs: int = 0,
    above: str | None = None,
    above_sscc: str | None = None,
    actor: str | None = None,
) -> NextNumbers:
    """Skip the account's next customs package numbers and SSCC serials; return the next numbers.

    `above` and `above_sscc` are the highest that a partner has: the next ones are higher. `packages` and `ssccs` count what
    was given since the copy; the numbers that blocks may have had are added. Workers may run meanwhile. Raises NotFound if
    the account is unknown. Raises ValidationFailed if a number is out of range, there is nothing to skip, or the account's
    GS1 company prefix would have no serial left.
    """
    for field, count, highest in (("/packages", packages, above), ("/ssccs", ssccs, above_sscc)):
        if not 0 <= count <= MAX_SKIPPED:
            raise ValidationFailed(f"a count to skip must be from 0 to {MAX_SKIPPED}, not {count}", field=field)
        if count and highest is not None:
            raise ValidationFailed(
                f"a count and the highest number {highest} exclude each other; give one", field=field
            )
    if not packages and not ssccs and above is None and above_sscc is None:
        raise ValidationFailed("nothing to skip; give a number of packages or SSCCs", field="/packages")
    with runtime.db.write() as session:
        # With the lock, workers wait: no number is issued between the check and the update.
        locked = select(Account).where(col(Account.id) == account_id).with_for_update(key_share=True)
        account = session.scalars(locked).one_or_none()
        if account is None:
            raise NotFound(f"there is no account {account_id}", field="/accountId")
        reserved = most_reserved(session, account.gs1_prefix)
        packages += reserved.packages if packages else _count_up_to(_parse_package(above), account.packages_numbered)
        serial = _parse_serial(above_sscc, account)
        ssccs += reserved.ssccs if ssccs else _count_up_to(serial, account.ssccs_issued)
        if ssccs:
            _check_capacity(account, ssccs)
        taken = session.execute(
            update(Account)
            .where(col(Account.id) == account_id)
            .values(
                packages_numbered=col(Account.packages_numbered) + packages,
                ssccs_issued=col(Account.ssccs_issued) + ssccs,
                # A lost transaction may have given the numbers of the reserved blocks too.
                blocks_dropped_to=col(Account.packages_numbered),
                serial_blocks_dropped_to=col(Account.ssccs_issued),
            )
            .returning(col(Account.packages_numbered), col(Account.ssccs_issued), col(Account.gs1_prefix))
        ).one()
        if actor is not None:
            detail = {"packages": packages, "ssccs": ssccs}
            record_act(session, account_id, actor, Action.NUMBERS_SKIPPED, account_id, detail)
    log.info("numbers_skipped", account_id=account_id, packages=packages, ssccs=ssccs)
    next_sscc = _try_issue_sscc(taken.gs1_prefix, taken.ssccs_issued + 1)
    return NextNumbers(packages, ssccs, package_number(taken.packages_numbered + 1), next_sscc)


def _parse_package(text: str | None) -> int | None:
    if text is None:
        return None
    found = _PACKAGE_NUMBER.fullmatch(text)
    if found is None:
        raise ValidationFailed(f"{text!r} is not a package number; give one such as CP-000202", field="/above")
    return int(found[1])


def _parse_serial(text: str | None, account: Account) -> int | None:
    """Return the serial that an SSCC of the account has, or that stands alone in `text`; None if that is None."""
    if text is None:
        return None
    prefix = account.gs1_prefix
    if prefix is None:
        raise ValidationFailed(
            f"account {account.id} has no GS1 company prefix, so it issued no SSCC; leave it out", field="/aboveSscc"
        )
    if is_sscc(text) and text[1:].startswith(prefix):
        return int(text[1 + len(prefix) : -1])
    if _SERIAL.fullmatch(text):
        return int(text)
    raise ValidationFailed(
        f"{text!r} is neither an SSCC with the account's GS1 company prefix {prefix} nor a serial; correct it",
        field="/aboveSscc",
    )


def _count_up_to(highest: int | None, issued: int) -> int:
    """Return how many numbers follow the last issued one up to the highest; 0 if it was issued, or there is none."""
    count = max(0, (highest or 0) - issued)
    if count > MAX_SKIPPED:
        raise ValidationFailed(
            f"{highest} is {count} above {issued}, the last that the account knows; at most {MAX_SKIPPED} can be"
            " skipped at a time: check the number",
            field="/above",
        )
    return count


def _check_capacity(account: Account, ssccs: int) -> None:
    """Raise ValidationFailed unless the account can still issue an SSCC after `ssccs` were skipped."""
    if _try_issue_sscc(account.gs1_prefix, account.ssccs_issued + ssccs + 1) is not None:
        return
    has = f"the GS1 company prefix {account.gs1_prefix}" if account.gs1_prefix else "no GS1 company prefix"
    raise ValidationFailed(
        f"{ssccs} SSCCs cannot be skipped: account {account.id} has {has}, has issued {account.ssccs_issued} SSCCs,"
        " and could issue none afterwards; give the highest SSCC that a partner has, or skip only packages",
        field="/ssccs",
    )


def _try_issue_sscc(gs1_prefix: str | None, serial: int) -> str | None:
    """Return the SSCC of the serial. Return None if the account issues none, or the serial exceeds its prefix."""
    if gs1_prefix is None:
        return None
    try:
        return issue_sscc(gs1_prefix, serial)
    except ValueError:
        return None
