"""Any text in a plan stays text in every format."""

import copy
import csv
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO, StringIO
from typing import Any
from zipfile import ZipFile

import pytest
from lxml import etree
from openpyxl import load_workbook
from pydantic import ValidationError
from pypdf import PdfReader

from pipeline.core.fonts import unsupported_characters
from pipeline.documents.formats.cells import escape_formula
from pipeline.documents.registry import KINDS, render_documents
from pipeline.exports.schemas.plan import Unit
from tests.documents.samples import sample, unit_data
from tests.support.hostile_inputs import BREAKING, DECEIVING, FORBIDDEN, ODD

pytestmark = pytest.mark.system

#: Hostile texts for documents, in addition to those for a whole plan.
MARKUP = {
    "page": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\"'><svg/onload=alert(1)>&amp;&lt;",
    "entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;&#0;&#x1b;</a>]]>',
    "template": "{{ 7*7 }}{% raw %}{# x #}${7*7}",
    "source": '#read("/etc/passwd") #import "@preview/a:1.0.0": * #eval("1+1")',
    "code": '"); #panic("x") // $x^2$ *b* _i_ `r` \\ @ref <label> = head - item / term: ~',
    "link": '=HYPERLINK("http://x.example","y"),"a";b',
    "escapes": "_x0041_ \u202egnp.exe\u202c %s %(x)s \\u0041",
    "page string": "(x) Tj ET Q 1 0 0 rg /JS (app.alert(1)) >> endobj",
    "records": "OI  PG01FDA\\~^*|'",
}
HOSTILE_TEXTS = {**DECEIVING, **BREAKING, **ODD, **MARKUP}
REFUSED = {**FORBIDDEN, "too long": "x" * 10_000, "tab": "a\tb", "half a character inside": "a\udc00b"}

#: Fields with a form that the schema fixes; they take no free text.
FIXED = {
    "unitRef", "type", "portOfEntry", "modeOfTransport", "carrierScac", "shipmentControlNumber", "exportDate",
    "estimatedArrivalAt", "country", "email", "mid", "ref", "date", "currency", "exchangeRate", "incoterm", "saleDate",
    "reasonForExport", "total", "code", "amount", "assists", "lineRef", "orderId", "htsCode", "countryOfOrigin",
    "countryOfExport", "hsCode", "manufacturerRef", "quantity", "unit", "unitPrice", "lineValue", "netWeightKg", "grossWeightKg",
    "spi", "usmcaCertificateRef", "certifierRole", "criterion", "blanketFrom", "blanketTo", "signedOn", "packageRef",
    "sscc", "lpn", "parentRef", "lengthCm", "widthCm", "heightCm", "tareWeightKg", "trackingNumber", "heading", "program",
    "ratePercent", "basis", "metal", "metalWeightKg", "countryOfMeltAndPour", "usMetalPercent", "flag", "agency",
    "disclaimer", "relatedParties", "includedInPrices", "role",
}  # fmt: skip


def fill_free_texts(text: str) -> Any:
    """Return a change that puts `text` into every free text field; short fields get what fits."""

    def change(data: dict[str, Any]) -> None:
        add_free_texts(data)
        for _, holder, key in free_texts(data):
            holder[key] = text[: {"region": 64, "postalCode": 16, "phone": 40}.get(str(key), 256)].strip()

    return change


def add_free_texts(data: dict[str, Any]) -> None:
    """Add to the unit each kind of free text that the sample lacks."""
    data["lines"][0]["treatment"]["undetermined"] = "x"
    data["lines"][0]["treatment"]["pga"][0]["data"]["lots"] = ["x", "x"]
    data["parties"]["exporterContact"]["phone"] = "555"
    data["invoice"].update(valuationBasis="x", usmcaStatement="x", rebates=[{"name": "x", "amount": "1.00"}])
    data["invoice"].update(assists="declared", assistItems=[{"name": "x", "amount": "1.00"}])
    data["entry"]["trip"] = {
        "loadedAt": {"city": "x", "country": "CA"},
        "crew": [{"role": "driver", "givenName": "x", "familyName": "x"}],
    }
    data["usmcaCertificates"][0] |= {
        "certifierAddress": copy.deepcopy(data["parties"]["seller"]["address"]),
        "certifierContact": copy.deepcopy(data["parties"]["exporterContact"]),
        **{role: copy.deepcopy(data["parties"]["buyer"]) for role in ("exporter", "producer", "importer")},
    }
    data["usmcaCertificates"][0]["goods"] = [{"description": "x", "hsCode": "732393"}]


