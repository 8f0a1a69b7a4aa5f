"""Looks at the place of the customs rules, and activates for all processes what changed there.

The place is EXPORTS_RULES, or else this version of the service. A process looks at it at most once a second, before a piece
of work. It activates rules that the installation has never stored, and rules to which it saw the place change, unless
another process has activated them since. So neither a machine with older files nor a restart undoes what an operator did.
"""

import threading
import time
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from pipeline.core.db import Database
from pipeline.core.errors import RulesInvalid, RulesUnreadable
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets
from pipeline.customs.models import StoredRuleset
from pipeline.customs.reference.archive import SIGNATURE, RulesFiles, read_rules
from pipeline.customs.reference.content import ENDINGS, packaged_rules

log = structlog.get_logger(__name__)

#: How often a process looks, and how long the files must stay unchanged: a folder may be half copied.
LOOK_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0

_PACKAGED: Final = "the rules of this version"

#: What identifies the state of the files without reading them: each name, size, time of change and inode.
Stamp = tuple[tuple[str, int, int, int], ...]


class _Watch:
    """What this process knows of the place: what it saw last, and the activation that was the newest then."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.looked_at: float | None = None
        self.problem: str | None = None
        self._known: Stamp | None = None
        self._pending: Stamp | None = None
        self._pending_since = 0.0
        self._seen: str | None = None
        self._number = 0

    def look(self, runtime: Runtime, now: float) -> None:
        """Look at the place, and activate its rules if they changed. Raises RulesUnreadable if there are none at all."""
        try:
            self._look(runtime, runtime.settings.rules, now)
        except IntegrityError:
            log.info("rules_changed_elsewhere")  # another process stores or activates rules; the next look finds them

    def _look(self, runtime: Runtime, place: Path | None, now: float) -> None:
        if place is None:
            if self._seen is None:  # the rules of this version do not change while it runs
                self._apply(runtime, RulesFiles(packaged_rules(), None), _PACKAGED)
            return
        with runtime.db.read() as session:
            newest = rulesets.find_active(session)
        stamp = _read_stamp(place)
        if stamp == self._known:
            self._number = 0 if newest is None else newest.number
        elif newest is None or self._has_settled(stamp, now):
            self._read(runtime, place, stamp)
        if newest is None and self.problem is not None:
            raise RulesUnreadable(f"there are no customs rules: {self.problem}")

    def _has_settled(self, stamp: Stamp, now: float) -> bool:
        if stamp != self._pending:
            self._pending, self._pending_since = stamp, now
        return now - self._pending_since >= SETTLE_SECONDS

    def _read(self, runtime: Runtime, place: Path, stamp: Stamp) -> None:
        try:
            found = read_rules(place, runtime.settings.rules_keys)
            if _read_stamp(place) != stamp:
                return  # the files changed while they were read
            self._apply(runtime, found, str(place))
        except RulesInvalid as error:
            self.problem = error.summary
            log.error("rules_refused", place=str(place), errors=error.errors[:20])  # noqa: TRY400 - the traceback says nothing
        else:
            self.problem = None
        self._known = stamp

    def _apply(self, runtime: Runtime, found: RulesFiles, place: str) -> None:
        content_hash = found.content.content_hash
        with runtime.db.write() as session:
            newest = rulesets.find_active(session)
            stored = session.get(StoredRuleset, content_hash) is not None
            rules = rulesets.store_rules(session, found, place)
            changed = self._seen not in (None, content_hash)
            fresh = newest is None or not stored or (changed and not self._was_applied(session, content_hash))
            if fresh and rulesets.activate_rules(session, content_hash, place):
                log.info("rules_activated", ruleset=rules.id, content_hash=content_hash, place=place)
            newest = rulesets.find_active(session)
        self._seen = content_hash
        self._number = 0 if newest is None else newest.number

    def _was_applied(self, session: Session, content_hash: str) -> bool:
        return rulesets.was_activated_since(session, content_hash, self._number)


_watches: WeakKeyDictionary[Database, _Watch] = WeakKeyDictionary()
_creating: Final = threading.Lock()


def watch_rules(runtime: Runtime, *, now: float | None = None) -> None:
    """Look at the place of the rules if this process has not done so within the last second; `now` is monotonic.

    Wrong rules are logged, and the active ones stay. Raises RulesUnreadable if none are active yet, and DatabaseBusy.
    """
    watch = _find_watch(runtime)
    # Only before the first look do all threads wait for it.
    if not watch.lock.acquire(blocking=watch.looked_at is None):
        return
    try:
        now = time.monotonic() if now is None else now
        if watch.looked_at is None or now - watch.looked_at >= LOOK_SECONDS:
            watch.look(runtime, now)
            watch.looked_at = now
    finally:
        watch.lock.release()


def find_problem(runtime: Runtime) -> str | None:
    """Return why this process refused the rules at EXPORTS_RULES when it last read them, or None."""
    return _find_watch(runtime).problem


def _find_watch(runtime: Runtime) -> _Watch:
    with _creating:
        return _watches.setdefault(runtime.db, _Watch())


def _read_stamp(place: Path) -> Stamp:
    """Return the state of the files of the place; nothing if it does not exist."""
    try:
        if not place.is_dir():
            return (_stamp_file(place, place.name),)
        paths = sorted(path for path in place.rglob("*") if path.suffix in ENDINGS or path.name == SIGNATURE)
        return tuple(_stamp_file(path, path.relative_to(place).as_posix()) for path in paths)
    except OSError:
        return ()


def _stamp_file(path: Path, name: str) -> tuple[str, int, int, int]:
    found = path.stat()
    return name, found.st_size, found.st_mtime_ns, found.st_ino
