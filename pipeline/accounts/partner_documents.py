"""The documents that a partner receives: the kinds that it wants, and a customs broker's own file."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.accounts.schemas import NewPartner, PartnerChanges
from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue
from pipeline.documents import broker_profile as profiles
from pipeline.documents.registry import ARTIFACT_TYPES
from pipeline.documents.schemas.profile import MessageProfile, OwnFile, read_own_file


def choose_own_file(given: NewPartner | PartnerChanges) -> OwnFile | None:
    """Return the broker's own file, None without one. Raises ValidationFailed if both kinds are given."""
    if given.profile is not None and given.message_profile is not None:
        raise ValidationFailed(
            "a broker has one file of its own; leave out profile or messageProfile", field="/messageProfile"
        )
    return given.profile or given.message_profile


def split_own_file(stored: Mapping[str, Any] | None) -> dict[str, OwnFile | None]:
    """Return the own file, as it is stored, as the members `profile` and `message_profile`."""
    own_file = None if stored is None else read_own_file(stored)
    is_message = isinstance(own_file, MessageProfile)
    return {"profile": None if is_message else own_file, "message_profile": own_file if is_message else None}


def check_documents(kind: str, artifact_types: Sequence[str] | None, own_file: OwnFile | None) -> None:
    """Check the kinds of documents and the own file of a partner.

    Raises ValidationFailed, with an issue for each wrong place.
    """
    known = (*ARTIFACT_TYPES, profiles.ARTIFACT_TYPE)
    unknown = [
        Issue(
            path=f"/artifactTypes/{place}",
            message=f"{name!r} is not a kind of document; use {', '.join(known)}",
            code="unknown_kind",
        )
        for place, name in enumerate(artifact_types or ())
        if name not in known
    ]
    if unknown:
        raise validation_failed(unknown)
    if own_file is None:
        return
    member = "messageProfile" if isinstance(own_file, MessageProfile) else "profile"
    if kind != "customs_broker":
        raise ValidationFailed(f"only a customs broker has an import file; leave {member} out", field=f"/{member}")
    profiles.check_profile(own_file, f"/{member}")
