"""An account's settings for printed documents: an export keeps those of its acceptance, so that its documents never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, select, update
from sqlmodel import Session, col

from pipeline.core.db import table
from pipeline.core.errors import NotFound, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account

ENGLISH: Final = "en"
FRENCH: Final = "fr"
#: English always stays: customs asks for it (19 CFR 141.86(d)).
LANGUAGES: Final = ([ENGLISH], [ENGLISH, FRENCH])


@dataclass(frozen=True)
class PrintSettings:
    """How the pages of an export are printed."""

    french: bool = False

    @property
    def languages(self) -> list[str]:
        """The languages of the pages."""
        return [ENGLISH, FRENCH] if self.french else [ENGLISH]

    @property
    def fact(self) -> dict[str, Any]:
        """What the export's log says of the settings: nothing if they are the usual ones."""
        return {"printsFrench": True} if self.french else {}


_accounts = table(Account).c
_FIND: Final = select(_accounts.prints_french).where(_accounts.id == bindparam("of_account"))


def find_print_settings(session: Session, account_id: str) -> PrintSettings:
    """Return the settings of the account; raises NotFound if it does not exist."""
    row = session.execute(_FIND, {"of_account": account_id}).one_or_none()
    if row is None:
        raise _no_account(account_id)
    return PrintSettings(french=row.prints_french)


def set_languages(runtime: Runtime, account_id: str, languages: Sequence[str], *, changed_by: str) -> PrintSettings:
    """Let new exports of the account print these languages, `["en"]` or `["en", "fr"]`; return the settings.

    Raises NotFound, and ValidationFailed for other languages.
    """
    if list(languages) not in LANGUAGES:
        raise ValidationFailed(
            f"languages must be en, or en and fr, not {', '.join(languages) or 'none'}; customs asks for English, so it"
            " always stands first",
            field="/languages",
        )
    french = FRENCH in languages
    with runtime.db.write() as session:
        changed = session.execute(
            update(Account).where(col(Account.id) == account_id).values(prints_french=french).returning(col(Account.id))
        )
        if changed.one_or_none() is None:
            raise _no_account(account_id)
        detail = {"languages": ", ".join(languages)}
        record_act(session, account_id, changed_by, Action.LANGUAGES_CHANGED, account_id, detail)
        return find_print_settings(session, account_id)


def _no_account(account_id: str) -> NotFound:
    return NotFound(f"there is no account {account_id}; create it with exports accounts create", field="/accountId")
