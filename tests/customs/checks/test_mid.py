"""The manufacturer identification code (MID), with the examples of the regulation and of customs guides."""

import pytest

from pipeline.customs.checks.mid import country_of_mid, derive_mid
from pipeline.exports.schemas.plan import Address
from tests.customs.cases import BAG, SHIRT, UNIT, findings, list_findings, with_changes
from tests.support.tables import table

MAKER = f"{UNIT}/parties/manufacturers/0"


def address(line1: str, city: str, country: str = "US", region: str | None = None, line2: str | None = None) -> Address:
    return Address(line1=line1, line2=line2, city=city, region=region, postal_code=None, country=country)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Amalgamated Plastics Corp", "AMAPLA"), ("Bergstrom", "BER"), ("A.B.C. Company", "ABCCOM"),
        ("A B C Company", "ABCCOM"), ("O.A.S.I.S. Corp.", "OASCOR"), ("Dr. S.A. Smith", "DRSA"),
        ("Shavings B L Inc.", "SHABL"), ("ABC 2000 Company", "ABC200"), ("Concept 2000", "CON200"),
        ("20th Century Fox", "20TCEN"), ("The Embassy of Spain", "EMBSPA"), ("Rawles-Aden Corp.", "RAWCOR"),
        ("Rawles - Aden Corp.", "RAWCOR"), ("Rawles \u2013 Aden Corp.", "RAWCOR"), ("Thomas S. Delvaux Company", "THODEL"),
        ("H & M Household", "HMHOU"), ("L.S. Ayres Company", "LSAYR"), ("X", "X"),
        ("The House of the Rising Dough", "HOURIS"), ("Éclair & Fils", "ECLFIL"),
    ],
)  # fmt: skip
def test_name_gives_three_letters_of_two_words(name: str, part: str) -> None:
    assert derive_mid(name, address("1 Main Street", "Erlanger")) == f"US{part}1ERL"


def test_largest_number_of_street_counts() -> None:
    assert derive_mid("DHL Express", address("236 Wendell Ford Blvd Ste 1304", "Erlanger")) == "USDHLEXP1304ERL"


EXAMPLES = [
    ("La Vie de France", "243 Rue de la Payees", "62591 Bremond", "FR", "FRLAVIE243BRE"),
    ("20th Century Technologies", "5 Ricardo Munoz, Suite 5880", "Caracas", "VE", "VE20TCEN5880CAR"),
    ("The E.K. Rodgers Companies", "One World Trade Center", "London, SW1Y 5HQ", "GB", "GBEKRODLON"),
    ("The Greenhouse", "45 Royal Crescent", "Birmingham", "US", "USGRE45BIR"),
    ("Carduccio and Jones", "88 Canberra Avenue", "Sidney", "AU", "AUCARJON88SID"),
    ("N. Minami & Co., Ltd.", "2-6, 8-Chome Isogami-Dori, Fukiai-Ku", "Kobe", "JP", "JPMINCO26KOB"),
    ("Bocchaccio S.p.A.", "Via Mendotti, 61", "8320 Verona", "IT", "ITBOCSPA61VER"),
    ("Murla-Praxitelles Inc.", "Odos Ermou", "Athens", "GR", "GRMURINCATH"),
    ("Sigma Coy E.X.T.", "1640 Delgado", "4000 Smyrna", "IT", "ITSIGCOY1640SMY"),
    ("Companhia Textil Karsten", "Calle Grande, 25-27", "67890 Lisbon", "PT", "PTKAR2527LIS"),
    ("Fabrica de Artigos de Vestuario Top Job", "Grand River Building, Fl 2-4", "Macau", "MO", "MOTOPJOB24MAC"),
    ("PT Morich Indo Fashion", "13 Jalan Thamrin", "Jakarta", "ID", "IDMORIND13JAK"),
    ("P.T. Morich Indo Fashion", "13 Jalan Thamrin", "Jakarta", "ID", "IDMORIND13JAK"),
    ("ZAO Morich Fashion", "13 Tverskaya", "Moscow", "RU", "RUMORFAS13MOS"),
    ("Jump High Ltd", "12 Nathan Road", "Kowloon", "HK", "HKJUMHIG12HON"),
    ("A.B.C. Company", "55-5 Hung To Road, P.O. Box 1234", "Kowloon", "HK", "HKABCCOM1234HON"),
]


@pytest.mark.parametrize(("name", "line1", "city", "country", "code"), EXAMPLES, ids=[each[-1] for each in EXAMPLES])
def test_published_examples_give_their_mid(name: str, line1: str, city: str, country: str, code: str) -> None:
    assert derive_mid(name, address(line1, city, country)) == code


def test_published_example_of_canada_gives_its_mid() -> None:
    assert derive_mid("Huron Landmark", address("1840 Huron Road", "Windsor", "CA", "ON")) == "XOHURLAN1840WIN"


def test_name_prefix_is_ignored_only_in_its_country() -> None:
    assert derive_mid("PT Industries", address("1 Main Street", "Erlanger")) == "USPTIND1ERL"


@pytest.mark.parametrize(
    ("city", "part"),
    [("Tokyo", "TOK"), ("St. Michel", "STM"), ("18-Mile High", "MIL"), ("The Hague", "HAG"), ("The", "THE")],
)
def test_city_gives_three_letters(city: str, part: str) -> None:
    assert derive_mid("Bergstrom", address("1 Main Street", city)) == f"USBER1{part}"


