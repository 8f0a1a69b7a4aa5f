"""The pages of documents: previews beside their data, pictures, frames, and what is missing or forbidden."""

import io
import re
import zipfile
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col

from pipeline.core.clock import utc_now
from pipeline.documents.pdf.pictures import MAX_PDF_BYTES
from pipeline.exports.models import Artifact, Export
from pipeline.interfaces.pages import previews
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories


@pytest.fixture
def documents(harness: ApiHarness) -> dict[str, dict[str, Any]]:
    """The documents of an executed export of two units: those of the first unit, by type."""
    export_id = harness.execute(factories.plan(units=2))
    harness.run(export_id)
    view = harness.client().get(f"/api/exports/{export_id}").json()
    first = view["customs_package_id"]
    found = {each["artifact_type"]: each for each in view["artifacts"] if each["customs_package_id"] == first}
    for each in found.values():
        each["page"] = f"/console/exports/{export_id}/documents/{each['id']}"
    return found


@pytest.fixture
def client(harness: ApiHarness) -> httpx.Client:
    return sign_in_browser(harness, "read")


def change_row(harness: ApiHarness, artifact_id: str, **values: object) -> None:
    with harness.runtime.db.write() as session:
        session.execute(update(Artifact).where(col(Artifact.id) == artifact_id).values(**values))


def test_every_document_has_a_page_with_its_preview(client: httpx.Client, documents: dict[str, dict[str, Any]]) -> None:
    for kind, each in documents.items():
        page = client.get(each["page"])
        assert page.status_code == 200, kind
        assert "There is no preview" not in page.text, kind
        assert (
            f'<p class="trail"><a href="{each["page"].partition("/documents/")[0]}">{factories.BATCH}</a>' in page.text
        )
        assert f'value="{each["sha256"]}"' in page.text
        assert f'href="/console/artifacts/{each["id"]}">Download' in page.text


