"""The rulesets of the installation: each is stored once, by its content, and one of them is active for all processes."""

import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sqlalchemy import Row, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from pipeline.core.cache import Kept
from pipeline.core.db import table
from pipeline.core.errors import NotFound, RulesInvalid, RulesUnreadable
from pipeline.core.runtime import Runtime
from pipeline.customs.models import RulesetActivation, StoredRuleset
from pipeline.customs.reference.archive import RulesFiles, pack_files, unpack_files
from pipeline.customs.reference.bundle import parse_rules
from pipeline.customs.reference.content import RulesContent, packaged_rules, use_rules
from pipeline.customs.reference.ruleset import Ruleset

#: The rulesets that a process keeps in memory, each with its parsed rows: the active one, and those of older exports.
_MAX_LOADED: Final = 6
_loaded: Final[Kept[str, RulesContent]] = Kept(_MAX_LOADED)
_loading: Final = threading.Lock()

#: How often an activation starts over when another process activates rules at the same moment.
_ATTEMPTS: Final = 5

_activations, _rulesets = table(RulesetActivation).c, table(StoredRuleset).c
_NEWEST: Final = select(_activations.number, _activations.content_hash).order_by(_activations.number.desc()).limit(1)


@dataclass(frozen=True)
class ListedRuleset:
    """A stored ruleset, and when it was last made the active one, and by whom; None if it never was."""

    content_hash: str
    ruleset_id: str
    as_of: date
    place: str
    signed_by: str | None
    stored_at: datetime
    active: bool
    activated_at: datetime | None
    activated_by: str | None


def check_content(content: RulesContent, *, complete: bool = True) -> Ruleset:
    """Return the ruleset of chapter 99 of the rules after all their files were read. Raises what `parse_rules` does."""
    try:
        return (content.parse_once(parse_rules) if complete else parse_rules(content, complete=False))[0]
    except RecursionError as error:
        raise RulesInvalid(["a file of the rules is nested too deep. Reduce its depth."]) from error


def find_active(session: Session) -> Row[tuple[int, str]] | None:
    """Return the number of the newest activation and the content hash of its ruleset, or None if none is active."""
    return session.execute(_NEWEST).first()


def describe_active(session: Session, today: date) -> str | None:
    """Return the active ruleset, its day and its age as a sentence, without reading its files; None if none is active."""
    newest = find_active(session)
    if newest is None:
        return None
    row = session.execute(
        select(_rulesets.ruleset_id, _rulesets.as_of).where(_rulesets.content_hash == newest.content_hash)
    ).one()
    return f"ruleset {row.ruleset_id} as of {row.as_of}, {max((today - row.as_of).days, 0)} days old"


def read_active(session: Session) -> RulesContent:
    """Return the active rules: those of this version as long as none were activated. Raises RulesUnreadable."""
    newest = find_active(session)
    return packaged_rules() if newest is None else read_stored(session, newest.content_hash)


def read_stored(session: Session, content_hash: str | None) -> RulesContent:
    """Return the rules with this hash, without a hash those of this version. Raises RulesUnreadable."""
    loaded = _find_loaded(content_hash)
    if loaded is not None:
        return loaded
    content = _parse_stored(session, content_hash)
    with _loading:
        # Another thread may have parsed a copy; all decisions are made with one.
        content = _loaded.get(content.content_hash) or content
        _loaded.put(content.content_hash, content)
    return content


def load_stored(runtime: Runtime, content_hash: str | None) -> RulesContent:
    """Return what `read_stored` does, in a transaction of its own if this process has not loaded them."""
    loaded = _find_loaded(content_hash)
    if loaded is not None:
        return loaded
    with runtime.db.read() as session:
        return read_stored(session, content_hash)


def _find_loaded(content_hash: str | None) -> RulesContent | None:
    packaged = packaged_rules()
    if content_hash is None or content_hash == packaged.content_hash:
        return packaged
    return _loaded.get(content_hash)


@contextmanager
def use_stored(runtime: Runtime, content_hash: str | None) -> Iterator[RulesContent]:
    """Judge in the block by the rules with this hash. A generator must not yield inside it. Raises RulesUnreadable."""
    content = load_stored(runtime, content_hash)
    with use_rules(content):
        yield content


