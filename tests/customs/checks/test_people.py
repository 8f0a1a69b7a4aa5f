"""The contact of an invoice must be a person; an importer's Social Security number is reported but not repeated."""

from importlib import import_module

import pytest

from pipeline.customs.checks.people import names_no_person
from tests.customs.cases import UNIT, findings, list_findings, with_changes
from tests.support.tables import table

NAME = f"{UNIT}/parties/exporterContact/name"
NUMBER = f"{UNIT}/parties/importerOfRecord/importerNumber"


@table(
    "name",
    [
        "Export desk", "Customs clerk", "Customs", "Trade compliance", "Service des exportations", "Departamento de aduanas",
        "Maple Goods Ltd", "Shipping & Receiving", "The logistics team", "Shipping Manager", "24/7", "Shipping Desk",
        "Export Team", "Customer service", "Accounts payable", "Dispatcher", "Service à la clientèle", "Expédition",
        "Comptabilité", "Logística y aduanas", "Versandabteilung", "出口部", "N/A", "unknown", "Maple Goods Limited",
        "export@maple.example", "Export manager, Customs",
    ],
)  # fmt: skip
def test_department_as_employee_gives_warning(name: str) -> None:
    assert list_findings(with_changes((NAME, name))) == [("V19-NAME", "warn", NAME)]


@pytest.mark.parametrize(
    "name",
    [
        "Demo Employee", "D. Employee", "J. Roy", "Marie-Ève Côté", "王小明", "山田 太郎", "김민수", "Ng", "Le", "Demo Sales",
        "D. Employee, Export manager", "D. Employee (Logistics)", "Customs officer D. Employee", "D'Arcy Export",
    ],
)  # fmt: skip
def test_name_of_person_has_no_finding(name: str) -> None:
    assert "V19-NAME" not in {rule for rule, _, _ in list_findings(with_changes((NAME, name)))}


def test_contact_named_like_the_seller_gives_warning() -> None:
    changes = (f"{UNIT}/parties/seller/name", "Maple Goods"), (NAME, "MAPLE GOODS")
    assert ("V19-NAME", "warn", NAME) in list_findings(with_changes(*changes))


#: Where people have the names of an independent list.
PLACES = "en_US en_GB fr_CA fr_FR es_MX de_DE it_IT pl_PL vi_VN zh_CN ja_JP ko_KR hi_IN".split()


@table("place", PLACES)
def test_names_of_people_of_many_countries_have_no_finding(place: str) -> None:
    names = vars(import_module(f"faker.providers.person.{place}").Provider)
    lists = [value for key, value in names.items() if key.startswith(("first_names", "last_names"))]
    people = {each if isinstance(each, str) else each[0] for listed in lists for each in listed}
    assert len(people) > 30
    assert {person for person in people if names_no_person(person)} == set()


def test_finding_says_whom_to_name() -> None:
    (finding,) = findings(with_changes((NAME, "Export desk")))
    assert finding.message.endswith("employee of unit U1 is Export desk, which looks like a department, not a person.")
    assert finding.remedy == "Name the exporter's employee who knows the sale; give the department as the title."
    assert finding.source == "19 CFR 141.86(j)"


def test_social_security_number_is_reported_but_not_repeated() -> None:
    (finding,) = findings(with_changes((NUMBER, "123-45-6789")))
    assert (finding.rule, finding.severity, finding.pointer) == ("V20-SSN", "warn", NUMBER)
    assert "6789" not in finding.message + finding.remedy
    assert "form 5106" in finding.remedy
