"""The installation that a database belongs to: a copy of the database sends nothing beside the live one.

The table of heartbeats has its name, so that each copy has it too.
"""

from typing import Final
from weakref import WeakSet

import structlog
from sqlalchemy import delete, select
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.core import heartbeats
from pipeline.core.db import Database
from pipeline.core.heartbeats import Heartbeat
from pipeline.core.runtime import Runtime

log = structlog.get_logger(__name__)

REMEDY: Final = (
    "set EXPORTS_INSTALLATION to that name if this is that installation; if this is a copy that may send messages, give it"
    " a name of its own and run `exports migrate --adopt`"
)

_PREFIX: Final = "installation "
_recorded: Final = select(col(Heartbeat.name)).where(col(Heartbeat.name).startswith(_PREFIX))
#: The databases that are known to be this process's own, and those of others that the log has named.
_own: Final[WeakSet[Database]] = WeakSet()
_logged: Final[WeakSet[Database]] = WeakSet()


def read_name(session: Session) -> str | None:
    """Return the name of the installation that the database belongs to, None if none is recorded."""
    name = session.scalar(_recorded)
    return None if name is None else name.removeprefix(_PREFIX)


def find_problem(session: Session, settings: Settings) -> str | None:
    """Return why this process may not send from the database, None if it may. Without a recorded name each process may."""
    recorded = read_name(session)
    if recorded is None or recorded == settings.installation:
        return None
    given = settings.installation or "not set"
    return f"the database belongs to the installation {recorded}, and EXPORTS_INSTALLATION is {given}: nothing is sent"


def may_send(runtime: Runtime) -> bool:
    """Return whether this process may send messages and read answers; the log names the reason once. Raises DatabaseBusy."""
    if runtime.db in _own:
        return True
    with runtime.db.read() as session:
        problem = find_problem(session, runtime.settings)
    if problem is None:
        _own.add(runtime.db)
    elif runtime.db not in _logged:
        _logged.add(runtime.db)
        log.error("deliveries_stopped", reason=problem, remedy=REMEDY)
    return problem is None


def adopt(database: Database, name: str, *, replace: bool = False) -> None:
    """Record that the database belongs to the installation, unless it belongs to another and `replace` is false."""
    with database.write() as session:
        if replace:
            session.execute(delete(Heartbeat).where(col(Heartbeat.name).startswith(_PREFIX)))
        if read_name(session) is None:
            heartbeats.write(session, f"{_PREFIX}{name}")
