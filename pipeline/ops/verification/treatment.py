"""The treatment that a document carries for each line, and the first difference from the plan's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from pipeline.core.money import sum_exact
from pipeline.customs.treatment import digest_treatment
from pipeline.exports.schemas.plan import Treatment, as_json

#: The maximum characters of a value that a difference repeats.
_LONGEST_VALUE = 60


class UnreadableBundle(Exception):
    """A file is not what it claims to be; the message says what is wrong, as a sentence of its own."""


@dataclass(frozen=True)
class CarriedLine:
    """A line as a document carries it: its contents, and the digest that the document states for it.

    If the document states only the digest, `treatment`, `hts_code` and `country_of_origin` are None.
    """

    line_ref: str
    stated: str | None
    hts_code: str | None = None
    country_of_origin: str | None = None
    treatment: Treatment | None = None

    @property
    def recomputed(self) -> str | None:
        """The digest computed from the line's contents; None if the contents are incomplete."""
        if self.treatment is None or self.hts_code is None or self.country_of_origin is None:
            return None
        return digest_treatment(self.hts_code, self.country_of_origin, self.treatment)


@dataclass(frozen=True)
class MergedLines:
    """Lines that a document merges into one row: which lines, and what the row says for all of them."""

    line_refs: Sequence[str]
    hts_code: str | None
    country_of_origin: str | None
    treatment: Treatment


def find_difference(planned: Sequence[CarriedLine], carried: Iterable[CarriedLine]) -> str | None:
    """Return the first line that differs and how, as a sentence; None if all lines are the plan's."""
    for number, (plan, found) in enumerate(zip_longest(planned, carried), start=1):
        if found is None:
            return f"line {plan.line_ref} (number {number}) is missing"
        if plan is None:
            return f"line {found.line_ref} (number {number}) is not in the plan"
        reason = _line_difference(plan, found)
        if reason is not None:
            return f"line {plan.line_ref}: {reason}"
    return None


def find_merged_difference(planned: Sequence[CarriedLine], merged: Iterable[MergedLines]) -> str | None:
    """Return the first line that differs from the row that it was merged into, and how; None if none does.

    The metal weights of a row are the sums of its lines' weights. All else must be equal in the row and in each line.
    """
    lines = {line.line_ref: line for line in planned}
    for row in merged:
        group = [lines[ref] for ref in row.line_refs if ref in lines]
        weights = [
            sum_exact(metal.metal_weight_kg for metal in metals if metal)
            for metals in zip_longest(*(line.treatment.section232 for line in group if line.treatment))
        ]
        for line in group:
            failure = next(_differences(_comparable(_with_weights(line, weights)), _comparable(row), ""), None)
            if failure is not None:
                return f"line {line.line_ref}, merged: {failure}"
    return None


def _with_weights(line: CarriedLine, weights: Sequence[Decimal]) -> CarriedLine:
    if line.treatment is None:
        return line
    metals = [
        metal.model_copy(update={"metal_weight_kg": weight})
        for metal, weight in zip(line.treatment.section232, weights, strict=False)
    ]
    return replace(line, treatment=line.treatment.model_copy(update={"section232": metals}))


def _line_difference(plan: CarriedLine, found: CarriedLine) -> str | None:
    if found.line_ref != plan.line_ref:
        return f"line {_shown(found.line_ref)} is in its place"
    digest = plan.recomputed
    recomputed = found.recomputed
    if recomputed is not None and recomputed != digest:
        return next(_differences(_comparable(plan), _comparable(found), ""), "its treatment is written differently")
    if found.stated is not None and found.stated != digest:
        return f"its treatment digest says {_shown(found.stated)}, the plan's is {digest}"
    return None


def _comparable(line: CarriedLine | MergedLines) -> dict[str, Any]:
    return {
        "htsCode": line.hts_code,
        "countryOfOrigin": line.country_of_origin,
        "treatment": None if line.treatment is None else as_json(line.treatment),
    }


def _differences(plan: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(plan, dict) and isinstance(found, dict):
        for name in sorted(plan.keys() | found.keys()):
            yield from _differences(plan.get(name), found.get(name), f"{where}/{name}")
    elif isinstance(plan, list) and isinstance(found, list):
        for place, (one, other) in enumerate(zip_longest(plan, found)):
            yield from _differences(one, other, f"{where}/{place}")
    elif plan != found:
        yield f"{where} is {_shown(found)}, the plan says {_shown(plan)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