@table(
    ("line1", "line2", "number"),
    [
        ("Suite 1000, 236 Main Street", None, "1000"),
        ("123456 Main Street", None, "1234"),
        ("5 250th Street", None, "5"),
        ("11455 Main Street, Suite 9999", None, "1145"),
        ("232 Main Street, Suite 1234", None, "1234"),
        ("232 Main Street", "Suite 1234", "1234"),
        ("One Thousand Century Plaza", None, ""),
        ("One Thousand Century Plaza, Suite 345", None, "345"),
        ("12,34,56 Alaska Road", None, "1234"),
        ("12-34-56 Alaska Road", None, "1234"),
        ("Apt. 509 2727 Cleveland St.", None, "2727"),
        ("13 Elliot, 111 Court", None, "111"),
        ("Harbour House", "Unit 14", "14"),
        ("120A King St W", None, "120"),
        ("120A King St W, Unit 9", None, "120"),
        ("9 King St W", "Unit 14B", "14"),
        ("120E King St", None, "120"),
        ("9 King St", "Suite 120E", "120"),
        ("N120 Main Road", None, "120"),
        ("12-14 King St", None, "1214"),
        ("12A-14A King St", None, "14"),
        ("120 1/2 King St", None, "120"),
        ("120\u00bd King St", None, "120"),
        ("5 1st Avenue", None, "5"),
        ("5 22nd Street", None, "5"),
        ("5 3rd Street", None, "5"),
        ("12, 250e Rue", None, "12"),
        ("12 1re Avenue", None, "12"),
        ("12 250i\u00e8me Rue", None, "12"),
        ("8 Main Street", "Toronto ON M5V 9A9", "8"),
        ("8 Main Street", "Leeds LS9 8AG", "8"),
        ("250th Street", None, ""),
        ("Harbour House", None, ""),
    ],
)
def test_number_has_four_digits_and_ignores_street_names(line1: str, line2: str | None, number: str) -> None:
    assert derive_mid("Bergstrom", address(line1, "Erlanger", line2=line2)) == f"USBER{number}ERL"


def list_mid_findings(mid: str) -> list[tuple[str, str, str]]:
    """Return the findings about the MID of a mill at 120A King St W that knits a shirt."""
    changed = with_changes(
        (f"{MAKER}/name", "Maple Goods Ltd"),
        (f"{MAKER}/address/line1", "120A King St W"),
        (f"{MAKER}/address/line2", None),
        (f"{MAKER}/mid", mid),
        (f"{SHIRT}/manufacturerRef", "M1"),
    )
    return [each for each in list_findings(changed) if each[0] == "V01"]


def test_mid_of_120a_is_accepted_with_and_without_number() -> None:
    assert list_mid_findings("XOMAPGOO120TOR") == []
    assert list_mid_findings("XOMAPGOOTOR") == [("V01", "warn", f"{MAKER}/mid")]
    assert list_mid_findings("XOMAPGOO121TOR") == [("V01", "block", f"{MAKER}/mid")]


@pytest.mark.parametrize(
    ("region", "code"),
    [("AB", "XA"), ("BC", "XC"), ("MB", "XM"), ("NB", "XB"), ("NL", "XW"), ("NT", "XT"), ("NS", "XN"), ("NU", "XV"),
     ("ON", "XO"), ("PE", "XP"), ("QC", "XQ"), ("SK", "XS"), ("YT", "XY"), ("Québec", "XQ"), ("Ontario", "XO"),
     ("CA-ON", "XO"), ("Newfoundland & Labrador", "XW"), ("Île-du-Prince-Édouard", "XP"), ("Yukon Territory", "XY")],
)  # fmt: skip
def test_canadian_mid_begins_with_province(region: str, code: str) -> None:
    changed = derive_mid("Maple Goods Ltd", address("120 Wellington Street West", "Toronto", "CA", region))
    assert changed == f"{code}MAPGOO120TOR"
    assert country_of_mid(changed) == "CA"


def test_canadian_address_without_province_gives_no_mid() -> None:
    assert derive_mid("Maple Goods Ltd", address("120 Wellington Street West", "Toronto", "CA")) is None


@pytest.mark.parametrize(("name", "city"), [("株式会社", "Osaka"), ("Bergstrom", "大阪"), ("& .", "Osaka")])
def test_name_without_latin_letters_gives_no_mid(name: str, city: str) -> None:
    assert derive_mid(name, address("1-2-3 Chuo", city, "JP")) is None


def test_mid_has_at_most_fifteen_characters() -> None:
    changed = derive_mid("Amalgamated Plastics Corp", address("99999 Long Street", "St. Catharines", "CA", "ON"))
    assert changed == "XOAMAPLA9999STC"


@pytest.mark.parametrize(("number", "severity"), [("4202923120", "block"), ("4202924500", "warn")])
def test_only_textiles_need_the_exact_mid(number: str, severity: str) -> None:
    # Backpacks of man-made fibers have the textile category 670; those of plastic sheeting have none.
    changes = with_changes((f"{BAG}/htsCode", number), (f"{UNIT}/parties/manufacturers/1/mid", "CNDEMBAG8SHE"))
    found = [finding for finding in findings(changes) if finding.rule == "V01"]
    assert [(finding.severity, finding.pointer) for finding in found] == [
        (severity, f"{UNIT}/parties/manufacturers/1/mid")
    ]
    assert ("102.23(a)" in (found[0].source or "")) == (severity == "block")
