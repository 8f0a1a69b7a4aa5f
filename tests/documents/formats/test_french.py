"""French stands beside English on each printed page, if the export asks for it: complete, marked as French, in its place."""

import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pypdf import PdfReader

from pipeline.core.templating import TEMPLATES
from pipeline.documents.formats.entry_blocks import SUPPLIERS, list_blocks
from pipeline.documents.formats.facts import find_estimate
from pipeline.documents.formats.french import choose_words, read_catalogue
from pipeline.documents.formats.invoice import invoice_html
from pipeline.documents.formats.invoice_pdf import invoice_pdf
from pipeline.documents.formats.package_labels import MAX_CONTENTS, package_labels
from pipeline.documents.invoice import builder
from pipeline.documents.registry import KINDS, DocumentKind, render_documents
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, list_problems
from tests.documents.formats.test_invoice_pdf_pages import use_longest_texts, with_every_charge
from tests.documents.formats.test_package_labels import labelled
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import build_full_invoice, build_truck_invoice, file_entry, sample

FOLDER: Final = TEMPLATES / "documents"
PAGES: Final = [*sorted(FOLDER.glob("*.typ")), FOLDER / "commercial_customs_invoice.html"]
PDFS: Final = [kind for kind in KINDS if kind.media_type == "application/pdf"]

#: Calls whose first argument is a word of the page, pairs of a word and a value, and the labels of a table's columns.
_WORD: Final = re.compile(
    r"\b(?:say|label|column-label|term|party|section|statement|title-band|document-page|fact|address|in-french|words|element|element-label)"
    r'\(\s*(?:if [^"\n]*\{ )?"([^"\n]+)"(?:[^"\n]*\belse (?:\{ )?"([^"\n]+)")?'
    r'|^ +\("([A-Z0-9][^"\n]+)", ',
    re.MULTILINE,
)
_COLUMNS: Final = re.compile(r'\.\.\(((?:"[^"\n]*"(?:, )?)+)\)\.map\(name')
#: What both languages write alike: units, currencies, signs of the field, and the mark of test documents.
_SAME: Final = frozenset(
    "MULTI kg cm US USD TEST SSCC SKU MID LPN HTS SCAC PAPS HTS CFR NO EIN pga_records txt".split()
)


def french(invoice: Invoice) -> Invoice:
    """Return the invoice with French beside English."""
    return invoice.model_copy(update={"french": True})


def list_words(path: Path) -> Iterator[str]:
    """Yield each word or sentence that a template prints."""
    source = re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for found in _WORD.finditer(source):
        yield from (word for word in found.groups() if word and not word.endswith(" "))
    for columns in _COLUMNS.finditer(source):
        yield from filter(None, re.findall(r'"([^"]*)"', columns[1]))


def leave_to_others(data: dict[str, Any]) -> None:
    data["entry"]["filing"] = {"filerCode": "ABC"}
    data["lines"][0]["attributes"] |= {"adCvdCase": "A-122-857-000"}


def list_assembled_words() -> set[str]:
    """Return the words that no template has as one text: statements, roles in a certification, blocks of an entry."""
    values = (builder.SOLD_VALUES, builder.UNSOLD_VALUES, builder.UNSOLD_VALUES_WITH_BASIS)
    statements = {builder.STATEMENT.format(values=each) for each in values}
    roles = ("Certifier", "Exporter", "Producer", "Importer")
    filed = (build_truck_invoice(), sample(2, change=file_entry), sample(2, change=leave_to_others))
    blocks = {block for invoice in filed for block in list_blocks(invoice, find_estimate(invoice))}
    certified = {f"certified by the {role.lower()}" for role in roles[1:]}
    effects = {"added", "deducted", "in the prices", "not counted"}  # of a charge on the entered value
    return {
        builder.PROFORMA_STATEMENT,
        *statements,
        *roles,
        *certified,
        *effects,
        *(f"from {supplier}" for supplier in SUPPLIERS),
        *(block.name for block in blocks if block.place not in {"lines", "totals"}),
    }


def test_each_word_of_a_page_has_french_and_no_french_is_unused() -> None:
    words = {word: path.name for path in PAGES for word in list_words(path)}
    assert len(words) > 130
    catalogue = read_catalogue()
    assert {word: page for word, page in words.items() if word not in catalogue} == {}
    assembled = list_assembled_words()
    assert assembled - catalogue.keys() == set()
    assert catalogue.keys() - words.keys() - assembled == set()


def test_catalogue_is_sorted_and_keeps_the_values_of_its_words() -> None:
    catalogue = read_catalogue()
    assert list(catalogue) == sorted(catalogue)
    values = {
        word: (set(re.findall(r"\{\w+\}", word)), set(re.findall(r"\{\w+\}", catalogue[word]))) for word in catalogue
    }
    assert {word: pair for word, pair in values.items() if pair[0] != pair[1]} == {}
    assert [word for word, other in catalogue.items() if not other.strip() or "\u2019" in other] == []


def read_words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]{2,}", text))


