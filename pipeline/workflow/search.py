"""Finds exports by any number that a person may have in hand; each search reads an index."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Select, func, literal_column, select
from sqlmodel import Session, col

from pipeline.deliveries.models import Acknowledgement, BrokerSubmission, Delivery
from pipeline.exports.models import Export, ExportPackage, ExportUnit

#: The most exports that one kind of number finds, newest first: the same batch may be executed live and as a test.
MOST_HITS: Final = 20

_SSCC: Final = re.compile(r"(?:\(?00\)?)?(\d{18})")
#: As the indexes say it.
_IN_USE: Final[ColumnElement[bool]] = literal_column("NOT released")
_RELEASED: Final[ColumnElement[bool]] = literal_column("released")
_SEPARATORS: Final = re.compile(r"[\s.-]")


@dataclass(frozen=True)
class SearchHit:
    """An export that was found, and the kind of number that found it."""

    kind: str
    export_id: str
    batch_id: str
    revision: int


def search_exports(session: Session, account_id: str, given: str) -> list[SearchHit]:
    """Return the account's exports with this number, newest first; an export is listed once.

    Finds ids of exports, batches, customs packages and deliveries, numbers of invoices, purchase orders and customs
    packages, SSCCs, LPNs and entry numbers.
    Spaces, dots and hyphens in SSCCs and entry numbers do not count. A package number that is free again finds nothing:
    a newer revision has it.
    """
    wanted = given.strip()
    if not wanted:
        return []
    kinds: dict[str, str] = {}
    for kind, query in _queries(account_id, wanted):
        # Not sorted by id: for that PostgreSQL might read all exports of the account.
        for export_id in session.scalars(query.limit(MOST_HITS)):
            kinds.setdefault(export_id, kind)
    rows = session.scalars(select(Export).where(col(Export.account_id) == account_id, col(Export.id).in_(kinds)))
    hits = [SearchHit(kinds[row.id], row.id, row.batch_id, row.revision) for row in rows]
    return sorted(hits, key=lambda each: each.export_id, reverse=True)


def _queries(account_id: str, wanted: str) -> Iterator[tuple[str, Select[str]]]:
    plain = _SEPARATORS.sub("", wanted)
    yield "export", select(col(Export.id)).where(col(Export.id) == wanted)
    yield "batch", select(col(Export.id)).where(col(Export.account_id) == account_id, col(Export.batch_id) == wanted)
    yield "customs package", select(col(ExportUnit.export_id)).where(col(ExportUnit.customs_package_id) == wanted)
    yield "delivery", select(col(Delivery.subject_id)).where(col(Delivery.id) == wanted)
    for kind, number in (
        ("invoice", col(ExportUnit.invoice_number)),
        ("purchase order", col(ExportUnit.purchase_order)),
    ):
        # Many exports may have one number. Sorted by the columns of the index, so that its newest rows suffice.
        of_number = select(col(ExportUnit.export_id)).where(col(ExportUnit.account_id) == account_id, number == wanted)
        yield kind, of_number.order_by(number.desc(), col(ExportUnit.export_id).desc())
    yield (
        "package number",
        select(col(ExportUnit.export_id)).where(
            col(ExportUnit.account_id) == account_id, col(ExportUnit.package_number) == wanted, _IN_USE
        ),
    )
    of_account = col(ExportPackage.account_id) == account_id
    if found := _SSCC.fullmatch(plain):
        of_sscc = select(col(ExportPackage.export_id)).where(of_account, col(ExportPackage.sscc) == found[1])
        yield "SSCC", of_sscc.where(_IN_USE)
        # Of a test, or of a cancelled or superseded export.
        yield (
            "SSCC",
            of_sscc.where(_RELEASED).order_by(col(ExportPackage.sscc).desc(), col(ExportPackage.export_id).desc()),
        )
    yield "LPN", select(col(ExportPackage.export_id)).where(of_account, col(ExportPackage.lpn) == wanted)
    yield (
        "entry number",
        select(col(BrokerSubmission.export_id))
        .join(Acknowledgement, col(Acknowledgement.submission_id) == col(BrokerSubmission.id))
        # The index has no account, and the limit counts only exports of the account. `coalesce` keeps PostgreSQL from
        # reading all submissions of the account instead of the few with the number.
        .where(
            col(Acknowledgement.entry_number).in_([wanted, plain]),
            func.coalesce(col(BrokerSubmission.account_id), "") == account_id,
        ),
    )
