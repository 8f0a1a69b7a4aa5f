"""What customs must be told of each line: its canonical form, its digests, and the rows that keep it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session

from pipeline.core.errors import StepFailed
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import LineTreatment
from pipeline.exports.schemas.plan import Line, Treatment, Unit, as_json
from pipeline.exports.step_context import StepContext, load_unit_row, parse_unit


def line_digest(line: Line) -> str:
    """Return the digest of the line's code, origin and treatment, `sha256:<hex>`.

    docs/treatment-digest.md says how anybody makes it. Decimals count with the digits that the plan gave them: 12.5 and
    12.50 are told apart, the order of fields is not, nor is an empty field from one that is not there. A field that a
    later version adds thus leaves the digests of plans without it as they are.
    """
    return digest_treatment(line.hts_code, line.country_of_origin, line.treatment)


def digest_treatment(hts_code: str, country_of_origin: str, treatment: Treatment) -> str:
    """Return the digest that a line of this code, origin and treatment has; see `line_digest`."""
    line = {"htsCode": hts_code, "countryOfOrigin": country_of_origin, "treatment": as_json(treatment)}
    return _digest(_without_empty(line))


def line_digests(unit: Unit) -> dict[str, str]:
    """Return the digest of every line by its `lineRef`, in the order of the invoice."""
    return {line.line_ref: line_digest(line) for line in unit.lines}


def unit_digest(by_line: Mapping[str, str]) -> str:
    """Return the digest over the unit's lines: which they are, in their order, and what each must be told."""
    return _digest([[line_ref, digest] for line_ref, digest in by_line.items()])


def export_digest(by_unit: Mapping[str, str]) -> str:
    """Return the digest over the export's units, by `unitRef`, in their order."""
    return _digest([[unit_ref, digest] for unit_ref, digest in by_unit.items()])


def attach_treatment(session: Session, context: StepContext, _: object = None) -> Sequence[NewEvent]:
    """Write the treatment of every line of the unit, each with its digest.

    Raises StepFailed where the digests are not the ones that the export was accepted with.
    """
    row = load_unit_row(session, context)
    unit = parse_unit(row)
    digests = line_digests(unit)
    digest = unit_digest(digests)
    if digest != row.treatment_digest:
        raise StepFailed(
            f"the treatment of unit {row.unit_ref} has the digest {digest}, but was accepted with {row.treatment_digest}"
        )
    session.execute(
        insert(LineTreatment), treatment_rows(unit, digests, export_id=context.export_id, unit_no=context.unit_no)
    )
    data = {"unitNo": context.unit_no, "unitRef": row.unit_ref, "lines": len(unit.lines), "digest": digest}
    return (NewEvent(EventType.TREATMENT_ATTACHED, data),)


def treatment_rows(unit: Unit, digests: Mapping[str, str], *, export_id: str, unit_no: int) -> list[dict[str, Any]]:
    """Return the rows of the unit's lines, in their order; `digests` are those of `line_digests`."""
    return [
        {
            "export_id": export_id,
            "unit_no": unit_no,
            "line_ref": line.line_ref,
            "position": position,
            "hts_code": line.hts_code,
            "country_of_origin": line.country_of_origin,
            "digest": digests[line.line_ref],
        }
        | _columns(line)
        for position, line in enumerate(unit.lines, start=1)
    ]


def _columns(line: Line) -> dict[str, Any]:
    carried = as_json(line.treatment)
    return {name: carried[name] for name in ("chapter99", "section232", "pga")}


def _without_empty(value: Any) -> Any:
    """Return JSON without the members of objects that are null or empty, from the inside out."""
    if isinstance(value, dict):
        cleaned = {name: _without_empty(inner) for name, inner in value.items()}
        return {name: inner for name, inner in cleaned.items() if inner not in (None, [], {})}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    # RFC 8785 asks for more where there are numbers, or keys beyond the basic plane. A treatment has neither, and for
    # the rest the encoder in C writes the same bytes in a tenth of the time: a test holds the two against each other.
    canonical = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
