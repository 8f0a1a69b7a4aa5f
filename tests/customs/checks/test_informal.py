"""Informal entries of a plan to one consignee on one day are added up."""

from tests.customs.cases import findings, list_findings
from tests.customs.filing_cases import consignee
from tests.customs.foreign_importer import FOREIGN_ADDRESS
from tests.support.factories import Json, change_plan, plan
from tests.support.tables import table


def split(units: int = 2, each: str = "1300.00") -> Json:
    """Return a plan of informal entries to one consignee, each of about this value."""
    whole = plan(units)
    for place in range(units):
        for member, value in (("unitPrice", each), ("lineValue", each), ("quantity", "1")):
            whole = change_plan(whole, f"/units/{place}/lines/0/{member}", value)
        whole = change_plan(whole, f"/units/{place}/entry/type", "11")
    return whole


def list_split(whole: Json) -> list[str]:
    """Return the pointers of the warnings that the entries are too much together."""
    found = [each for each in list_findings(whole) if each[0] == "V27-DAY"]
    assert all(severity == "warn" for _, severity, _ in found)
    return [pointer for _, _, pointer in found]


SECOND = ["/units/1/entry/type"]


def test_entries_above_the_limit_together_are_one_finding() -> None:
    assert list_split(split()) == SECOND
    (found,) = [each for each in findings(split(3)) if each.rule == "V27-DAY"]
    assert found.pointer == "/units/2/entry/type"
    words = "have informal entries for consignee Demo Housewares Inc, Dock 4 on 2026-11-26, together"
    assert found.message.startswith(f"Units U1, U2 and U3 {words}")
    assert "141.52" in found.remedy
    assert "64957404" in (found.source or "")
    (found,) = [each for each in findings(split(9)) if each.rule == "V27-DAY"]
    assert found.message.startswith("Units U1, U2, U3, U4, U5 and 4 more have informal")


def test_entries_up_to_the_limit_are_allowed() -> None:
    # The other lines of each unit are worth 103.00.
    assert (list_split(split(each="1147.00")), list_split(split(each="1147.01"))) == ([], SECOND)


def test_case_and_signs_do_not_make_another_consignee() -> None:
    whole = split()
    ship_to = whole["units"][1]["parties"]["shipTo"]
    ship_to["name"] = ship_to["name"].upper().replace(" ", "  ") + "."
    assert list_split(whole) == SECOND


def test_other_consignee_day_or_type_is_not_added() -> None:
    other = change_plan(split(), "/units/1/parties/shipTo/address/line1", "2 Other Road")
    later = change_plan(split(), "/units/1/entry/estimatedArrivalAt", "2026-11-27T18:00:00Z")
    formal = change_plan(split(), "/units/1/entry/type", "01")
    unknown = change_plan(split(), "/units/1/invoice/currency", "CAD")
    assert [list_split(each) for each in (other, later, formal, unknown)] == [[], [], [], []]


def test_parts_of_one_shipment_are_left_to_their_own_rule() -> None:
    whole = split()
    number = whole["units"][0]["entry"]["shipmentControlNumber"]
    for place, unit in enumerate(whole["units"], 1):
        unit["entry"] |= {"part": {"number": str(place), "of": "2"}, "shipmentControlNumber": number}
    assert {rule for rule, _, _ in list_findings(whole)} & {"V27", "V27-DAY", "C02"} == {"V27"}


def name_consignees(whole: Json, *consignees: list[Json]) -> Json:
    """Return the plan with these ultimate consignees, for each unit in turn."""
    for place, each in enumerate(consignees):
        whole = change_plan(whole, f"/units/{place}/parties/ultimateConsignees", each)
    return whole


def test_ultimate_consignee_counts_not_ship_to() -> None:
    mine, other = consignee(), consignee(number="12-345678903")
    assert list_split(name_consignees(split(), [mine], [other])) == []
    # The ship-to party of both units is one.
    assert list_split(name_consignees(split(), [mine])) == []
    (found,) = [each for each in findings(name_consignees(split(), [mine], [mine])) if each.rule == "V27-DAY"]
    assert "for consignee Demo Stores Inc on 2026-11-26" in found.message


ELSEWHERE = consignee(name="Demo Stores of Rochester", address=FOREIGN_ADDRESS)


@table(
    ("one", "two", "same"),
    [
        # A number names a consignee before its name and address.
        (consignee(), ELSEWHERE, True),
        (consignee(number=None), consignee(number=None, name="DEMO STORES, INC."), True),
        (consignee(number=None), ELSEWHERE | {"number": None}, False),
        (consignee(number=None, sameAsImporter=True), consignee(number="12-345678900"), True),
        # Social Security numbers are not digested.
        (consignee(number="123-45-6789"), consignee(number="987-65-4321"), True),
    ],
)
def test_consignee_is_known_by_number_or_by_name_and_address(one: Json, two: Json, *, same: bool) -> None:
    assert list_split(name_consignees(split(), [one], [two])) == (SECOND if same else [])


def test_each_consignee_of_an_entry_has_its_own_goods() -> None:
    whole = split(each="2400.00")
    both = [consignee(packageRefs=["P1"]), consignee(packageRefs=["P2"], number="12-345678903")]
    (found,) = [each for each in findings(name_consignees(whole, both, both)) if each.rule == "V27-DAY"]
    # P1 has 2,400.00 and 52.00 of each unit; P2 has 51.00.
    assert "about $4,904.00" in found.message
    assert list_split(name_consignees(whole, both, [both[1] | {"packageRefs": ["P1", "P2"]}])) == SECOND


def test_line_for_two_consignees_is_left_to_its_own_rule() -> None:
    both = [consignee(packageRefs=["P1"]), consignee(packageRefs=["P2"], number="12-345678903")]
    whole = name_consignees(split(each="2600.00"), both, both)
    for place in range(2):
        shared = [{"lineRef": "L1", "quantity": "1"}, {"lineRef": "L2", "quantity": "1"}]
        whole = change_plan(whole, f"/units/{place}/packages/1/contents", shared)
    assert {rule for rule, _, _ in list_findings(whole)} & {"F02", "V27-DAY"} == {"F02"}
