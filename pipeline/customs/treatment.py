"""The treatment of each line: its canonical form, its digests, and the rows that store it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import insert
from sqlmodel import Session

from pipeline.core.db import table
from pipeline.core.errors import StepFailed
from pipeline.exports.events import EventType, NewEvent
from pipeline.exports.models import LineTreatment
from pipeline.exports.schemas.plan import Line, Treatment, Unit, as_json
from pipeline.exports.step_context import StepContext, load_unit_row, parse_unit

_INSERT_TREATMENTS: Final = insert(table(LineTreatment))


def line_digest(line: Line) -> str:
    """Return the digest of the line's code, origin and treatment, `sha256:<hex>`.

    docs/treatment-digest.md specifies the digest. Decimals count with the digits of the plan: 12.5 and 12.50 differ. The
    order of fields does not count, and an empty field counts as a missing one. So a field that a later version adds does
    not change the digests of plans without it.
    """
    return digest_treatment(line.hts_code, line.country_of_origin, line.treatment)


def digest_treatment(hts_code: str, country_of_origin: str, treatment: Treatment) -> str:
    """Return the digest of a line with this HTS code, origin and treatment; see `line_digest`."""
    line = {"htsCode": hts_code, "countryOfOrigin": country_of_origin, "treatment": as_json(treatment)}
    return _digest(_without_empty(line))


def line_digests(unit: Unit) -> dict[str, str]:
    """Return the digest of each line by `lineRef`, in the order of the invoice."""
    return {line.line_ref: line_digest(line) for line in unit.lines}


def unit_digest(by_line: Mapping[str, str]) -> str:
    """Return the digest over the refs and digests of the unit's lines, in their order."""
    return _digest([[line_ref, digest] for line_ref, digest in by_line.items()])


def export_digest(by_unit: Mapping[str, str]) -> str:
    """Return the digest over the refs and digests of the export's units, in their order."""
    return _digest([[unit_ref, digest] for unit_ref, digest in by_unit.items()])


def attach_treatment(session: Session, context: StepContext, _: object = None) -> Sequence[NewEvent]:
    """Write the treatment of every line of the unit, each with its digest, and return the event.

    Raises StepFailed if the unit's digest differs from the one with which the export was accepted.
    """
    row = load_unit_row(session, context)
    unit = parse_unit(row)
    digests = line_digests(unit)
    digest = unit_digest(digests)
    if digest != row.unit_digest:
        raise StepFailed(
            f"the treatment of unit {row.unit_ref} has digest {digest}, but the export was accepted with "
            f"{row.unit_digest}"
        )
    session.execute(
        _INSERT_TREATMENTS, treatment_rows(unit, digests, export_id=context.export_id, unit_no=context.unit_no)
    )
    data = {"unitNo": context.unit_no, "unitRef": row.unit_ref, "lines": len(unit.lines), "digest": digest}
    return (NewEvent(EventType.TREATMENT_ATTACHED, data),)


def treatment_rows(unit: Unit, digests: Mapping[str, str], *, export_id: str, unit_no: int) -> list[dict[str, Any]]:
    """Return the rows of the unit's lines, in their order; `digests` comes from `line_digests`."""
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
    """Return the JSON value without object members that are null or empty, starting with the innermost."""
    if isinstance(value, dict):
        cleaned = {name: _without_empty(inner) for name, inner in value.items()}
        return {name: inner for name, inner in cleaned.items() if inner not in (None, [], {})}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    # RFC 8785 differs from this only for numbers and for keys outside the basic plane. A treatment has neither. Otherwise
    # the C encoder writes the same bytes in a tenth of the time; a test compares the two.
    canonical = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
