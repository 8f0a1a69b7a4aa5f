"""The print settings by API: what new exports print, who may change it, and what is refused."""

import base64
import hashlib

import pytest

from tests.interfaces.api.conftest import ApiHarness
from tests.support.logos import draw_logo
from tests.support.people import OTHER
from tests.support.tables import table

ADDRESS = "/api/print-settings"


def encode(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@pytest.mark.pdf_engine
def test_settings_are_read_and_changed_one_by_one(harness: ApiHarness) -> None:
    client = harness.client("admin")
    assert client.get(ADDRESS).json() == {"languages": ["en"], "logo": None}
    changed = client.patch(ADDRESS, json={"logo": encode(draw_logo())}).json()
    stored = base64.b64decode(changed["logo"]["picture"])
    assert changed["languages"] == ["en"]
    assert (changed["logo"]["width"], changed["logo"]["height"]) == (576, 192)
    assert changed["logo"]["sha256"] == hashlib.sha256(stored).hexdigest()
    both = client.patch(ADDRESS, json={"languages": ["en", "fr"]}).json()
    assert both == changed | {"languages": ["en", "fr"]}
    assert harness.client("read").get(ADDRESS).json() == both
    assert harness.client("read", account=OTHER).get(ADDRESS).json() == {"languages": ["en"], "logo": None}
    assert client.patch(ADDRESS, json={}).json() == both
    assert client.patch(ADDRESS, json={"logo": None}).json() == {"languages": ["en", "fr"], "logo": None}
    actions = [act["action"] for act in client.get("/api/audit").json()["items"]]
    assert actions[:3] == ["logo_removed", "languages_changed", "logo_changed"]


@pytest.mark.pdf_engine
@table(
    ("changes", "path", "words"),
    [
        ({"languages": ["fr"]}, "/languages", "customs asks for English"),
        ({"languages": ["en", "de"]}, "/languages/1", ""),
        ({"languages": []}, "/languages", ""),
        ({"logo": "not base64!"}, "/logo", "not base64"),
        ({"logo": encode(b"<svg/>")}, "/logo", "neither PNG nor JPEG; save it as PNG"),
        ({"logo": encode(draw_logo()[:900])}, "/logo", "the file is damaged"),
        ({"logo": encode(bytes(530_000))}, "/logo", "send at most 524,288"),
        ({"logo": "A" * 800_000}, "/logo", ""),
        ({"logo": encode(draw_logo()), "languages": ["fr"]}, "/languages", "customs asks for English"),
        ({"color": "red"}, "/color", ""),
    ],
)
def test_invalid_change_names_the_field_and_changes_nothing(
    harness: ApiHarness, changes: dict[str, object], path: str, words: str
) -> None:
    client = harness.client("admin")
    refused = client.patch(ADDRESS, json=changes)
    assert refused.status_code == 400, refused.text
    assert (refused.json()["errorCode"], words in refused.text, path in refused.text) == (
        "VALIDATION_ERROR",
        True,
        True,
    )
    assert client.get(ADDRESS).json() == {"languages": ["en"], "logo": None}
