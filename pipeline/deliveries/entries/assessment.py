"""Compares the amounts that were assessed for an entry with its estimate, amount by amount."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from pipeline.core.money import ZERO, format_plain, round_cents, sum_exact, sum_known, take_percent
from pipeline.exports.schemas.assessment import (
    AmountKind,
    AssessedAmounts,
    AssessedDuty,
    AssessedFee,
    Assessment,
    ComparedAmount,
)

#: The most duties that the sandbox says, so that its answers stay small.
MOST_DUTIES: Final = 100
#: The code of the sum of all taxes. Our estimate names laws and the answer class codes, so only sums compare.
ALL_TAXES: Final = "all taxes"


@dataclass(frozen=True)
class EstimatedAmount:
    """An amount of the estimate; None if it is not known, and `note` says why or what to know about it."""

    code: str
    amount: Decimal | None
    note: str | None = None


@dataclass(frozen=True)
class EstimatedEntry:
    """The estimate of an entry by headings and class codes. If it is not known, `is_known` is false and `note` says why."""

    package_number: str
    document_id: str | None = None
    is_known: bool = False
    note: str | None = None
    duties: Iterable[EstimatedAmount] = ()
    fees: Iterable[EstimatedAmount] = ()
    taxes: Iterable[EstimatedAmount] = ()


@dataclass(frozen=True)
class Tolerance:
    """How far amounts may differ: the larger of an amount and a part of the estimate."""

    usd: Decimal
    percent: Decimal

    def of(self, estimated: Decimal) -> Decimal:
        """Return how far an assessed amount may be from the estimated one."""
        return max(round_cents(self.usd), take_percent(estimated, self.percent))


@dataclass(frozen=True)
class AmountsSource:
    """Where amounts were read that the customs broker did not send, and the class codes of the fees that it can say."""

    text: str
    fees: Collection[str]


@dataclass
class _Sum:
    """The amounts with one code. One that is not known makes the sum unknown."""

    code: str
    amounts: list[Decimal | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> Decimal | None:
        return sum_known(self.amounts)


def compare_amounts(
    answer_id: str,
    estimate: EstimatedEntry,
    assessed: AssessedAmounts,
    tolerance: Tolerance,
    source: AmountsSource | None = None,
) -> Assessment:
    """Return the assessed amounts beside the estimated ones, those that differ first.

    Kinds that the answer leaves out are not compared. Nor are fees that `source` cannot say: their notes tell it.
    """
    lines: list[ComparedAmount] = []
    if assessed.duties is not None:
        said = _add(EstimatedAmount(each.heading, each.amount_usd) for each in assessed.duties)
        lines += _compare(AmountKind.DUTY, estimate, _add(estimate.duties), said, tolerance)
    if assessed.fees is not None:
        said = _add(EstimatedAmount(each.code, each.amount_usd) for each in assessed.fees)
        expected = _add(estimate.fees)
        silent = {} if source is None else {code: each for code, each in expected.items() if code not in source.fees}
        compared = {code: each for code, each in expected.items() if code not in silent}
        lines += _compare(AmountKind.FEE, estimate, compared, said, tolerance)
        for fee in silent.values():
            note = "; ".join((*fee.notes, "the source does not say it"))
            lines.append(_show(AmountKind.FEE, fee.code, fee.total, None, note))
    if assessed.taxes is not None:
        said = _add(EstimatedAmount(ALL_TAXES, each.amount_usd) for each in assessed.taxes)
        lines += _compare(AmountKind.TAX, estimate, _add(estimate.taxes), said, tolerance)
    for charge in assessed.charges or ():
        lines.append(_show(AmountKind.CHARGE, charge.name, None, charge.amount_usd, None))
    return Assessment(
        customs_package_number=estimate.package_number,
        answer_id=answer_id,
        source=None if source is None else source.text,
        estimate_id=estimate.document_id,
        estimate_note=estimate.note,
        differs=any(each.within_tolerance is False for each in lines),
        lines=tuple(sorted(lines, key=lambda each: each.within_tolerance is not False)),
    )


def assess_as_estimated(estimate: EstimatedEntry) -> AssessedAmounts | None:
    """Return what an answer says if all is as estimated; None without an estimate. Unknown amounts are left out."""
    if not estimate.is_known:
        return None
    duties = {each.code: each.total for each in _add(estimate.duties).values()}
    fees = {each.code: each.total for each in _add(estimate.fees).values()}
    return AssessedAmounts(
        currency="USD",
        duties=[AssessedDuty(heading=code, amount_usd=usd) for code, usd in duties.items() if usd][:MOST_DUTIES],
        fees=[AssessedFee(code=code, amount_usd=usd) for code, usd in fees.items() if usd],
    )


def _add(amounts: Iterable[EstimatedAmount]) -> dict[str, _Sum]:
    """Return the sums by code. Only letters and digits of a code count: 8708.29.5060 is 8708295060."""
    sums: dict[str, _Sum] = {}
    for each in amounts:
        found = sums.setdefault(re.sub(r"[^A-Z0-9]", "", each.code.upper()), _Sum(each.code))
        found.amounts.append(each.amount)
        if each.note is not None and each.note not in found.notes:
            found.notes.append(each.note)
    return sums


def _compare(
    kind: AmountKind,
    estimate: EstimatedEntry,
    estimated: Mapping[str, _Sum],
    assessed: Mapping[str, _Sum],
    tolerance: Tolerance,
) -> Iterator[ComparedAmount]:
    for key in dict.fromkeys((*assessed, *estimated)):
        ours, theirs = estimated.get(key), assessed.get(key)
        amount = None if theirs is None else theirs.total
        code = (ours or theirs or _Sum(key)).code
        notes = [] if ours is None else list(ours.notes)
        if not estimate.is_known:
            yield _show(kind, code, None, amount, "the estimate is not known")
            continue
        expected = ZERO if ours is None else ours.total
        if expected is None:
            yield _show(kind, code, None, amount, "; ".join(notes) or "the estimate does not have this amount")
            continue
        if theirs is None and not expected:
            continue  # both sides have none
        if ours is None:
            notes.append("the estimate does not have it, so it counts as 0")
        if theirs is None:
            notes.append("it was not assessed, so it counts as 0")
        yield _show_difference(kind, code, (None if ours is None else expected, amount), tolerance, notes)


def _show_difference(
    kind: AmountKind,
    code: str,
    amounts: tuple[Decimal | None, Decimal | None],
    tolerance: Tolerance,
    notes: Iterable[str],
) -> ComparedAmount:
    expected, amount = (each or ZERO for each in amounts)
    difference, allowed = sum_exact((amount, -expected)), tolerance.of(expected)
    shown = [format_plain(round_cents(each)) for each in (amount, expected, difference, allowed)]
    return ComparedAmount(
        kind=kind,
        code=code,
        estimated_usd=amounts[0],
        assessed_usd=amounts[1],
        difference_usd=difference,
        tolerance_usd=allowed,
        within_tolerance=abs(difference) <= allowed,
        arithmetic=f"assessed {shown[0]} - estimated {shown[1]} = {shown[2]}; tolerance {shown[3]}",
        note="; ".join(notes) or None,
    )


def _show(
    kind: AmountKind, code: str, estimated: Decimal | None, assessed: Decimal | None, note: str | None
) -> ComparedAmount:
    return ComparedAmount(
        kind=kind,
        code=code,
        estimated_usd=estimated,
        assessed_usd=assessed,
        difference_usd=None,
        tolerance_usd=None,
        within_tolerance=None,
        arithmetic=None,
        note=note,
    )
