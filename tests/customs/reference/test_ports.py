"""Each port of entry stands in a second copy of Schedule D or of appendix E of ACE, or is named as in neither."""

import csv
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import pycountry
import pytest

from pipeline.customs.reference.ports import port_rules

#: Codes and names as public lists print them, cut and misspelt as there: 1 is a forwarder's web page, 2 the port codes of BTS's
#: TransBorder Freight Data, 3 the ports of an export filing form, all older than the rules. 4 is a program's table of Schedule D
#: and of CBP's appendix E (DICTIONARIES/port_reference.csv of theshipsagent/panjiva-classification-system, 2026), read from the
#: two lists apart from the transcription that the rules follow; here it has only what the others are too old for.
COPIES = Path(__file__).parent / "schedule_d_copies.csv"

#: User fee airports in the words of the rules that made them so, which have the place and its State, but no code: 19 CFR
#: 122.15; 68 FR 50697 (2003-08-22); 82 FR 55760 (2017-11-24); 83 FR 7608 (2018-02-22); 90 FR 51100 (2025-11-17).
USER_FEE_AIRPORTS = {
    "0982": "Griffiss International Airport, Rome, NY",
    "1581": "Charlotte-Monroe Executive Airport, Monroe, NC",
    "1781": "Cobb County Airport-McCollum Field, Kennesaw, GA",
    "2482": "Roswell Industrial Air Center, Roswell, New Mexico",
    "2682": "Williams Gateway Airport, Mesa, Arizona",
    "2783": "Southern California Logistics Airport, Victorville, California",
    "2786": "Meadows Field Airport, Bakersfield, CA",
    "2788": "Van Nuys Airport, Van Nuys, CA",
    "2983": "Hillsboro Airport, Hillsboro, Oregon",
    "3781": "Appleton International Airport, Appleton, Wisconsin",
    "5281": "Florida Keys Marathon Airport, Marathon, Florida",
    "5282": "Boca Raton Airport, Boca Raton, Florida",
    "5382": "Conroe-North Houston Regional Airport, Conroe, Texas",
    "5586": "Ardmore Industrial Airpark, Ardmore, Oklahoma",
    "5589": "Fort Worth Meacham International Airport, Fort Worth, Texas",
}
#: The only port in no second copy: the counts of December 2025 have this code without a name.
ONE_LIST_ONLY = {"1791"}
#: Codes of the copies that the rules do not have, because both of their lists no longer have them: among them ports that
#: joined another code, and Kodiak (3127) and Valdez (3107), which 19 CFR 101.3 still names.
DROPPED = set(
    """0132 0181 0409 0705 0907 0971 0972 1070 1075 1076 1077 1181 1402 1408 1481 1506 1886 2005 2009 2012 2013 2014 2082 2083
    2381 2711 2770 2772 2773 2774 2813 2816 2870 2871 2872 2873 2881 2981 2982 2991 3027 3081 3107 3112 3125 3127 3295 3312
    3332 3382 3402 3481 3601 3602 3608 3614 3820 3844 3903 3904 3907 3981 3982 3985 4108 4109 4111 4112 4117 4170 4181 4182
    4185 4192 4194 4195 4506 4770 4775 4776 4777 4905 4906 4911 4912 5270 5271 5272 5273""".split()
)
#: Codes without a place where goods of a plan are entered: the Virgin Islands, places abroad, and kinds of statistics.
NO_PLACE = set("5101 5102 5103 5104 5105 5335 5801 5901 6000 6001 7000 7070 8000".split())

#: Words that do not tell one port from another.
COMMON = {"airport", "area", "intl", "port", "county"}
#: Our short words in the words of the copies.
LONG = {"fedex": "fedex federal express", "jfk": "kennedy"}


@cache
def read_copies() -> Mapping[str, str]:
    with COPIES.open(newline="") as file:
        return {row["code"]: row["name"] for row in csv.DictReader(file)}


def split_name(name: str) -> tuple[list[str], list[str]]:
    """Return the words of one of our names, and its States."""
    place, _, states = name.rpartition(" ")
    words = [LONG.get(word, word) for word in re.findall("[a-z]{2,}", place.lower())]
    return [part for word in words for part in word.split() if part not in COMMON], states.split("/")


def name_states(text: str) -> set[str]:
    """Return the States that the end of a printed name may mean: its code, or the beginning or initials of its name."""
    last = re.sub("[^A-Z ]", "", re.split(r",|(?<= )(?=[A-Z]{2}$)", text.upper())[-1]).strip()
    if len(last) < 2:
        return set()
    states = {each.code[3:]: each.name.upper() for each in pycountry.subdivisions if each.country_code == "US"}
    return {
        code
        for code, name in states.items()
        if last == code
        or (len(last) > 2 and name.startswith(last))
        or last.replace(" ", "") == "".join(word[0] for word in name.split())
    }


def test_every_port_stands_in_a_copy_or_is_named_without() -> None:
    ours = set(port_rules().ports.ports)
    assert len(ours) == 487
    assert ours - read_copies().keys() == ONE_LIST_ONLY
    assert ours >= USER_FEE_AIRPORTS.keys()
    assert read_copies().keys() - ours == DROPPED | NO_PLACE


@pytest.mark.parametrize("source", [read_copies, USER_FEE_AIRPORTS.copy])
def test_names_are_those_of_the_same_place(source: object) -> None:
    printed: Mapping[str, str] = source()  # type: ignore[operator]
    different, states = set(), 0
    for code in printed.keys() & port_rules().ports.ports.keys():
        words, ours = split_name(port_rules().ports.ports[code])
        theirs = re.findall("[a-z]{2,}", printed[code].lower())
        if not any(get_close_matches(word, theirs, cutoff=0.8) for word in words):
            different.add(code)
        if found := name_states(printed[code]):
            states += 1
            assert found & set(ours), (code, port_rules().ports.ports[code], printed[code])
    assert different == set()
    assert states > len(printed) * 0.6  # the others end before their State


#: The modes of transport of ACE Cargo Release, record SE10, note 5 (in a program's table). The rules follow CBP Form 7501 and
#: CATAIR appendix B.
MODES = {
    "10": "Vessel, Non-container", "11": "Vessel, Container", "12": "Border Water-borne (only Mexico and Canada)",
    "20": "Rail, Non-container", "21": "Rail, Container", "30": "Truck, Non-container", "31": "Truck, Container", "32": "Auto",
    "33": "Pedestrian", "34": "Road, other. Includes foot and animal-borne.", "40": "Air, Non-container", "41": "Air, Container",
    "50": "Mail", "60": "Passenger, Hand Carried", "70": "Fixed Transport Installations. Includes pipeline and powerhouse.",
}  # fmt: skip


def test_modes_of_transport_have_the_codes_of_cargo_release_first_without_container() -> None:
    words = {mode: [MODES[code].lower() for code in codes] for mode, codes in port_rules().modes.codes.items()}
    assert words == {
        mode: [mode] if mode == "mail" else [f"{mode}, non-container", f"{mode}, container"]
        for mode in ("vessel", "rail", "truck", "air", "mail")
    }
