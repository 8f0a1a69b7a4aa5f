"""The tables of trucks and of the Canadian side agree with notices, traffic counts, makers' manuals and Canada's own texts."""

import re

import pytest
from faker import Faker

from pipeline.customs.checks.transport import is_vin
from pipeline.customs.reference.ports import port_rules
from pipeline.customs.reference.transport import transport_rules

#: Land border ports in the words of the notices that brought the truck manifest to them, by State:
#: AZ 2005-07-29, ND 71 FR 62922 (2006-10-27) and 2007-02-05, TX and NM 2006, CA 2006-04, ID and MT 72 FR 7058 (2007-02-14),
#: AK 2007-09-20.
NOTICES = {
    "AZ": ("Douglas", "Naco", "Lukeville", "Sasabe", "Nogales"),
    "ND": (
        *("Pembina", "Neche", "Walhalla", "Maida", "Hannah", "Sarles", "Hansboro"),
        *("St. John", "Fortuna", "Ambrose", "Carbury", "Noonan", "Dunseith", "Sherwood", "Antler", "Northgate"),
        *("Westhope", "Portal"),
    ),
    "TX": ("El Paso", "Presidio", "Laredo"),
    "NM": ("Columbus", "Santa Teresa"),
    "CA": ("Otay Mesa", "Calexico", "Andrade"),
    "ID": ("Eastport", "Porthill"),
    "MT": (
        *(
            "Roosville", "Whitlash", "Del Bonita", "Wildhorse", "Sweetgrass", "Piegan", "Willow Creek", "Turner", "Morgan",
        ),
        *("Scobey", "Opheim", "Raymond"),
    ),
    "AK": ("Alcan", "Dalton Cache", "Skagway"),
}  # fmt: skip
#: Whitetail MT and Noyes MN stand in the notices, but are closed.
CLOSED = {"Whitetail MT", "Noyes MN"}
#: The northern land ports of CSMS 95-000403 (1995-04-24), with their codes.
NORTHERN_1995 = set(
    """0104 0106 0115 0209 0211 0212 0701 0704 0708 0712 0715 0901 3004 3009 3019 3301 3302 3310 3401 3403 3422 3423 3426 3604
    3613 3801 3802 3803""".split()
)
#: Ports that only the counts of crossings by the Bureau of Transportation Statistics name. For the States of Washington, Texas,
#: California, Maine, Vermont and Minnesota the notices say no more than all land border ports.
COUNTED_ONLY = set(
    """0103 0105 0107 0108 0109 0110 0118 0127 0203 0206 3007 3011 3012 3013 3015 3016 3017 3020 3023 3025 3424 3425 3430
    2301 2302 2303 2305 2307 2309 2310 2401 2404 2505 2507 2608""".split()
)


def test_truck_ports_are_those_of_the_notices_and_counts() -> None:
    ours = {code for codes in transport_rules().land_ports.ports.values() for code in codes}
    names = {code: port_rules().ports.ports[code] for code in ours}
    named = {
        code
        for code, name in names.items()
        if any(
            name.startswith(each) and name.endswith(f" {state}") for state, ports in NOTICES.items() for each in ports
        )
    }
    # Calexico-East begins as Calexico does.
    named -= COUNTED_ONLY
    assert len(named) == sum(map(len, NOTICES.values()))
    assert ours >= NORTHERN_1995
    assert ours - named - NORTHERN_1995 == COUNTED_ONLY


def test_closed_ports_do_not_count_as_ports() -> None:
    assert CLOSED.isdisjoint(port_rules().ports.ports.values())


@pytest.mark.parametrize("seed", range(20))
def test_check_digits_of_vehicles_are_those_of_an_independent_library(seed: int) -> None:
    made = Faker()
    made.seed_instance(seed)
    number = made.vin()
    assert is_vin(number)
    # Only the digit 0 to 9 or X that belongs to the others is right.
    assert sum(is_vin(f"{number[:8]}{digit}{number[9:]}") for digit in "0123456789X") == 1


def test_numbers_are_as_long_as_the_manuals_of_manifest_software_say() -> None:
    rules = transport_rules()
    # BorderConnect, Shipment Control Number: "Prefix (4 Characters)", "Sequence (Up to 12 Characters)", "Maximum 16 characters".
    assert 4 + rules.control_number.longest_after_scac == 16
    # BorderConnect, Start New ACE eManifest Page: "Trip Number: SCAC + 4 to 21 characters (numbers/letters)".
    assert rules.trip_number is not None
    assert rules.trip_number.longest == 4 + 21


