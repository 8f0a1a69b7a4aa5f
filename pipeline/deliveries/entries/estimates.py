"""Reads the estimate of an entry as it was handed off: the document `entry_estimate` of the customs package."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import select

from pipeline.core.db import table
from pipeline.core.errors import ArtifactConflict, DocumentMissing, NotInHandoff
from pipeline.core.runtime import Runtime
from pipeline.deliveries.entries.assessment import ALL_TAXES, EstimatedAmount, EstimatedEntry
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.models import Artifact, ExportUnit
from pipeline.exports.schemas.entry_estimate import COLUMN_1

_ESTIMATE: Final = "entry_estimate"

#: The log keeps the comparison longer than the plan, so it takes no text that may quote the plan.
_SEE_DOCUMENT: Final = "the document `entry_estimate` says what and why"
NO_AMOUNT: Final = f"the estimate has no amount of it; {_SEE_DOCUMENT}"

#: An open duty has the name of its program in place of a heading: no answer can name it.
_LEAST_DIGITS: Final = 4

_units, _artifacts, _submissions = table(ExportUnit).c, table(Artifact).c, table(BrokerSubmission).c


class _Stored(BaseModel):
    # Documents of older versions have other members: only these are read.
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class _Amount(_Stored):
    amount_usd: Decimal | None = None
    heading: str = ""
    code: str = ""
    status: str = ""
    text: str | None = None


class _Line(_Stored):
    hts_code: str
    duties: tuple[_Amount, ...] = ()


class _Estimate(_Stored):
    lines: tuple[_Line, ...]
    fees: tuple[_Amount, ...] = ()
    unpriced_fees: tuple[_Amount, ...] = ()
    taxes: tuple[_Amount, ...] = ()
    heading_sources: tuple[_Amount, ...] = ()
    missing: tuple[str, ...] = ()
    exchange_rate: Decimal | None = None


class _Document(_Stored):
    estimate: _Estimate


@dataclass(frozen=True)
class _EstimatePlace:
    """The package that an answer is about, and its document."""

    package: str
    artifact_id: str | None
    sha256: str | None


def read_estimate(
    runtime: Runtime, submission_id: str, packages: Sequence[str], *, strict: bool
) -> EstimatedEntry | None:
    """Return the recorded estimate of the one entry that an answer with amounts is about.

    Returns None if the handoff has no such entry. If it is about several entries, raises NotInHandoff, but with `strict`
    false returns None. Raises StoreUnavailable.
    """
    found = _find_document(runtime, submission_id, packages)
    if isinstance(found, int):
        if strict and found:
            raise NotInHandoff(
                f"`assessed` is about one entry, and the answer is about {found}; name one customs package",
                field="/customsPackageNumbers",
            )
        return None
    if found.sha256 is None:
        return EstimatedEntry(found.package, note="the handoff has no estimate of the entry")
    try:
        document = _Document.model_validate_json(runtime.store.get(found.sha256))
    except (DocumentMissing, ArtifactConflict, ValidationError) as error:
        return EstimatedEntry(
            found.package, found.artifact_id, note=f"the estimate cannot be read: {type(error).__name__}"
        )
    return _to_estimate(found, document.estimate)


def _find_document(runtime: Runtime, submission_id: str, packages: Sequence[str]) -> _EstimatePlace | int:
    """Return the document of the one package that the answer is about, else the number of its packages."""
    of_unit = (
        (_artifacts.export_id == _units.export_id)
        & (_artifacts.unit_no == _units.unit_no)
        & (_artifacts.artifact_type == _ESTIMATE)
    )
    query = (
        select(_units.package_number, _artifacts.id, _artifacts.sha256)
        .join_from(table(BrokerSubmission), table(ExportUnit), _units.export_id == _submissions.export_id)
        .join(table(Artifact), of_unit, isouter=True)
        .where(_submissions.id == submission_id)
    )
    if packages:
        query = query.where(_units.package_number.in_(packages))
    with runtime.db.read() as session:
        rows = session.execute(query).all()
    return _EstimatePlace(*rows[0]) if len(rows) == 1 else len(rows)


def _to_estimate(found: _EstimatePlace, estimate: _Estimate) -> EstimatedEntry:
    return EstimatedEntry(
        package_number=found.package,
        document_id=found.artifact_id,
        is_known=estimate.exchange_rate is not None,
        note=f"it lacks facts; {_SEE_DOCUMENT}" if estimate.missing else None,
        duties=tuple(_list_duties(estimate)),
        fees=(
            *(EstimatedAmount(fee.code, fee.amount_usd, _describe(fee.status)) for fee in estimate.fees),
            *(EstimatedAmount(fee.code, None, fee.text) for fee in estimate.unpriced_fees),
        ),
        taxes=tuple(
            EstimatedAmount(ALL_TAXES, tax.amount_usd, tax.text or _describe(tax.status)) for tax in estimate.taxes
        ),
    )


def _list_duties(estimate: _Estimate) -> Iterator[EstimatedAmount]:
    statuses = {each.heading: each.status for each in estimate.heading_sources}
    for line in estimate.lines:
        for duty in line.duties:
            code = line.hts_code if duty.heading == COLUMN_1 else duty.heading
            note = NO_AMOUNT if duty.amount_usd is None else _describe(statuses.get(duty.heading, ""))
            if sum(map(str.isdigit, code)) < _LEAST_DIGITS:
                yield EstimatedAmount(code, None, f"no heading names it yet; the estimate has {duty.amount_usd} USD")
            else:
                yield EstimatedAmount(code, duty.amount_usd, note)


def _describe(status: str) -> str | None:
    """Return what to know of an amount by the status of its rule; None if its text was read."""
    return f"the rule of the estimate has the status {status}" if status in ("check", "probable") else None