def test_all_documents_are_one_download_of_an_export_and_of_a_unit(
    client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    export = documents["cci_pdf"]["page"].partition("/documents/")[0]
    found = re.findall(r'href="([^"]+/bundle[^"]*)">(Download all[^<]*)', client.get(export).text)
    assert found == [
        (f"{export}/bundle", "Download all"),
        (f"{export}/bundle?unit=U1", "Download all of this unit"),
        (f"{export}/bundle?unit=U2", "Download all of this unit"),
    ]
    packed = [zipfile.ZipFile(io.BytesIO(client.get(link).content)).namelist() for link, _ in found]
    assert packed[1] == sorted(f"0001-U1/{each['filename']}" for each in documents.values())
    assert packed[0] == sorted([*packed[1], *packed[2], "broker_message.json", "manifest.json", "plan.json"])
    assert client.get(f"{export}/bundle?unit=U3").status_code == 404


def test_pdf_is_shown_as_pictures_beside_the_json_of_its_unit(
    client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    page = client.get(documents["cci_pdf"]["page"]).text
    pictures = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', page)
    assert pictures[0] == (
        f"/console/artifacts/{documents['cci_pdf']['id']}/pages/1",
        f"Page 1 of {len(pictures)} of commercial_customs_invoice.pdf",
    )
    picture = client.get(pictures[0][0])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert (picture.content[:4], picture.headers["cache-control"]) == (b"\x89PNG", "no-store")
    assert f'href="{documents["cci_json"]["page"]}">commercial_<wbr>customs_<wbr>invoice.<wbr>json' in page
    assert "<code>classifications</code>" in page
    missing = client.get(f"/console/artifacts/{documents['cci_pdf']['id']}/pages/{len(pictures) + 1}")
    assert (missing.status_code, "has no page" in missing.text) == (422, True)


def test_html_is_framed_without_script_or_other_hosts(
    client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    each = documents["cci_human_readable"]
    page = client.get(each["page"])
    assert f'<iframe src="/console/artifacts/{each["id"]}/content" sandbox title=' in page.text
    assert "frame-src 'self'" in page.headers["content-security-policy"]
    content = client.get(f"/console/artifacts/{each['id']}/content")
    assert content.headers["content-security-policy"].startswith("sandbox; default-src 'none'; ")
    assert "script" not in content.headers["content-security-policy"]
    assert client.get(f"/console/artifacts/{documents['cci_json']['id']}/content").status_code == 404


def test_neighbours_lead_through_all_documents_of_all_units(
    harness: ApiHarness, client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    export_id = documents["manifest"]["page"].split("/")[3]
    every = harness.client().get(f"/api/exports/{export_id}").json()["artifacts"]
    seen, here = [], documents[min(documents)]["page"]
    while here:
        page = client.get(here).text
        seen.append(here)
        back = re.findall(r'rel="prev" href="([^"]+)"', page)
        assert back == seen[-2:-1]
        (here,) = re.findall(r'rel="next" href="([^"]+)"', page) or [""]
    assert len(seen) == len(set(seen)) == len(every)


def test_text_of_a_document_does_not_become_markup(harness: ApiHarness, client: httpx.Client) -> None:
    plan = factories.plan()
    plan["units"][0]["lines"][0]["description"] = "Polo shirts <script>alert(1)</script> of cotton, knitted, men's"
    export_id = harness.execute(plan)
    harness.run(export_id)
    for each in harness.client().get(f"/api/exports/{export_id}").json()["artifacts"]:
        page = client.get(f"/console/exports/{export_id}/documents/{each['id']}").text
        assert "<script>alert" not in page


def test_missing_damaged_and_huge_documents_get_a_clear_page(
    harness: ApiHarness, client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    json, pdf, csv = documents["cci_json"], documents["cci_pdf"], documents["cci_csv"]
    change_row(harness, json["id"], sha256="0" * 64)
    change_row(harness, csv["id"], size=previews.MAX_BYTES + 1)
    missing = client.get(json["page"])
    assert (missing.status_code, "There is no preview: document 0000" in missing.text) == (200, True)
    assert "exports artifacts check" in missing.text
    beside = client.get(pdf["page"]).text
    assert "/pages/1" in beside
    assert "There is no preview: document 0000" in beside
    assert "a preview shows at most" in client.get(csv["page"]).text
    change_row(harness, pdf["id"], size=MAX_PDF_BYTES + 1)
    assert "a PDF is drawn up to" in client.get(pdf["page"]).text
    assert client.get(f"/console/artifacts/{pdf['id']}/pages/1").status_code == 404
    change_row(harness, pdf["id"], size=9, sha256="0" * 64)
    assert "There is no preview: document 0000" in client.get(pdf["page"]).text
    assert client.get(f"/console/artifacts/{pdf['id']}/pages/1").status_code == 503


def test_unreadable_pdf_gets_a_clear_page(
    harness: ApiHarness, client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    change_row(harness, documents["cci_pdf"]["id"], sha256=harness.runtime.store.put(b"this is no PDF"))
    assert "PDFium cannot read the document" in client.get(documents["cci_pdf"]["page"]).text
    assert client.get(f"/console/artifacts/{documents['cci_pdf']['id']}/pages/1").status_code == 422


def test_documents_of_other_accounts_and_exports_do_not_exist(
    harness: ApiHarness, client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    pdf = documents["cci_pdf"]
    other = harness.execute(factories.plan(batch="other"))
    stranger = sign_in_browser(harness, "read", account=OTHER)
    addresses = [pdf["page"], *(f"/console/artifacts/{pdf['id']}{more}" for more in ("", "/pages/1", "/content"))]
    assert {stranger.get(address).status_code for address in addresses} == {404}
    assert client.get(f"/console/exports/{other}/documents/{pdf['id']}").status_code == 404
    assert client.get(f"{pdf['page']}x").status_code == 404
    assert {client.get(f"/console/artifacts/{pdf['id']}/pages/{page}").status_code for page in ("0", "x")} == {400}
    signed_out = harness.client_with_key(None)
    assert {signed_out.get(address).status_code for address in addresses} == {303}


def test_purged_documents_are_gone(
    harness: ApiHarness, client: httpx.Client, documents: dict[str, dict[str, Any]]
) -> None:
    export_id = documents["cci_pdf"]["page"].split("/")[3]
    with harness.runtime.db.write() as session:
        session.execute(update(Export).where(col(Export.id) == export_id).values(purged_at=utc_now()))
    page = client.get(documents["cci_pdf"]["page"])
    assert (page.status_code, "was purged when its retention ended" in page.text) == (404, True)
