"""Rebuilding: every table of an export derived from its log and plan, held against what is there, and restored."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select, union
from sqlmodel import col

from pipeline.core.errors import NotFound
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Event, Export
from pipeline.ops.rebuild.compare import Difference, Rebuilt, check
from pipeline.ops.rebuild.repair import restore

__all__ = ["Difference", "Rebuilt", "Survey", "check", "restore", "survey"]


@dataclass
class Survey:
    """What was found of all exports: how many there are, and those that are not as their logs say."""

    exports: int = 0
    damaged: list[Rebuilt] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether every table of every export holds what its log says."""
        return not self.damaged


def survey(runtime: Runtime, *, export_id: str | None = None, apply: bool = False) -> Survey:
    """Derive the tables of every export, or of one, and compare; with `apply` restore what can be, and tell what is left.

    One export at a time is in memory. Raises NotFound.
    """
    found = Survey()
    for name in _exports(runtime, export_id):
        with runtime.db.read() as session:
            one = check(session, name)
        found.exports += 1
        if one.intact:
            continue
        if apply and one.refused is None:
            one.left = restore(runtime, name)
        found.damaged.append(one)
    return found


def _exports(runtime: Runtime, export_id: str | None) -> list[str]:
    # An export whose own row is gone is known by its log.
    everywhere = union(select(col(Export.id)), select(col(Event.export_id))).subquery()
    query = select(everywhere.c[0]).order_by(everywhere.c[0])
    if export_id is not None:
        query = query.where(everywhere.c[0] == export_id)
    with runtime.db.read() as session:
        names = list(session.scalars(query))
    if export_id is not None and not names:
        raise NotFound(f"there is no export {export_id}")
    return names