def free_texts(value: Any, here: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each free text in `value`: its pointer, its container, and its key or index there."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(inner, dict | list):
            yield from free_texts(inner, f"{here}/{key}")
        elif isinstance(inner, str) and key not in FIXED:
            yield f"{here}/{key}", value, key


class Page(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def render_bodies(text: str) -> dict[str, bytes]:
    return {
        document.artifact_type: document.body for document in render_documents(sample(2, change=fill_free_texts(text)))
    }


@pytest.fixture(scope="module")
def clean() -> dict[str, bytes]:
    return render_bodies("harmless")


@pytest.mark.parametrize("trick", HOSTILE_TEXTS)
def test_hostile_text_stays_text_in_every_format(clean: dict[str, bytes], trick: str) -> None:
    text = HOSTILE_TEXTS[trick]
    bodies = render_bodies(text)
    assert bodies.keys() == clean.keys()
    assert bodies.keys() >= {kind.artifact_type for kind in KINDS} - {"cci_consolidated"}

    for kind in ("cci_json", "packing_list"):
        assert json.loads(bodies[kind])["lines"][0]["description"] == text
    assert json.loads(bodies["manifest"])["documents"]

    page, page_clean = Page(bodies["cci_human_readable"]), Page(clean["cci_human_readable"])
    assert (page.elements, page.attributes) == (page_clean.elements, page_clean.attributes)
    assert text in page.text

    rows = list(csv.DictReader(StringIO(bodies["cci_csv"].decode("utf-8-sig"), newline="")))
    assert [row["description"] for row in rows] == [escape_formula(text)] * 2
    assert all(None not in row for row in rows)

    book = load_workbook(BytesIO(bodies["cci_xlsx"]))
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} <= {"s", "n", "d"}
    assert all(cell.hyperlink is None for cell in cells)
    # Excel reads _x005F_ as an underscore; openpyxl does not decode it for a text that is stored in its cell.
    assert any(str(cell.value).replace("_x005F_", "_") == text for cell in cells)

    tree, tree_clean = (etree.fromstring(each["cci_ubl"]) for each in (bodies, clean))
    assert [each.tag for each in tree.iter()] == [each.tag for each in tree_clean.iter()]
    assert [sorted(each.attrib) for each in tree.iter()] == [sorted(each.attrib) for each in tree_clean.iter()]
    assert text in {each.text for each in tree.iter()}

    with ZipFile(BytesIO(bodies["truck_manifest"])) as archive:
        (driver,) = csv.DictReader(StringIO(archive.read("crew.csv").decode("utf-8-sig"), newline=""))
    assert driver["family_name"] == escape_formula(text)

    records = bodies["pga_records"].decode("ascii").split("\r\n" if b"\r\n" in bodies["pga_records"] else "\n")
    assert {len(record) for record in records if record} == {80}
    assert len(records) >= len(clean["pga_records"].decode().split("\n"))

    wanted = _letters(_drawn(text))
    for kind in ("cci_pdf", "packing_list_pdf", "section_232_statement", "pga_worksheet"):
        reader = PdfReader(BytesIO(bodies[kind]))
        assert all("/Annots" not in page for page in reader.pages)
        root: Any = reader.trailer["/Root"].get_object()
        assert not {"/JavaScript", "/OpenAction", "/AA", "/AcroForm"} & root.keys()
        assert set(reader.attachments) <= {"commercial_customs_invoice.json"}
        printed = _letters("".join(page.extract_text() for page in reader.pages))
        assert trick in {"scripts", "piled accents", "Hangul filler"} or wanted in printed, kind


def _drawn(text: str) -> str:
    return "".join("\u25a1" if character in unsupported_characters(text) else character for character in text)


def _letters(text: str) -> str:
    # The engine decides on line breaks, invisible marks and ligatures; the characters come from the plan.
    seen = "".join(each for each in text if unicodedata.category(each) not in {"Cf", "Cc"}).replace("\ufb01", "fi")
    return "".join(unicodedata.normalize("NFC", seen).split())


@pytest.mark.parametrize("trick", REFUSED)
def test_unprintable_text_is_rejected_by_field_name(trick: str) -> None:
    template = unit_data(1)
    add_free_texts(template)
    places = [pointer for pointer, _, _ in free_texts(template)]
    assert len(places) > 40
    for at, pointer in enumerate(places):
        data = unit_data(1)
        add_free_texts(data)
        found, holder, key = list(free_texts(data))[at]
        assert found == pointer
        holder[key] = REFUSED[trick]
        with pytest.raises(ValidationError) as refused:
            Unit.model_validate(data)
        named = {"/" + "/".join(map(str, error["loc"])) for error in refused.value.errors()}
        # For a value that may be a list or a text, the errors name both.
        assert any(name.startswith(pointer.rstrip("01")) for name in named), (pointer, named)