@pytest.mark.parametrize("kind", PDFS, ids=lambda kind: kind.artifact_type)
def test_page_prints_no_english_word_that_is_neither_data_nor_in_the_catalogue(kind: DocumentKind) -> None:
    invoice = build_full_invoice()
    text = " ".join(page.extract_text() for page in PdfReader(BytesIO(kind.make(invoice))).pages)
    printed = read_words(re.sub("(?<=[a-z])(?=[A-Z])", " ", text))  # the words of two cells come without a space
    assert invoice.worksheet is not None
    data = invoice.model_dump_json(context=FOR_PEOPLE) + invoice.worksheet.model_dump_json()
    data += find_estimate(invoice).model_dump_json()
    known = (
        read_words(data)
        | read_words(re.sub("(?<=[a-z])(?=[A-Z])", " ", data))
        | read_words(" ".join(read_catalogue()))
        | _SAME
    )
    known |= {word.upper() for word in known}
    assert printed - known == set()


INVOICES: Final[dict[str, Callable[[], Invoice]]] = {
    "1 line": lambda: sample(1),
    "5 lines": lambda: sample(5),
    "60 lines": lambda: sample(60),
    "everything": build_full_invoice,
    "truck": build_truck_invoice,
    "every charge": lambda: sample(3, change=with_every_charge),
    "longest texts": lambda: sample(3, change=use_longest_texts),
}


@pytest.mark.parametrize("kind", PDFS, ids=lambda kind: kind.artifact_type)
@pytest.mark.parametrize("name", INVOICES)
def test_french_page_has_both_languages_in_their_place(kind: DocumentKind, name: str) -> None:
    invoice = french(INVOICES[name]())
    body = kind.make(invoice)
    assert kind.make(invoice) == body
    read = read_printed_document(body)
    if kind.artifact_type != "package_labels":  # smaller margins
        assert [*read.list_faults()] == []
        assert f"Page1of{read.pages}/Page1de{read.pages}" in read.text(1)
    titles = {"cci_pdf": "Facture commerciale", "packing_list_pdf": "Bordereau d'expédition", "package_labels": "De"}
    assert titles.get(kind.artifact_type, "").replace(" ", "") in read.text(1)


@pytest.mark.parametrize("kind", PDFS, ids=lambda kind: kind.artifact_type)
def test_all_english_words_stay(kind: DocumentKind) -> None:
    def read(invoice: Invoice) -> str:
        return " ".join(page.extract_text() for page in PdfReader(BytesIO(kind.make(invoice))).pages)

    both = read(french(build_full_invoice()))
    assert [word for word in read_words(read(build_full_invoice())) if word not in both] == []


@pytest.mark.parametrize("kind", PDFS, ids=lambda kind: kind.artifact_type)
def test_french_is_marked_for_screen_readers_and_page_is_archivable(kind: DocumentKind, tmp_path: Path) -> None:
    body = kind.make(french(build_full_invoice()))
    assert_archivable(body)
    assert list_problems(body, tmp_path) == []
    reader = PdfReader(BytesIO(body))
    root: Any = reader.trailer["/Root"].get_object()
    assert root["/Lang"] == "en"
    assert any(b"/Lang(fr)" in page.get_contents().get_data() for page in reader.pages)  # type: ignore[union-attr]
    plain = PdfReader(BytesIO(kind.make(build_full_invoice())))
    assert not any(b"/Lang(fr)" in page.get_contents().get_data() for page in plain.pages)  # type: ignore[union-attr]


def test_label_in_french_stays_one_page() -> None:
    def fill_packages(data: dict[str, Any]) -> None:
        use_longest_texts(data)
        for package in data["packages"][1:]:
            package["contents"] = [{"lineRef": f"L{at}", "quantity": "1"} for at in range(1, MAX_CONTENTS + 1)]
        address = data["parties"]["shipTo"]["address"]
        data["parties"]["ultimateConsignees"] = [
            {"name": "Long name of a consignee" * 8, "address": address, "packageRefs": [package["packageRef"]]}
            for package in data["packages"]
        ]

    invoice = french(labelled(MAX_CONTENTS, test=True, change=fill_packages))
    assert len(PdfReader(BytesIO(package_labels(invoice))).pages) == len(invoice.packages)


def test_web_page_has_both_languages() -> None:
    page = invoice_html(french(build_full_invoice())).decode()
    assert '<h1>Commercial invoice <span lang="fr"><span>/</span> Facture commerciale</span></h1>' in page
    assert "<td>Goods, 5 lines <span" in page
    assert "Marchandises, 5 lignes</span>" in page
    assert 'lang="fr"' not in invoice_html(build_full_invoice()).decode()


def test_values_are_escaped_and_never_words() -> None:
    say = choose_words(french=True)
    assert say("Value {currency}", currency="<b>") == (
        'Value &lt;b&gt; <span lang="fr"><span>/</span> Valeur &lt;b&gt;</span>'
    )
    assert say("no word {currency}", currency="<b>") == "no word <b>", "the template escapes plain text"
    assert not hasattr(say("no word"), "__html__")


def test_data_files_stay_as_they_are_and_long_documents_in_parts_have_french() -> None:
    both = {each.artifact_type: each.body for each in render_documents(french(build_full_invoice()))}
    one = {each.artifact_type: each.body for each in render_documents(build_full_invoice())}
    differing = {kind for kind in one if one[kind] != both[kind]}
    assert differing == {kind.artifact_type for kind in PDFS} | {"cci_human_readable", "manifest"}
    long = read_printed_document(invoice_pdf(french(sample(600))))
    assert f"Page{long.pages}of{long.pages}/Page{long.pages}de{long.pages}" in long.text(long.pages)


def test_word_without_french_stays_english() -> None:
    assert "No such word" not in json.loads((FOLDER / "french.json").read_bytes())
    assert choose_words(french=True)("No such word") == "No such word"
