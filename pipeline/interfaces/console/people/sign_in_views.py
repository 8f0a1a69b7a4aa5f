"""What the pages of one-time links show: the TOTP secret as a QR code and as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from urllib.parse import urlsplit

import segno

from config.settings import Settings
from pipeline.accounts import credentials
from pipeline.accounts.one_time_links import LinkView

#: The empty modules around a QR code, without which readers do not find it.
_QUIET_ZONE: Final = 4


@dataclass(frozen=True)
class QrCode:
    """A QR code as the path of an SVG picture, `size` modules wide."""

    size: int
    path: str


@dataclass(frozen=True)
class SetUpView:
    """What a person needs to set up an authenticator app; the secret is split into groups to type."""

    qr_code: QrCode
    uri: str
    secret: str
    min_characters: int


def build_set_up(settings: Settings, link: LinkView, browser: str) -> SetUpView:
    """Return what the page of a link shows; in the browser with this mark it is the same secret each time."""
    secret = credentials.derive_totp_secret(settings, link.token_hash, browser)
    uri = credentials.build_totp_uri(secret, link.email, urlsplit(settings.public_url).hostname or "")
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return SetUpView(draw_qr_code(uri), uri, groups, credentials.MIN_PASSWORD_CHARACTERS)


def draw_qr_code(text: str) -> QrCode:
    """Return the QR code of the text: each run of dark modules is one rectangle."""
    matrix = segno.make_qr(text, error="m").matrix
    parts = [part for row, modules in enumerate(matrix) for part in _draw_row(row, list(modules))]
    return QrCode(len(matrix) + 2 * _QUIET_ZONE, "".join(parts))


def _draw_row(row: int, modules: Sequence[int]) -> list[str]:
    parts, column = [], 0
    for dark, run in groupby(modules):
        width = len(list(run))
        if dark:
            parts.append(f"M{column + _QUIET_ZONE} {row + _QUIET_ZONE}h{width}v1h-{width}z")
        column += width
    return parts
