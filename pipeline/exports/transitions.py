"""The transitions of an export, each guarded by the table of legal ones."""

from functools import cache
from typing import Any

from sqlalchemy import Update, bindparam, case, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import Session

from pipeline.core.db import constants, database_now, row_count, table
from pipeline.core.errors import InvalidState
from pipeline.exports.models import Export
from pipeline.exports.states import ACTIVE_STATES, EXPORT_TRANSITIONS, ExportState, source_states

_exports = table(Export).c


def transition_export(session: Session, export_id: str, target: ExportState, **values: Any) -> None:
    """Move the export to `target`, and write when it ended. Raises InvalidState if its state does not allow it."""
    parameters = {f"new_{name}": value for name, value in values.items()}
    moved = session.execute(_build_transition(target, tuple(values)), {"of_export": export_id} | parameters)
    if row_count(moved) != 1:
        raise InvalidState(f"the export cannot become {target} from its state")


def start_accepted(statement: ReturningUpdate[Any]) -> ReturningUpdate[Any]:
    """Return the UPDATE of exports with the start of an accepted one; the state of another stays."""
    is_accepted = _exports.state == ExportState.ACCEPTED.value
    return statement.values(state=case((is_accepted, ExportState.EXECUTING.value), else_=_exports.state))


@cache
def _build_transition(target: ExportState, columns: tuple[str, ...]) -> Update:
    new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    if target is not ExportState.SUPERSEDED:  # it had ended before
        new["finished_at"] = None if target in ACTIVE_STATES else database_now()
    return (
        update(table(Export))
        .where(
            _exports.id == bindparam("of_export"),
            _exports.state.in_(constants(source_states(EXPORT_TRANSITIONS, target))),
        )
        .values(state=target.value, updated_at=database_now(), **new)
    )
