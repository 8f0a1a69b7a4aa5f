"""The pages of a broker's import file: preview from an example and from an export, and the form with its errors."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts import partners
from pipeline.accounts.partners import get_partner
from pipeline.accounts.schemas import NewPartner
from pipeline.documents.schemas.profile import BrokerProfile, MessageProfile, OwnFile
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.partners.test_partner_settings import edit_fields
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories

PROFILES = Path(__file__).parents[4] / "examples" / "profiles"
PROFILE = json.loads((PROFILES / "entry-import.json").read_text())
PAGE = "/console/partners/br_p/profile"
EDIT = f"{PAGE}/edit"


def register(harness: ApiHarness, profile: dict[str, Any] | None = PROFILE) -> None:
    member = "messageProfile" if profile and "columns" not in profile else "profile"
    new = {"id": "br_p", "kind": "customs_broker", "name": "A broker", member: profile}
    partners.create_partner(harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new))


def stored(harness: ApiHarness) -> OwnFile | None:
    return get_partner(harness.runtime, factories.ACCOUNT, "br_p").own_file


def read_rows(page: str) -> list[list[str]]:
    """Return the header and the rows of the preview."""
    table = re.search(r'<table class="sheet-rows">(.*?)</table>', page, re.DOTALL)
    assert table is not None, page
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr>(.*?)</tr>", table[1], re.DOTALL)
    ]


def read_form_fields(page: str) -> dict[str, Any]:
    """Return what a browser sends for the form of a page: its inputs, and the chosen options."""
    fields = edit_fields(page)
    for select in re.findall(r"<select.*?</select>", page, re.DOTALL):
        name, chosen = re.search(r'name="([^"]+)"', select), re.search(r'value="([^"]*)" selected', select)
        assert name is not None
        if chosen is not None:
            fields[name[1]] = [chosen[1]]
    fields.pop("q", None)
    return {name: [html.unescape(value) for value in values] for name, values in fields.items()}


def test_profile_is_shown_with_a_preview_of_its_file(harness: ApiHarness) -> None:
    register(harness)
    export_id = harness.execute(factories.plan(invoice="INV-OWN"))
    client = sign_in_browser(harness, "read")
    shown = client.get(PAGE).text
    assert "/profile/edit" not in shown
    headers = [column["header"] for column in PROFILE["columns"]]
    rows = read_rows(shown)
    assert rows[0] == headers
    assert len(rows) > 1
    waiting = client.get(PAGE, params={"source": export_id}).text
    assert "has no invoice yet" in waiting
    harness.run(export_id)
    own = client.get(PAGE, params={"source": export_id}).text
    assert "of invoice INV-OWN" in own
    assert re.search(rf'<option value="{export_id}" selected>', own)
    assert [len(row) for row in read_rows(own)] == [len(headers)] * len(read_rows(own))
    for source in ("exp_none", '"><b>'):
        missing = client.get(PAGE, params={"source": source})
        assert (missing.status_code, "There is no export" in missing.text, "<b>" in missing.text) == (200, True, False)


def test_first_profile_is_set_up_previewed_and_removed(harness: ApiHarness) -> None:
    register(harness, None)
    client = sign_in_browser(harness, "admin")
    assert f'href="{EDIT}"' in client.get(PAGE).text
    fields = read_form_fields(client.get(EDIT).text) | {"name": ["Import"], "filename": ["import.csv"]}
    fields |= {"c5.words": ["NO=PCS\nKG=KGM"], "c7.header": ["Filer"], "c7.constant": ["ABC"], "c7.at": ["1.5"]}
    preview = client.post(EDIT, data=fields | {"act": "preview"})
    assert preview.status_code == 200
    rows = read_rows(preview.text)
    assert rows[0] == ["Invoice", "Filer", "Line", "HTS", "Description", "Quantity", "Unit", "Value"]
    assert {row[1] for row in rows[1:]} == {"ABC"}
    assert {row[6] for row in rows[1:]} <= {"PCS", "KGM", "DOZ"}
    assert stored(harness) is None
    more = client.post(EDIT, data=fields | {"act": "rows"}).text
    assert 'name="c17.header"' in more
    saved = client.post(EDIT, data=read_form_fields(more) | {"act": "save"})
    assert saved.headers["location"] == PAGE, saved.text
    profile = stored(harness)
    assert isinstance(profile, BrokerProfile)
    assert [column.header for column in profile.columns] == rows[0]
    assert profile.columns[6].values == {"NO": "PCS", "KG": "KGM"}
    unchanged = read_form_fields(client.get(EDIT).text)
    assert client.post(EDIT, data=unchanged | {"act": "save"}).status_code == 303
    assert stored(harness) == profile
    old = client.post(EDIT, data=unchanged | {"act": "save", "name": ["Older"]})
    assert (old.status_code, 'value="Older"' in old.text) == (412, True)
    assert client.post(EDIT, data=read_form_fields(old.text) | {"act": "save"}).status_code == 303
    assert client.post(EDIT, data=read_form_fields(client.get(EDIT).text) | {"act": "remove"}).status_code == 303
    assert stored(harness) is None


@pytest.mark.parametrize("example", sorted(path.name for path in PROFILES.glob("*.json")))
def test_every_profile_of_the_examples_survives_the_form(harness: ApiHarness, example: str) -> None:
    register(harness, json.loads((PROFILES / example).read_text()))
    client, before = sign_in_browser(harness, "admin"), stored(harness)
    fields = read_form_fields(client.get(EDIT).text) | {"act": "save"}
    assert client.post(EDIT, data=fields).headers["location"] == PAGE
    assert stored(harness) == before


def test_message_is_set_up_previewed_and_explained(harness: ApiHarness) -> None:
    register(harness, None)
    client = sign_in_browser(harness, "admin")
    fields = read_form_fields(client.get(EDIT).text) | {
        "name": ["EDI"], "filename": ["shipment.edi"], "format": ["x12"], "x12.transactions": ["invoice (810)"], "x12.senderId": ["EXPORTER"],
        "x12.units": ["DPR=DP"],
    }  # fmt: skip
    refused = client.post(EDIT, data=fields | {"act": "save"})
    assert (refused.status_code, 'id="error-x12.receiverId"' in refused.text) == (400, True)
    fields |= {"x12.receiverId": ["BROKER"]}
    rows = read_rows(client.post(EDIT, data=fields | {"act": "preview"}).text)
    assert (rows[0], rows[3]) == (["Segment"], ["ST*810*0001~"])
    assert client.post(EDIT, data=fields | {"act": "save"}).status_code == 303
    profile = stored(harness)
    assert isinstance(profile, MessageProfile)
    assert profile.x12 is not None
    assert (profile.x12.transactions, profile.x12.units) == (["810"], {"DPR": "DP"})
    shown = client.get(PAGE).text
    assert "X12 interchange: invoice (810), EXPORTER, BROKER" in shown
    assert "<h2>Columns</h2>" not in shown


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"c0.field": ["invoice_numer"]}, "field &#39;invoice_numer&#39; is not a field of a line; did you mean"),
        ({"c0.constant": ["x"]}, "must have either a field or a constant"),
        ({"c0.date_format": ["MM/DD/YYYY"]}, "invoice_no is not a date; remove dateFormat"),
        ({"c0.header": [""]}, "header is required"),
        ({"c0.words": ["NO"]}, "must not be empty"),
        ({"c1.header": ["Invoice"]}, "two columns have the header"),
        ({"filename": ["import.exe"]}, "must be a file name without spaces that ends in .csv"),
        ({"filename": ["manifest.json"], "format": ["json"]}, "is the name of a document of the customs package"),
        ({"filename": ["import.csv"], "format": ["xlsx"]}, "must not end in .csv"),
        ({"rows": ["0"]}, "must have at least 1 entry"),
        ({"rows": ["9" * 50]}, "must have at least 1 entry"),
        ({"delimiter": ["dash"]}, "delimiter"),
    ],
)
def test_invalid_profile_is_explained_at_its_place(
    harness: ApiHarness, typed: dict[str, list[str]], expected: str
) -> None:
    register(harness, None)
    client = sign_in_browser(harness, "admin")
    fields = read_form_fields(client.get(EDIT).text) | {"name": ["Import"], "filename": ["import.csv"]} | typed
    refused = client.post(EDIT, data=fields | {"act": "save"})
    assert refused.status_code == 400
    assert expected in refused.text
    if any(name.startswith("c0") for name in typed):
        assert 'id="error-c0"' in refused.text
        assert 'href="#in-c0.header"' in refused.text
    assert stored(harness) is None


def test_profiles_belong_to_brokers_and_administrators(harness: ApiHarness) -> None:
    register(harness)
    reader, stranger = sign_in_browser(harness, "operate"), sign_in_browser(harness, "admin", account=OTHER)
    assert reader.get(EDIT).status_code == 403
    token = {"csrf_token": re.findall(r'csrf_token" value="([^"]+)"', stranger.get("/console/partners").text)[0]}
    for address in (PAGE, EDIT):
        assert stranger.get(address).status_code == 404
    assert stranger.post(EDIT, data=token | {"act": "remove"}).status_code == 404
    assert stranger.post(EDIT, data={"act": "remove"}).status_code == 403
    assert reader.get(f"/console/partners/{factories.WAREHOUSE}/profile").status_code == 404
    huge = {"c0.words": "x" * 600_000}
    assert stranger.post(EDIT, data=token | huge).status_code == 413
    assert stored(harness) is not None
