"""The answer of the sandbox broker that was typed at a terminal or into a form."""

from collections.abc import Sequence
from typing import Any

from pipeline.deliveries.schemas.answers import AcknowledgementBody


def build_answer(
    answer_id: str,
    status: str,
    packages: Sequence[str],
    *,
    holder: str = "",
    agency: str = "",
    message: str = "",
    duties: Sequence[str] = (),
    fees: Sequence[str] = (),
) -> AcknowledgementBody:
    """Return the answer; duties and fees are typed as NAME=USD. Raises ValidationError of pydantic."""
    body: dict[str, Any] = {"id": answer_id, "status": status, "customsPackageNumbers": [*packages]}
    body["message"] = message or None
    if holder or agency:
        body["hold"] = {"holder": holder or "agency", "agency": agency or None}
    if duties or fees:
        typed = {"duties": _read_amounts("heading", duties), "fees": _read_amounts("code", fees)}
        body["assessed"] = {"currency": "USD"} | typed
    return AcknowledgementBody.model_validate(body)


def _read_amounts(name: str, typed: Sequence[str]) -> list[dict[str, str]] | None:
    pairs = [each.partition("=") for each in typed]
    return [{name: code, "amountUsd": usd} for code, _, usd in pairs] or None
