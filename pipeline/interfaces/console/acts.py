"""What each form of the console records in the audit trail, after it was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.exports.audit_trail import Action

#: The path of a form -> the act that it records; the subject is the id in the path.
RECORDED: Final[Mapping[str, Action]] = {
    "/console/exports/{id}/amend/send": Action.EXPORT_AMENDED,
    "/console/partners/{id}/replay": Action.DELIVERIES_REPLAYED,
    "/console/deliveries/{id}/resend": Action.DELIVERY_RESENT,
}

#: Forms that change nothing, or whose acts are recorded in the transaction that causes them.
OTHERS: Final = frozenset(
    {
        "/console/exports/filters",
        "/console/exports/{id}/amend",
        "/console/exports/{id}/amend/check",
        "/console/inbox/review",
        "/console/inbox/apply",
        "/console/partners/new",
        "/console/partners/{id}/settings",
        "/console/partners/{id}/secret",
        "/console/partners/{id}/test",
        "/console/partners/{id}/portal-links",
        "/console/partners/{id}/portal-links/revoke",
        "/console/keys",
        "/console/keys/{id}/rotate",
        "/console/keys/{id}/revoke",
        "/console/waivers",
        "/console/waivers/{id}/revoke",
        "/console/inbox/test",
        "/console/partners/{id}/profile/edit",
        "/console/holds",
        "/console/holds/{id}/release",
        "/console/sign-in",
        "/console/sign-out",
        "/console/links/{token}",
        "/console/me/account",
        "/console/me/sessions/{id}/end",
        "/console/me/password",
        "/console/me/recovery-codes",
        "/console/people",
        "/console/people/sessions/{id}/end",
        "/console/people/{id}/roles",
        "/console/people/{id}/link",
        "/console/people/{id}/remove",
    }
)


def find_action(path: str, parameters: Mapping[str, str]) -> Action | None:
    """Return the act that a form records; `path` is that of its route. None if it records nothing here."""
    # One route runs several actions of a partner, by the last part of its path.
    return RECORDED.get(path.replace("{action}", parameters.get("action", "")))
