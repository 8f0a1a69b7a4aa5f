"""The ports at which trucks cross are those that notices of the Federal Register name, or that only traffic counts name."""

from __future__ import annotations

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
            "Roosville",
            "Whitlash",
            "Del Bonita",
            "Wildhorse",
            "Sweetgrass",
            "Piegan",
            "Willow Creek",
            "Turner",
            "Morgan",
        ),
        *("Scobey", "Opheim", "Raymond"),
    ),
    "AK": ("Alcan", "Dalton Cache", "Skagway"),
}
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
