"""Ids of forms that record what a person wrote: the same form counts once, however often a browser sends it."""

import hashlib
import re
import secrets
from typing import Final

from pipeline.core.errors import ValidationFailed

_FORM_ID: Final = re.compile(r"[0-9a-f]{32}")


def new_form_id() -> str:
    """Return the id of a form that nobody has sent."""
    return secrets.token_hex(16)


def name_content(author: str, form_id: str, content: str) -> str:
    """Return the id of what `author` wrote into a form. Other content in the same form has another id.

    Raises ValidationFailed if the form has no valid id.
    """
    if not _FORM_ID.fullmatch(form_id):
        raise ValidationFailed("the form is incomplete; load the page again", field="/form_id")
    return f"{author}:{form_id}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"
