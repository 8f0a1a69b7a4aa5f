"""What each form of the console records in the audit trail, after it was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.exports.audit_trail import Action

#: The path of a form -> the act that it records. The subject is the id in the path, in the form, or in the new address.
RECORDED: Final[Mapping[str, Action]] = {
    "/console/exports/{id}/amend/send": Action.EXPORT_AMENDED,
    "/console/partners/new": Action.PARTNER_CREATED,
    "/console/partners/{id}/settings": Action.PARTNER_CHANGED,
    "/console/partners/{id}/secret": Action.PARTNER_KEY_ROTATED,
    "/console/partners/{id}/test": Action.PARTNER_TESTED,
    "/console/partners/{id}/activate": Action.PARTNER_ACTIVATED,
    "/console/partners/{id}/pause": Action.PARTNER_PAUSED,
    "/console/partners/{id}/resume": Action.PARTNER_RESUMED,
    "/console/partners/{id}/replay": Action.DELIVERIES_REPLAYED,
    "/console/partners/{id}/portal-links": Action.LINK_CREATED,
    "/console/partners/{id}/portal-links/revoke": Action.LINK_REVOKED,
    "/console/deliveries/{id}/resend": Action.DELIVERY_RESENT,
    "/console/keys": Action.KEY_CREATED,
    "/console/keys/{id}/rotate": Action.KEY_ROTATED,
    "/console/keys/{id}/revoke": Action.KEY_REVOKED,
    "/console/waivers": Action.WAIVER_GRANTED,
    "/console/waivers/{id}/revoke": Action.WAIVER_REVOKED,
    "/console/inbox/test": Action.PARTNER_TESTED,
}

#: Forms that change nothing, or whose acts are recorded in the transaction that causes them.
OTHERS: Final = frozenset(
    {
        "/console/exports/filters",
        "/console/exports/{id}/amend",
        "/console/exports/{id}/amend/check",
        "/console/inbox/review",
        "/console/inbox/apply",
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


def find_subjects(parameters: Mapping[str, str], form: Mapping[str, list[str]], location: str) -> list[str]:
    """Return the ids of what was acted on, the path's first; at least one."""
    if "id" in parameters:
        return [parameters["id"]]
    return form.get("partner") or form.get("id") or [location.partition("?")[0].rpartition("/")[2]]
