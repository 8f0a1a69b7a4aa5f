"""The transitions of an export, each guarded by the table of legal ones."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col

from pipeline.core.db import database_now, row_count
from pipeline.core.errors import InvalidState
from pipeline.exports.models import Export
from pipeline.exports.states import EXPORT_TRANSITIONS, ExportState, source_states


def transition_export(session: Session, export_id: str, target: ExportState, **values: Any) -> None:
    """Move the export to `target`. Raises InvalidState if its state does not allow it."""
    moved = session.execute(
        update(Export)
        .where(
            col(Export.id) == export_id,
            col(Export.state).in_([state.value for state in source_states(EXPORT_TRANSITIONS, target)]),
        )
        .values(state=target.value, updated_at=database_now(), **values)
    )
    if row_count(moved) != 1:
        raise InvalidState(f"the export cannot become {target} from its state")
