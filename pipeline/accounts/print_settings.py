"""An account's settings for printed documents: an export keeps those of its acceptance, so that its documents never change."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update
from sqlmodel import Session, col

from pipeline.accounts.models import Partner
from pipeline.accounts.schemas import LogoView, PrintSettingsChanges, PrintSettingsView
from pipeline.accounts.service import account_not_found, explain_live
from pipeline.core.db import table
from pipeline.core.errors import InsufficientRole, ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.documents.pdf.logos import Logo, prepare_logo, read_logo
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account, LogoFile

ENGLISH: Final = "en"
FRENCH: Final = "fr"
#: English always stays: customs asks for it (19 CFR 141.86(d)).
LANGUAGES: Final = ([ENGLISH], [ENGLISH, FRENCH])

#: The most logos of an account: none is deleted, because documents show them.
MAX_LOGOS: Final = 100


@dataclass(frozen=True)
class PrintSettings:
    """How the pages of an export are printed."""

    french: bool = False
    logo_sha256: str | None = None
    broker_name: str | None = None  # the name that the plan's customs broker has now; None without a plan

    @property
    def languages(self) -> list[str]:
        """The languages of the pages."""
        return [ENGLISH, FRENCH] if self.french else [ENGLISH]

    @property
    def fact(self) -> dict[str, Any]:
        """What the export's log says of the settings: only the broker's name if they are the usual ones."""
        logo = {} if self.logo_sha256 is None else {"logo": self.logo_sha256}
        broker = {} if self.broker_name is None else {"brokerName": self.broker_name}
        return ({"printsFrench": True} if self.french else {}) | logo | broker


_accounts, _partners = table(Account).c, table(Partner).c
_broker_name = select(_partners.name).where(
    _partners.account_id == _accounts.id, _partners.id == bindparam("of_broker")
)
_FIND: Final = select(
    _accounts.prints_french, _accounts.logo_sha256, _broker_name.scalar_subquery().label("broker_name")
).where(_accounts.id == bindparam("of_account"))


def find_print_settings(session: Session, account_id: str, broker_id: str | None = None) -> PrintSettings:
    """Return the account's settings and the name of this customs broker; raises NotFound if the account does not exist."""
    row = session.execute(_FIND, {"of_account": account_id, "of_broker": broker_id}).one_or_none()
    if row is None:
        raise account_not_found(account_id)
    return PrintSettings(french=row.prints_french, logo_sha256=row.logo_sha256, broker_name=row.broker_name)


def set_languages(runtime: Runtime, account_id: str, languages: Sequence[str], *, changed_by: str) -> PrintSettings:
    """Let new exports of the account print these languages, `["en"]` or `["en", "fr"]`; return the settings.

    Raises NotFound, and ValidationFailed for other languages.
    """
    check_languages(languages)
    french = FRENCH in languages
    with runtime.db.write() as session:
        _change_account(session, account_id, prints_french=french)
        detail = {"languages": ", ".join(languages)}
        record_act(session, account_id, changed_by, Action.LANGUAGES_CHANGED, account_id, detail)
        return find_print_settings(session, account_id)


def check_languages(languages: Sequence[str]) -> None:
    """Raise ValidationFailed if these are not the languages of a page."""
    if list(languages) not in LANGUAGES:
        raise ValidationFailed(
            f"languages must be en, or en and fr, not {', '.join(languages) or 'none'}; customs asks for English, so it"
            " always stands first",
            field="/languages",
        )


def set_logo(runtime: Runtime, account_id: str, picture: bytes, *, changed_by: str) -> Logo:
    """Let new exports of the account print this logo, a PNG or a JPEG; return it as it is stored.

    Raises NotFound, RendererUnavailable, and ValidationFailed if the picture cannot be taken or the account had too many.
    """
    with runtime.db.read() as session:
        find_print_settings(session, account_id)
    logo = prepare_logo(picture)
    sha256 = hashlib.sha256(logo.picture).hexdigest()
    with runtime.db.write() as session:
        # The lock lets one request at a time count and write.
        _change_account(session, account_id, logo_sha256=sha256)
        if session.get(LogoFile, (account_id, sha256)) is None:
            kept = session.scalar(select(func.count()).where(col(LogoFile.account_id) == account_id)) or 0
            if kept >= MAX_LOGOS:
                raise ValidationFailed(
                    f"account {account_id} has had {MAX_LOGOS} logos, the maximum: documents of its exports show them; take"
                    " one of these, or use a new account",
                    field="/logo",
                )
            session.add(LogoFile(account_id=account_id, sha256=sha256, picture=logo.picture, added_by=changed_by))
            session.flush()
        detail = {"sha256": sha256, "width": logo.width, "height": logo.height}
        record_act(session, account_id, changed_by, Action.LOGO_CHANGED, account_id, detail)
    return logo


def remove_logo(runtime: Runtime, account_id: str, *, changed_by: str) -> None:
    """Let new exports of the account print no logo; it stays in the documents of others. Raises NotFound."""
    with runtime.db.write() as session:
        _change_account(session, account_id, logo_sha256=None)
        record_act(session, account_id, changed_by, Action.LOGO_REMOVED, account_id)


def find_logo(session: Session, account_id: str) -> Logo | None:
    """Return the logo that new exports of the account print, or None. Raises NotFound."""
    sha256 = find_print_settings(session, account_id).logo_sha256
    stored = None if sha256 is None else session.get(LogoFile, (account_id, sha256))
    return None if stored is None else read_logo(stored.picture)


def show_print_settings(runtime: Runtime, account_id: str) -> PrintSettingsView:
    """Return the settings with the picture of the logo. Raises NotFound."""
    with runtime.db.read() as session:
        settings, logo = find_print_settings(session, account_id), find_logo(session, account_id)
    shown = None
    if logo is not None and settings.logo_sha256 is not None:
        picture = base64.b64encode(logo.picture).decode()
        shown = LogoView(sha256=settings.logo_sha256, width=logo.width, height=logo.height, picture=picture)
    return PrintSettingsView.model_validate({"languages": settings.languages, "logo": shown})


def change_print_settings(
    runtime: Runtime, account_id: str, changes: PrintSettingsChanges, *, changed_by: str, test_only: bool = False
) -> PrintSettingsView:
    """Change what the request names, and return the settings.

    Raises InsufficientRole if `test_only`, RendererUnavailable, and ValidationFailed before anything is changed.
    """
    if test_only:
        raise InsufficientRole(explain_live("print settings"))
    if changes.languages is not None:
        check_languages(changes.languages)
    if changes.logo is not None:
        set_logo(runtime, account_id, _decode_picture(changes.logo), changed_by=changed_by)
    elif "logo" in changes.model_fields_set:
        remove_logo(runtime, account_id, changed_by=changed_by)
    if changes.languages is not None:
        set_languages(runtime, account_id, changes.languages, changed_by=changed_by)
    return show_print_settings(runtime, account_id)


def _decode_picture(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValidationFailed("the logo is not base64; encode the bytes of the PNG or JPEG", field="/logo") from error


def _change_account(session: Session, account_id: str, **values: bool | str | None) -> None:
    changed = session.execute(
        update(Account).where(col(Account.id) == account_id).values(**values).returning(col(Account.id))
    )
    if changed.one_or_none() is None:
        raise account_not_found(account_id)
