"""A USMCA claim needs a certification above $2,500, and a signed statement on the invoice up to $2,500."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from pipeline.customs.checks.lines import check_lines
from pipeline.customs.reference.entry import entry_rules
from pipeline.documents.registry import KINDS
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Plan, UsmcaCertificate
from tests.customs.cases import BAG, SHIRT, UNIT, findings, list_findings, with_changes
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import sample
from tests.support.factories import change_plan
from tests.support.tables import table

REF = f"{SHIRT}/usmcaCertificateRef"
NO_CERTIFICATE: list[tuple[str, Any]] = [(REF, None)]
STATEMENT = "The goods of this invoice originate under USMCA. Alex Roy, export manager, 24 November 2026."


def set_worth(price: str, value: str, total: str) -> list[tuple[str, Any]]:
    return [(f"{SHIRT}/unitPrice", price), (f"{SHIRT}/lineValue", value), (f"{UNIT}/invoice/total", total)]


LOW = set_worth("375.00", "1500.00", "1677.00")


@table(
    ("worth", "stated", "severity"),
    [
        (LOW, False, "warn"),
        (LOW, True, None),
        (set_worth("625.00", "2500.00", "2677.00"), False, "warn"),
        (set_worth("625.01", "2500.04", "2677.04"), False, "block"),
        (set_worth("700.00", "2800.00", "2977.00"), True, "block"),
    ],
)
def test_certification_is_needed_above_limit_and_statement_below(
    worth: list[tuple[str, Any]], *, stated: bool, severity: str | None
) -> None:
    statement = (f"{UNIT}/invoice/usmcaStatement", STATEMENT if stated else None)
    found = list_findings(with_changes(*worth, *NO_CERTIFICATE, statement))
    assert found == ([] if severity is None else [("V12", severity, REF)])


def test_finding_names_value_field_and_status() -> None:
    (found,) = findings(with_changes(*LOW, *NO_CERTIFICATE))
    assert "claims USMCA for goods of $1,500.00 without a certification" in found.message
    assert "invoice.usmcaStatement" in found.remedy
    assert "19 CFR 182.14(a)(2)" in (found.source or "")
    assert (entry_rules().usmca_low_value.status, entry_rules().usmca_statement.status) == ("probable", "check")


@pytest.mark.parametrize(
    ("statement", "lacks"),
    [
        (STATEMENT, None),
        ("Les marchandises sont originaires au sens de l'ACEUM. L'exportateur, Maple Goods Ltd.", None),
        ("Certifico que el bien califica como originario conforme al T-MEC. El productor.", None),
        (
            "I certify that the goods originate under the Agreement between the United States, Mexico and Canada. Producer.",
            None,
        ),
        ("Made in Canada. The exporter, USMCA.", "lacks that the goods originate."),
        ("The goods originate. The exporter.", "lacks the name of the agreement."),
        ("The goods originate under USMCA.", "lacks who certifies: the importer, the exporter or the producer."),
        ("see attached", "lacks that the goods originate, the name of the agreement and who certifies: the importer"),
    ],
)
def test_statement_says_what_customs_may_ask_for(statement: str, lacks: str | None) -> None:
    pointer = f"{UNIT}/invoice/usmcaStatement"
    found = [each for each in findings(with_changes((pointer, statement))) if each.pointer == pointer]
    assert [(each.rule, each.severity) for each in found] == ([] if lacks is None else [("V12", "warn")])
    assert lacks is None or lacks in found[0].message


def test_name_of_a_party_says_who_certifies() -> None:
    pointer = f"{UNIT}/invoice/usmcaStatement"
    seller = Plan.model_validate(with_changes()).units[0].parties.seller.name
    stated = f"The goods originate under USMCA. {seller.upper()}"
    assert not [each for each in findings(with_changes((pointer, stated))) if each.pointer == pointer]


def test_only_claiming_lines_count_for_limit() -> None:
    dear_bag = [(f"{BAG}/unitPrice", "700.00"), (f"{BAG}/lineValue", "2800.00"), (f"{UNIT}/invoice/total", "2976.00")]
    dear = with_changes(*dear_bag, *NO_CERTIFICATE)
    assert list_findings(dear) == [("V12", "warn", REF)]
    claimed = change_plan(dear, f"{BAG}/spi", "S")
    assert ("V12", "block", REF) in list_findings(claimed)
    repair = {"provision": "9802.00.50", "exemptValue": "2700.00", "dutiableValue": "100.00", "proof": "declaration"}
    assert list_findings(change_plan(claimed, f"{BAG}/chapter98", repair)) == [("V12", "warn", REF)]


@pytest.mark.parametrize(
    ("provision", "rules"), [("9802.00.40", []), ("9802.00.50.60", []), ("9802.00.80", ["V12", "V12"])]
)
def test_goods_repaired_in_canada_need_no_origin(provision: str, rules: list[str]) -> None:
    claim = {"provision": provision, "exemptValue": "50.00", "dutiableValue": "1", "proof": "Repairer's declaration"}
    changed = with_changes((f"{BAG}/spi", "S"), (f"{BAG}/countryOfOrigin", "VN"), (f"{BAG}/chapter98", claim))
    assert [each.rule for each in findings(changed) if each.rule == "V12"] == rules


def test_the_limit_is_in_us_dollars() -> None:
    canadian = [(f"{UNIT}/invoice/currency", "CAD"), (f"{UNIT}/invoice/exchangeRate", "0.7")]
    changed = with_changes(*set_worth("850.00", "3400.00", "3577.00"), *canadian, *NO_CERTIFICATE)
    assert ("V12", "warn", REF) in list_findings(changed)
    without_a_rate = with_changes(*set_worth("100.00", "400.00", "577.00"), canadian[0], *NO_CERTIFICATE)
    assert ("V12", "block", REF) in list_findings(without_a_rate)


def test_unknown_certification_is_rejected_at_any_value() -> None:
    assert list_findings(with_changes((REF, "C9"))) == [("V12", "block", REF)]


def test_certification_was_needed_at_any_value_before_rule() -> None:
    assert not entry_rules().usmca_low_value.in_force(date(2021, 7, 5))
    assert entry_rules().usmca_low_value.in_force(date(2021, 7, 6))


def test_producer_of_certification_is_compared_with_maker_of_line() -> None:
    unit = Plan.model_validate(with_changes()).units[0]
    maker = next(each for each in unit.parties.manufacturers if each.ref == unit.lines[1].manufacturer_ref)
    certificate = f"{UNIT}/usmcaCertificates/0"

    def compare(name: str) -> list[str]:
        changed = with_changes((f"{certificate}/certifierRole", "producer"), (f"{certificate}/certifierName", name))
        return [each.message for each in findings(changed) if each.pointer == REF]

    assert compare(f"{maker.name.upper()}.") == []
    (message,) = compare("Another Maker Inc")
    assert f"is made by {maker.name}, but its USMCA certification" in message
    assert message.endswith("names the producer Another Maker Inc.")


class Counted(list[UsmcaCertificate]):
    """A list of certifications that counts its iterations."""

    walks = 0

    def __iter__(self) -> Iterator[UsmcaCertificate]:
        self.walks += 1
        return super().__iter__()


def test_certifications_are_read_once_per_unit() -> None:
    unit = Plan.model_validate(with_changes()).units[0]
    certificates = Counted(unit.usmca_certificates)
    many = unit.model_copy(update={"lines": unit.lines * 20, "usmca_certificates": certificates})
    assert list(check_lines(many, UNIT, date(2026, 11, 24)))
    assert certificates.walks == 1


@pytest.mark.pdf_engine
@pytest.mark.parametrize("kind", ["cci_pdf", "cci_human_readable", "cci_json", "cci_ubl"])
def test_statement_is_printed_only_if_plan_has_it(kind: str) -> None:
    assert "".join(STATEMENT.split()) in _words(kind, sample(1, change={"invoice/usmcaStatement": STATEMENT}))
    bare = _words(kind, sample(1))
    assert "statementoforigin" not in bare
    assert "usmcaStatement" not in bare


def _words(kind: str, invoice: Invoice) -> str:
    changed = next(each.make(invoice) for each in KINDS if each.artifact_type == kind)
    return "".join((read_printed_document(changed).text() if kind == "cci_pdf" else changed.decode()).split())
