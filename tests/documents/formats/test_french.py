"""French stands beside English on each printed page, if the export asks for it: complete, marked as French, in its place."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
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
from pipeline.documents.formats.package_labels import MAX_CONTENTS, package_labels
from pipeline.documents.invoice import builder
from pipeline.documents.registry import KINDS, DocumentKind, render_documents
from pipeline.documents.schemas.invoice import FOR_PEOPLE, Invoice
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, list_problems, read_parts
from tests.documents.formats.test_invoice_pdf_pages import use_longest_texts, with_every_charge
from tests.documents.formats.test_package_labels import labelled
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import build_full_invoice, build_truck_invoice, file_entry, sample

FOLDER: Final = TEMPLATES / "documents"
PAGES: Final = [*sorted(FOLDER.glob("*.typ")), FOLDER / "commercial_customs_invoice.html"]
PDFS: Final = [kind for kind in KINDS if kind.media_type == "application/pdf"]
by_kind = pytest.mark.parametrize("kind", PDFS, ids=lambda kind: kind.artifact_type)

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


def list_assembled_words() -> set[str]:
    """Return the words that no template has as one text: statements, roles in a certification, blocks of an entry."""
    values = (builder.SOLD_VALUES, builder.UNSOLD_VALUES, builder.UNSOLD_VALUES_WITH_BASIS)
    statements = {builder.STATEMENT.format(values=each) for each in values}
    roles = ("Certifier", "Exporter", "Producer", "Importer")
    left = {"entry/filing": {"filerCode": "ABC"}, "lines/0/attributes/adCvdCase": "A-122-857-000"}  # to the filer
    filed = (build_truck_invoice(), sample(2, change=file_entry), sample(2, change=left))
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


INVOICES: Final[dict[str, Callable[[], Invoice]]] = {
    "30 lines": lambda: sample(30),
    "everything": build_full_invoice,
    "truck": build_truck_invoice,
    "every charge": lambda: sample(3, change=with_every_charge),
    "longest texts": lambda: sample(1, change=use_longest_texts),
}


@cache
def print_page(kind: DocumentKind, name: str, *, in_french: bool = True) -> bytes:
    invoice = INVOICES[name]()
    return kind.make(french(invoice) if in_french else invoice)


@cache
def read_page(kind: DocumentKind, *, in_french: bool) -> str:
    """Return the text of the document with everything."""
    body = print_page(kind, "everything", in_french=in_french)
    return " ".join(page.extract_text() for page in PdfReader(BytesIO(body)).pages)


@by_kind
def test_page_prints_no_english_word_that_is_neither_data_nor_in_the_catalogue(kind: DocumentKind) -> None:
    invoice = build_full_invoice()
    # The words of two cells come without a space.
    printed = read_words(re.sub("(?<=[a-z])(?=[A-Z])", " ", read_page(kind, in_french=False)))
    assert invoice.worksheet is not None
    data = invoice.model_dump_json(context=FOR_PEOPLE) + invoice.worksheet.model_dump_json()
    data += find_estimate(invoice).model_dump_json()
    apart = re.sub("(?<=[a-z])(?=[A-Z])", " ", data)
    known = read_words(data) | read_words(apart) | read_words(" ".join(read_catalogue())) | _SAME
    assert printed - known - {word.upper() for word in known} == set()


@by_kind
@pytest.mark.parametrize("name", INVOICES)
def test_french_page_has_both_languages_in_their_place(kind: DocumentKind, name: str) -> None:
    read = read_printed_document(print_page(kind, name))
    if kind.artifact_type != "package_labels":  # smaller margins
        assert [*read.list_faults()] == []
        assert f"Page1of{read.pages}/Page1de{read.pages}" in read.text(1)
    titles = {"cci_pdf": "Facture commerciale", "packing_list_pdf": "Bordereau d'expédition", "package_labels": "De"}
    assert titles.get(kind.artifact_type, "").replace(" ", "") in read.text(1)


@by_kind
def test_all_english_words_stay(kind: DocumentKind) -> None:
    both = read_page(kind, in_french=True)
    assert [word for word in read_words(read_page(kind, in_french=False)) if word not in both] == []


@by_kind
def test_french_is_marked_for_screen_readers_and_page_is_archivable(kind: DocumentKind, tmp_path: Path) -> None:
    body = print_page(kind, "everything")
    assert_archivable(body)
    assert list_problems(body, tmp_path) == []
    root: Any = PdfReader(BytesIO(body)).trailer["/Root"].get_object()
    assert root["/Lang"] == "en"
    for in_french in (True, False):
        pages = PdfReader(BytesIO(print_page(kind, "everything", in_french=in_french))).pages
        marked = [b"/Lang(fr)" in page.get_contents().get_data() for page in pages]  # type: ignore[union-attr]
        assert any(marked) == in_french


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
    # Another rendering of the same page has the same bytes.
    assert all(both[kind.artifact_type] == print_page(kind, "everything") for kind in PDFS)
    long = read_printed_document(read_parts(french(sample(30))))
    assert f"Page{long.pages}of{long.pages}/Page{long.pages}de{long.pages}" in long.text(long.pages)


def test_word_without_french_stays_english() -> None:
    assert "No such word" not in json.loads((FOLDER / "french.json").read_bytes())
    assert choose_words(french=True)("No such word") == "No such word"
