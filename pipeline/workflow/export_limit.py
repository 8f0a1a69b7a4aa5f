"""The limit of an account's active exports, and the queues in which their units wait."""

from datetime import datetime
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import bindparam, exists, func, select
from sqlmodel import Session

from config.queues import BACKLOG, LARGE, STEPS
from pipeline.core.db import Database, constants, database_now, table
from pipeline.core.errors import RateLimited
from pipeline.core.runtime import Runtime
from pipeline.exports.models import Export
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import ACTIVE_STATES

#: Of the room that a count finds, a process accepts this part before it counts again: a count reads each active export.
_ROOM_PART: Final = 100

#: The active exports of an account that go ahead; its further ones wait in the backlog.
PROMPT_EXPORTS: Final = 4
#: A unit with more lines and packages in all is large. A plan with more waits in the backlog.
_SMALL_SIZE: Final = 100

_exports = table(Export).c
_active = select(_exports.id).where(
    _exports.state.in_(constants(ACTIVE_STATES)), _exports.account_id == bindparam("of_account")
)
_COUNT: Final = select(
    func.count().label("active"),
    database_now().label("now"),
    exists(_active.offset(PROMPT_EXPORTS - 1).limit(1)).label("waits"),
).select_from(_active.limit(bindparam("most")).subquery())

_uncounted: Final[WeakKeyDictionary[Database, dict[str, int]]] = WeakKeyDictionary()


def check_active_exports(
    session: Session, runtime: Runtime, plan: Plan, account_id: str
) -> tuple[datetime, tuple[str, ...]]:
    """Return the database's time, and the queue in which each unit of a new export of the plan waits.

    Raises RateLimited if the account has its maximum of active exports.

    Other requests and processes may accept at the same time, so an account may have a few more; they do no harm.
    """
    left = _uncounted.setdefault(runtime.db, {})
    limit = runtime.settings.max_open_exports
    counts = left.get(account_id, 0) < 1  # threads share it without a lock, so it can fall below zero
    active, now, waits = session.execute(_COUNT, {"of_account": account_id, "most": limit if counts else 0}).one()
    if active >= limit:
        raise RateLimited(
            f"account {account_id} has {limit} active exports, the maximum; try again when some have ended",
            headers={"Retry-After": "30"},
        )
    left[account_id] = (limit - active) // _ROOM_PART if counts else left[account_id] - 1
    sizes = [len(unit.lines) + len(unit.packages) for unit in plan.units]
    queue = BACKLOG if waits or sum(sizes) > _SMALL_SIZE else STEPS
    return now, tuple(LARGE if size > _SMALL_SIZE else queue for size in sizes)
