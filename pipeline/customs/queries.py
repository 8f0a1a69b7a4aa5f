"""Reads of the treatment of lines: a page of an export's lines, and one line with its unit."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import tuple_
from sqlmodel import Session, col, select

from pipeline.core.errors import NotFound
from pipeline.customs.tariff.facts import read_facts
from pipeline.customs.tariff.goods import GoodsRate, GoodsRates
from pipeline.exports.models import Export, ExportUnit, LineTreatment
from pipeline.exports.schemas.plan import Line, Unit
from pipeline.exports.step_context import parse_unit


@dataclass(frozen=True)
class TreatedLine:
    """The recorded treatment of a line, and the unit that it belongs to."""

    unit_ref: str
    treatment: LineTreatment


@dataclass(frozen=True)
class LineInPlan:
    """A line as the plan gives it, its unit, its recorded treatment, and the rate of its goods at the acceptance if known."""

    unit: Unit
    line: Line
    treatment: LineTreatment
    goods_rate: GoodsRate | None


def list_treatments(
    session: Session, export_id: str, *, after: tuple[int, int] = (0, 0), limit: int = 50
) -> Sequence[TreatedLine]:
    """Return the lines of the export in the order of the plan, after the unit number and position `after`."""
    place = tuple_(col(LineTreatment.unit_no), col(LineTreatment.position))
    rows = session.exec(
        select(LineTreatment, ExportUnit.unit_ref)
        .join(
            ExportUnit,
            (col(ExportUnit.export_id) == col(LineTreatment.export_id))
            & (col(ExportUnit.unit_no) == col(LineTreatment.unit_no)),
        )
        .where(col(LineTreatment.export_id) == export_id, place > after)
        .order_by(col(LineTreatment.unit_no), col(LineTreatment.position))
        .limit(limit)
    )
    return [TreatedLine(unit_ref, row) for row, unit_ref in rows]


def find_line(session: Session, export: Export, unit_no: int, position: int) -> LineInPlan:
    """Return the line at the position of the unit, both counted from 1.

    Raises NotFound if there is none, its treatment is not recorded yet, or the plan was purged.
    """
    row = session.exec(
        select(LineTreatment).where(
            col(LineTreatment.export_id) == export.id,
            col(LineTreatment.unit_no) == unit_no,
            col(LineTreatment.position) == position,
        )
    ).first()
    if row is None or export.purged_at is not None:
        reason = "the export was purged" if export.purged_at else "no treatment is recorded for it"
        raise NotFound(f"line {position} of unit {unit_no} cannot be shown: {reason}")
    recorded = session.exec(
        select(ExportUnit).where(col(ExportUnit.export_id) == export.id, col(ExportUnit.unit_no) == unit_no)
    ).one()
    unit = parse_unit(recorded)
    line = next(line for line in unit.lines if line.line_ref == row.line_ref)
    return LineInPlan(unit, line, row, GoodsRates.of_unit(unit, read_facts(recorded.tariff)).find_rate(line))
