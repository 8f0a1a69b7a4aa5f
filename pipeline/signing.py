"""The signing secrets of partners: kept encrypted, shown once, replaced with a time in which both count."""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import datetime
from typing import Final

from sqlalchemy import func, insert, or_, select, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.db import database_now
from pipeline.models import PartnerSecret
from pipeline.secretbox import SecretBox

SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Return a Standard Webhooks secret that nobody has seen."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def keep(session: Session, settings: Settings, account_id: str, partner_id: str, secret: str) -> None:
    """Keep `secret` as the partner's newest, in the caller's transaction."""
    of_partner = (col(PartnerSecret.account_id) == account_id, col(PartnerSecret.partner_id) == partner_id)
    last = session.scalar(select(func.max(col(PartnerSecret.number))).where(*of_partner))
    session.execute(
        insert(PartnerSecret).values(
            account_id=account_id,
            partner_id=partner_id,
            number=(last or 0) + 1,
            sealed=seal(settings, account_id, partner_id, secret),
        )
    )


def retire(session: Session, account_id: str, partner_id: str, overlap_seconds: float) -> datetime:
    """Let the partner's secrets of today end when the overlap is over, if not sooner; return that instant."""
    ends_at: datetime = session.execute(select(database_now(overlap_seconds))).scalar_one()
    session.execute(
        update(PartnerSecret)
        .where(
            col(PartnerSecret.account_id) == account_id,
            col(PartnerSecret.partner_id) == partner_id,
            or_(col(PartnerSecret.ends_at).is_(None), col(PartnerSecret.ends_at) > ends_at),
        )
        .values(ends_at=ends_at)
    )
    return ends_at


def counting(session: Session, settings: Settings, account_id: str, partner_id: str) -> list[str]:
    """Return the secrets that count now, the newest first; none where there is no such partner."""
    sealed = session.scalars(
        select(col(PartnerSecret.sealed))
        .where(
            col(PartnerSecret.account_id) == account_id,
            col(PartnerSecret.partner_id) == partner_id,
            or_(col(PartnerSecret.ends_at).is_(None), col(PartnerSecret.ends_at) > database_now()),
        )
        .order_by(col(PartnerSecret.number).desc())
    )
    return [unseal(settings, account_id, partner_id, each) for each in sealed]


def seal(settings: Settings, account_id: str, partner_id: str, secret: str) -> str:
    """Return a secret of the partner as it is kept."""
    return SecretBox(settings.secret_key).seal(secret, f"{account_id}/{partner_id}")


def unseal(settings: Settings, account_id: str, partner_id: str, sealed: str) -> str:
    """Return a secret of the partner that was kept; raises Terminal where it does not open."""
    return SecretBox(settings.secret_key).open(sealed, f"{account_id}/{partner_id}")
