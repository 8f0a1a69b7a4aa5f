"""Numbers that an account issues only once. After a restore or a failover, skip some so that none is issued twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Account
from pipeline.exports.packages import package_number
from pipeline.exports.sscc import issue_sscc

log = structlog.get_logger(__name__)

#: A limit against mistyped numbers: skipped numbers cannot be recovered.
MAX_SKIPPED: Final = 1_000_000


@dataclass(frozen=True)
class NextNumbers:
    """The numbers that an account issues next. `sscc` is None if it issues no SSCCs."""

    package_number: str
    sscc: str | None


def skip_numbers(runtime: Runtime, account_id: str, *, packages: int = 0, ssccs: int = 0) -> NextNumbers:
    """Skip the account's next `packages` customs package numbers and `ssccs` SSCC serials; return the next numbers.

    Workers may run meanwhile. Raises NotFound if the account is unknown. Raises ValidationFailed if a number is out of
    range, both are 0, or the account's GS1 company prefix would have no serial left.
    """
    for field, count in (("/packages", packages), ("/ssccs", ssccs)):
        if not 0 <= count <= MAX_SKIPPED:
            raise ValidationFailed(f"a count to skip must be from 0 to {MAX_SKIPPED}, not {count}", field=field)
    if not packages and not ssccs:
        raise ValidationFailed("nothing to skip; give a number of packages or SSCCs", field="/packages")
    with runtime.db.write() as session:
        # With the lock, workers wait: no number is issued between the check and the update.
        locked = select(Account).where(col(Account.id) == account_id).with_for_update(key_share=True)
        account = session.scalars(locked).one_or_none()
        if account is None:
            raise NotFound(f"there is no account {account_id}", field="/accountId")
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
            )
            .returning(col(Account.packages_numbered), col(Account.ssccs_issued), col(Account.gs1_prefix))
        ).one()
    log.info("numbers_skipped", account_id=account_id, packages=packages, ssccs=ssccs)
    return NextNumbers(
        package_number(taken.packages_numbered + 1), _try_issue_sscc(taken.gs1_prefix, taken.ssccs_issued + 1)
    )


def _check_capacity(account: Account, ssccs: int) -> None:
    """Raise ValidationFailed unless the account can still issue an SSCC after `ssccs` were skipped."""
    if _try_issue_sscc(account.gs1_prefix, account.ssccs_issued + ssccs + 1) is not None:
        return
    has = f"the GS1 company prefix {account.gs1_prefix}" if account.gs1_prefix else "no GS1 company prefix"
    raise ValidationFailed(
        f"{ssccs} SSCCs cannot be skipped: account {account.id} has {has}, has issued {account.ssccs_issued} SSCCs,"
        " and could issue none afterwards; skip fewer, or only packages",
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