def _parse_stored(session: Session, content_hash: str | None) -> RulesContent:
    row = session.execute(
        select(_rulesets.ruleset_id, _rulesets.files).where(_rulesets.content_hash == content_hash)
    ).first()
    if row is None:
        raise RulesUnreadable(f"the rules {content_hash} are not stored; store them by `exports rules store FOLDER`")
    try:
        content = RulesContent(unpack_files(b64decode(row.files), row.ruleset_id))
        if content.content_hash != content_hash:
            raise RulesUnreadable(f"the stored rules {content_hash} are damaged; restore the table `rulesets`")
        check_content(content, complete=False)
    except RulesInvalid as error:
        raise RulesUnreadable(
            f"ruleset {row.ruleset_id} needs another version of the service than this process has ({error.errors[0]})"
        ) from error
    return content


def store_rules(session: Session, found: RulesFiles, place: str) -> Ruleset:
    """Store checked rules unless they are stored, and return their ruleset.

    Raises RulesInvalid if they break a rule, or if other rules are stored under the same id: an id names one content.
    """
    rules = check_content(found.content)
    if session.get(StoredRuleset, rules.content_hash) is not None:
        return rules
    other = session.scalars(select(_rulesets.content_hash).where(_rulesets.ruleset_id == rules.id).limit(1)).first()
    if other is not None:
        raise RulesInvalid(
            [f"ruleset.yaml: other rules with the id {rules.id} are stored ({other}). Give the changed rules a new id."]
        )
    session.add(
        StoredRuleset(
            content_hash=rules.content_hash,
            ruleset_id=rules.id,
            as_of=rules.as_of,
            files=b64encode(pack_files(found.content.files)).decode(),
            place=place,
            signed_by=found.signed_by,
        )
    )
    session.flush()
    return rules


def activate_rules(session: Session, content_hash: str, by: str) -> bool:
    """Make stored rules the active ones of all processes; return whether they were not active before.

    Raises IntegrityError if another process activates rules at this moment.
    """
    newest = find_active(session)
    if newest is not None and newest.content_hash == content_hash:
        return False
    # The number is the next one, so that of two processes only one writes the row.
    number = 1 if newest is None else newest.number + 1
    session.add(RulesetActivation(number=number, content_hash=content_hash, activated_by=by))
    session.flush()
    return True


def was_activated_since(session: Session, content_hash: str, number: int) -> bool:
    """Return whether the rules were activated after the activation with this number."""
    later = select(_activations.number).where(_activations.number > number, _activations.content_hash == content_hash)
    return session.scalars(later.limit(1)).first() is not None


def find_stored(session: Session, name: str) -> str:
    """Return the content hash of the stored rules with this id or content hash. Raises NotFound."""
    found: str | None = session.scalars(
        select(_rulesets.content_hash).where((_rulesets.ruleset_id == name) | (_rulesets.content_hash == name))
    ).first()
    if found is None:
        raise NotFound(f"no ruleset {name} is stored; `exports rules stored` lists them")
    return found


def switch_rules(runtime: Runtime, name: str, by: str) -> tuple[str, bool]:
    """Make the stored rules with this id or hash active; return their hash, and whether they were not active before.

    Raises NotFound, and RulesUnreadable if this version cannot read them.
    """
    for _ in range(_ATTEMPTS):
        try:
            with runtime.db.write() as session:
                content_hash = find_stored(session, name)
                read_stored(session, content_hash)
                return content_hash, activate_rules(session, content_hash, by)
        except IntegrityError:
            continue  # another process activated rules at the same moment; this command is the later one
    raise RulesUnreadable("other processes activate rules at this moment; try again")


def list_stored(session: Session) -> Sequence[ListedRuleset]:
    """Return the stored rulesets, the active one first, then the one that was last active."""
    newest = find_active(session)
    activated: dict[str, RulesetActivation] = {}
    for row in session.scalars(select(RulesetActivation).order_by(col(RulesetActivation.number))):
        activated[row.content_hash] = row
    found = [
        ListedRuleset(
            row.content_hash,
            row.ruleset_id,
            row.as_of,
            row.place,
            row.signed_by,
            row.stored_at,
            newest is not None and newest.content_hash == row.content_hash,
            None if row.content_hash not in activated else activated[row.content_hash].activated_at,
            None if row.content_hash not in activated else activated[row.content_hash].activated_by,
        )
        for row in session.execute(
            select(
                _rulesets.content_hash,
                _rulesets.ruleset_id,
                _rulesets.as_of,
                _rulesets.place,
                _rulesets.signed_by,
                _rulesets.stored_at,
            )
        )
    ]
    numbers = {name: row.number for name, row in activated.items()}
    return sorted(found, key=lambda each: (-numbers.get(each.content_hash, 0), each.ruleset_id))