def test_cargo_control_number_is_that_of_the_communique() -> None:
    # CBSA: "if the bar-coded PARS number ... is '1234PARS56789'".
    rule = transport_rules().cargo_control_number
    assert rule is not None
    code, label, number = re.fullmatch("([0-9]+)([A-Z]+)([0-9]+)", "1234PARS56789").groups()  # type: ignore[union-attr]
    assert (rule.carrier_code, rule.label) == (len(code), label)
    # A forwarder's program: "A Cargo Control Number must start with a valid 4 digit carrier code and be followed by a unique
    # number." No second text has its whole length.
    assert rule.carrier_code == 4
    assert len(code + label + number) <= rule.longest


def test_advance_data_is_of_the_mode_in_the_title_of_the_regulation() -> None:
    title = "Electronic information for truck cargo required in advance of arrival"  # 19 CFR 123.92
    assert {mode for mode in port_rules().modes.codes if mode in title.split()} == transport_rules().advance_data.modes


#: Why no declaration is required, by code: CBSA's leaflet "NDR Goods" (in a copy), and of NDR9 Customs Notice 23-12.
LEAFLET = {
    "NDR1": "Goods exported for consumption in the United States market.",
    "NDR2": "Commercial Goods having a value of less than CAN $2,000.",
    "NDR3": "Personal & household effects, other than those of an emigrant, which are not for resale or commercial use.",
    "NDR4": "Goods exported from Canada on a temporary basis by using an ATA carnet; transaction numbers are required as part of "
    "the NDR.",
    "NDR5": "Goods that were temporarily imported and accounted for on a Form E29B, Temporary Admission Permit, and are "
    "subsequently exported; transaction numbers are required as part of the NDR.",
    "NDR6": "Cargo containers, reusable skids, drums, pallets, straps and similar goods used in the international commercial "
    "transportation of goods.",
    "NDR7": "Goods exported by a diplomatic embassy or mission personnel for their personal or official use.",
    "NDR8": "Personal gifts and personal donations of goods.",
    "NDR9": "the exportation of arms, military stores, munitions of war and other goods ... by a Visiting Force",
    "NDR10": "Goods exported for repair, warranty repair or additions regardless of value that will be returned to Canada.",
    "NDR11": "Goods exported after being previously imported for repair or addition, where the value of the repair or addition is "
    "less than CAN $2,000.",
    "NDR12": "Goods for use as ship's stores by a Canadian carrier.",
    "NDR13": "Goods manufactured or produced outside Canada and removed for export from a bonded warehouse or sufferance "
    "warehouse.",
    "NDR14": "Goods, other than goods exported for further processing, that will be returned to Canada",
}
#: Words of our short reasons that the leaflet says otherwise, such as of what country, or that say no fact.
OTHERWISE = {"that", "and", "for", "not", "are", "were", "restr", "worth", "dolla", "under", "carri", "anoth", "count"}
#: Section 6 of the Reporting of Exported Goods Regulations (SOR/2005-23), "if the goods are not restricted goods", and CBSA's
#: page "Goods that do not need an export declaration", whose reasons 1 to 8 and 10 begin with "Non-restricted goods" or end so.
NOT_RESTRICTED = {
    "6(a)": "NDR3", "6(b)": "NDR2", "6(d), (e)": "NDR6", "6(f)": "NDR7", "6(g)": "NDR8", "6(j)": "NDR10", "6(k)": "NDR12",
    "6(l)": "NDR13", "6(m)": "NDR14", "page 1": "NDR1", "page 4": "NDR4", "page 5": "NDR5",
}  # fmt: skip


def list_stems(text: str) -> set[str]:
    plain = text.lower().replace("a.t.a.", "ata").replace(",", "").replace("can $", "canadian ")
    return {word.rstrip("s")[:5] for word in re.findall("[a-z0-9]{3,}", plain)}


@pytest.mark.parametrize("code", LEAFLET)
def test_reason_for_no_declaration_is_that_of_its_code(code: str) -> None:
    ours = list_stems(transport_rules().no_declaration.codes[code]) - OTHERWISE
    assert ours - list_stems(LEAFLET[code]) == set()
    shared = {other: len(ours & list_stems(text)) for other, text in LEAFLET.items()}
    assert [other for other, count in shared.items() if count == max(shared.values())] == [code]


def test_codes_for_no_declaration_have_the_conditions_of_the_regulations() -> None:
    rule = transport_rules().no_declaration
    assert rule.codes.keys() == LEAFLET.keys()
    assert rule.with_number == {code for code, text in LEAFLET.items() if "numbers are required" in text}
    assert rule.unrestricted == set(NOT_RESTRICTED.values())
    # 6(b): "commercial goods having a value of less than $2,000 Canadian"
    assert (NOT_RESTRICTED["6(b)"], "2000") == (rule.low_value, str(rule.low_value_below_cad))
