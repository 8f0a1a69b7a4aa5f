"""The USMCA certifications that an account's live exports use, by product and period, and those that soon end."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from pipeline.core.db import table
from pipeline.customs.models import OriginCertification
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.schemas import OriginCertificationView
from pipeline.exports.schemas.plan import Plan

#: So many days before the end of a certification its account should have the next one.
NOTICE_DAYS: Final = 30
#: The most certifications that a list shows.
MOST_LISTED: Final = 1_000
#: In place of a product: any with the subheading, because no line named the certification for it yet.
ANY_PRODUCT: Final = ""

_COUNT_PRODUCTS: Final = func.count(func.distinct(col(OriginCertification.sku)))

# An existing row is not written again: its lock would make exports of one account wait for each other.
_KEEP: Final = {
    "postgresql": postgresql.insert(table(OriginCertification)).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(table(OriginCertification)).on_conflict_do_nothing(),
}


def list_used(plan: Plan, export_id: str) -> Sequence[dict[str, Any]]:
    """Return the rows to keep: of each certification with a blanket period, the products that claim it.

    One that covers the subheading of such a product and that no line names for it yet has a row without product: it may
    follow one that ends.
    """
    programs = entry_rules().usmca.programs
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for unit in plan.units:
        claimed: dict[str, set[tuple[str, str]]] = {}
        for line in unit.lines:
            if line.spi in programs and line.usmca_certificate_ref is not None:
                claimed.setdefault(line.usmca_certificate_ref, set()).add((line.hts_code[:6], line.sku))
        codes = {code for products in claimed.values() for code, _ in products}
        for certificate in unit.usmca_certificates:
            if certificate.blanket_from is None or certificate.blanket_to is None:
                continue
            named = claimed.get(certificate.ref, set())
            covered = {goods.hs_code for goods in certificate.goods} & codes - {code for code, _ in named}
            for code, sku in (*named, *((code, ANY_PRODUCT) for code in covered)):
                key = {
                    "account_id": plan.account_id,
                    "hs_code": code,
                    "sku": sku,
                    "blanket_to": certificate.blanket_to,
                    "blanket_from": certificate.blanket_from,
                    "certifier_name": certificate.certifier_name,
                }
                rows.setdefault(
                    tuple(key.values()),
                    {
                        **key,
                        "ref": certificate.ref,
                        "certifier_role": certificate.certifier_role,
                        "criterion": certificate.criterion,
                        "signed_on": certificate.signed_on,
                        "export_id": export_id,
                    },
                )
    # All transactions insert in one order, so two cannot deadlock.
    return [rows[key] for key in sorted(rows)]


def keep_certifications(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows of `list_used` that are new; without rows, nothing is sent to the database."""
    if rows:
        session.execute(_KEEP[session.get_bind().dialect.name], rows)


def list_certifications(session: Session, account_id: str, on: date) -> Sequence[OriginCertificationView]:
    """Return the account's certifications that claims named and that are not over on the day `on`, the next to end first."""
    _, ends = _columns()
    rows = session.execute(
        select(OriginCertification, _has_next())
        .where(
            col(OriginCertification.account_id) == account_id, col(OriginCertification.sku) != ANY_PRODUCT, ends >= on
        )
        .order_by(
            ends, col(OriginCertification.sku), col(OriginCertification.hs_code), col(OriginCertification.blanket_from)
        )
        .limit(MOST_LISTED)
    )
    return [
        OriginCertificationView(
            sku=row.sku,
            hs_code=row.hs_code,
            ref=row.ref,
            certifier_role=row.certifier_role,
            certifier_name=row.certifier_name,
            criterion=row.criterion,
            blanket_from=row.blanket_from,
            blanket_to=row.blanket_to,
            signed_on=row.signed_on,
            export_id=row.export_id,
            days_left=(row.blanket_to - on).days,
            has_next=next_exists,
        )
        for row, next_exists in rows
    ]


def count_expiring(session: Session, on: date) -> Iterator[tuple[str, int]]:
    """Yield each account with the number of its products whose last certification in use ends soon."""
    owner, _ = _columns()
    soon = select(owner, _COUNT_PRODUCTS).where(*_ends_soon(on)).group_by(owner)
    yield from ((account_id, value) for account_id, value in session.execute(soon))


def count_expiring_of(session: Session, account_id: str, on: date) -> int:
    """Return that number of one account."""
    owner, _ = _columns()
    return session.scalar(select(_COUNT_PRODUCTS).where(owner == account_id, *_ends_soon(on))) or 0


def _ends_soon(on: date) -> tuple[Any, ...]:
    _, ends = _columns()
    return (
        ends.between(on, on + timedelta(days=NOTICE_DAYS)),
        col(OriginCertification.sku) != ANY_PRODUCT,
        ~_has_next(),
    )


def _columns() -> tuple[Any, Any]:
    return col(OriginCertification.account_id), col(OriginCertification.blanket_to)


def _has_next() -> Any:
    later = aliased(OriginCertification)
    return (
        select(col(later.hs_code))
        .where(
            col(later.account_id) == col(OriginCertification.account_id),
            col(later.hs_code) == col(OriginCertification.hs_code),
            col(later.sku).in_((col(OriginCertification.sku), ANY_PRODUCT)),
            col(later.blanket_to) > col(OriginCertification.blanket_to),
        )
        .correlate(OriginCertification)
        .exists()
    )
