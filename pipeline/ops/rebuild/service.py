"""The rebuild: it derives every table of an export from its log and plan, compares, and restores."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import select, union
from sqlmodel import col

from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.exports.event_models import Event
from pipeline.exports.models import Export
from pipeline.ops.rebuild.compare import Difference, RebuildResult, compare_export
from pipeline.ops.rebuild.repair import restore_export

__all__ = ["Difference", "RebuildReport", "RebuildResult", "compare_export", "rebuild_exports", "restore_export"]


@dataclass
class RebuildReport:
    """The result for the exports compared so far: their number, and those that differ from their logs."""

    exports: int = 0
    total: int = 0  # to compare
    damaged: list[RebuildResult] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether every table of every export holds what its log says."""
        return not self.damaged


def rebuild_exports(
    runtime: Runtime,
    on_progress: Callable[[RebuildReport], None] = lambda _: None,
    *,
    export_id: str | None = None,
    apply: bool = False,
) -> RebuildReport:
    """Derive the tables of every export, or of one, and compare; with `apply` also restore, and report what remains.

    Holds one export at a time in memory, and calls `on_progress` after each. Raises NotFound.
    """
    names = _export_ids(runtime, export_id)
    report = RebuildReport(total=len(names))
    for name in names:
        with runtime.db.read() as session:
            result = compare_export(session, name)
        report.exports += 1
        if not result.intact:
            if apply and result.refusal is None:
                result.after_restore = restore_export(runtime, name)
            report.damaged.append(result)
        on_progress(report)
    return report


def _export_ids(runtime: Runtime, export_id: str | None) -> list[str]:
    # If an export's row is missing, its log still names the export.
    known_ids = union(select(col(Export.id)), select(col(Event.export_id))).subquery()
    query = select(known_ids.c[0]).order_by(known_ids.c[0])
    if export_id is not None:
        query = query.where(known_ids.c[0] == export_id)
    with runtime.db.read() as session:
        names = list(session.scalars(query))
    if export_id is not None and not names:
        raise NotFound(f"there is no export {export_id}")
    return names
