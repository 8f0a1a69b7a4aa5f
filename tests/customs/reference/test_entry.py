"""The tables of the entry header and the invoice agree with regulations, forms and layouts, in the words of their copies."""

import re
from datetime import UTC, date, datetime, timedelta
from string import ascii_uppercase, digits, printable
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from pipeline.customs.reference.entry import entry_rules
from pipeline.exports.schemas.plan import InvoiceHeader

#: 19 CFR 24.5(d), 2015 edition: "numeric, alphabetic, or a combination of both ... except that the letters O, Z, and I may not
#: be used".
SUFFIX = set(digits + ascii_uppercase) - set("OZI")
#: The forms that the manual of a filing program prints for CBP Form 5106 (bmsi.com), with N a digit and X of the suffix; and
#: the numbers of a sample form (formsbank.com).
PRINTED = {
    "IRS number": ("NN-NNNNNNNXX", "12-345678900"),
    "Social Security number": ("NNN-NN-NNNN", "123-45-6789"),
    "number assigned by CBP": ("YYDDPP-NNNNN", "071001-00001"),
}


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_importer_number_has_the_printed_form_and_no_other(name: str) -> None:
    (form,) = (each for each in entry_rules().importer_numbers.forms if each.name == name)
    printed, sample = PRINTED[name]
    assert form.pattern.fullmatch(sample)
    for place, letter in enumerate(printed):
        allowed = {"-": {"-"}, "X": SUFFIX}.get(letter, set(digits))
        assert allowed == {
            each for each in printable if form.pattern.fullmatch(sample[:place] + each + sample[place + 1 :])
        }
        # No character can be left out or repeated.
        assert not form.pattern.fullmatch(sample[:place] + sample[place + 1 :])
        assert not form.pattern.fullmatch(sample[:place] + sample[place] + sample[place:])
    # 19 CFR 24.5(c): Customs assigns a number to who has neither of the others, such as a foreign importer.
    assert form.foreign == (name == "number assigned by CBP")


def test_forms_of_importer_numbers_are_the_printed_ones() -> None:
    assert [each.name for each in entry_rules().importer_numbers.forms] == list(PRINTED)


def test_informal_entry_has_the_limit_of_the_regulation() -> None:
    # 19 CFR 143.21(a), 2015 edition: "Shipments of merchandise not exceeding $2,500 in value".
    assert entry_rules().informal.limit_usd == 2500


#: Entry summary record 40 and 42 of the older system, as a filing program copies them; CSMS 65464464 (2025-06-26).
LINE_ITEM = "Valid Line Item Numbers are 001 to 999."
INVOICE = "17 characters, alpha, numeric and dash (-) only"
#: The value of goods in whole dollars: record 40 of the older system has ten digits at column 8, AE record 50 columns 25 to 34.
VALUE_COLUMNS = (25, 34)


def test_limits_are_those_of_the_layouts_and_the_message() -> None:
    limits = {(each.name, each.effective_from): (each.most, each.effective_to) for each in entry_rules().limits}
    first, last = VALUE_COLUMNS
    assert limits == {
        ("entry lines", None): (int(LINE_ITEM.removesuffix(".").split()[-1]), None),
        # "up to 32 ... The current limit is 8", deployed on Saturday 2025-06-28.
        ("tariff numbers", None): (8, date(2025, 6, 28) - timedelta(days=1)),
        ("tariff numbers", date(2025, 6, 28)): (32, None),
        ("value digits", None): (last - first + 1, None),
    }


def test_invoice_number_has_the_letters_and_length_of_the_layout() -> None:
    pattern, most = entry_rules().invoice_number.pattern, int(INVOICE.split(maxsplit=1)[0])
    assert {each for each in printable if pattern.fullmatch(each)} == {
        each for each in printable if each.isalnum() or each == "-"
    }
    assert [length for length in range(most + 3) if pattern.fullmatch("A" * length)] == list(range(1, most + 1))


def test_only_a_sale_has_the_day_and_place_of_a_sale() -> None:
    # 19 CFR 141.86(a)(2), 2015 edition: "The time when, the place where ... the merchandise is sold or agreed to be sold, or if
    # to be imported otherwise than in pursuance of a purchase, the place from which shipped".
    reasons = set(get_args(InvoiceHeader.model_fields["reason_for_export"].annotation))
    assert reasons - entry_rules().sale.reasons == {"sample", "gift", "return", "repair", "transfer", "other"}
    assert entry_rules().sale.reasons == {"sale"}


#: The chapters of the sections of the Harmonized System, I to XXI, and of the USITC's section XXII, as their headings say.
SECTIONS = "1-5 6-14 15 16-24 25-27 28-38 39-40 41-43 44-46 47-49 50-63 64-67 68-70 71 72-83 84-85 86-89 90-92 93 94-96 97 98-99"


def test_chapters_are_those_of_the_sections_of_the_tariff() -> None:
    rules = entry_rules().tariff
    *goods, special = [re.findall(r"\d+", section) for section in SECTIONS.split()]
    assert {f"{number:02}" for number in range(int(special[0]), int(special[1]) + 1)} == rules.additional
    assert f"{int(goods[-1][-1]):02}" == rules.last_chapter
    # Of section XV, the tariff has no goods in chapter 77, which is reserved for future use.
    assert rules.reserved == {"00", "77"}


@pytest.mark.parametrize("year", range(2025, 2040))
def test_clock_is_that_of_eastern_time(year: int) -> None:
    # 15 USC 260a: from 2 a.m. on the second Sunday of March to 2 a.m. on the first Sunday of November one hour ahead.
    zone = ZoneInfo(entry_rules().clock.zone)
    march, november = (
        next(day for day in (date(year, month, first + at) for at in range(7)) if day.weekday() == 6)
        for month, first in ((3, 8), (11, 1))
    )
    # Eastern standard time is five hours behind Coordinated Universal Time.
    begin = datetime(year, 3, march.day, 2 + 5, tzinfo=UTC)
    end = datetime(year, 11, november.day, 2 + 4, tzinfo=UTC)
    for moment, offset in (
        (begin - timedelta(seconds=1), -5),
        (begin, -4),
        (end - timedelta(seconds=1), -4),
        (end, -5),
    ):
        assert moment.astimezone(zone).utcoffset() == timedelta(hours=offset)


def test_postal_code_has_the_forms_of_the_postal_service() -> None:
    # Five digits, and since 1983 four more after a dash: ZIP codes of Eagle River AK, Albany NY and Beverly Hills CA.
    form = entry_rules().consignee.postal_code
    assert all(form.fullmatch(each) for each in ("99577", "99577-0727", "12201-7050", "90210"))
    assert not any(form.fullmatch(each) for each in ("9957", "995770", "99577-072", "99577-07271", "K1A 0B1", "99577-"))


def test_usmca_has_its_parties_programs_and_figures() -> None:
    rules = entry_rules()
    # The United States of America, the United Mexican States and Canada; 19 CFR 182.11(b): "the letters 'S' or 'S+'".
    assert rules.usmca.countries == {"US", "MX", "CA"}
    assert rules.usmca.programs == {"S", "S+"}
    # 19 CFR 182.14(a)(2), CBP Dec. 21-10, 86 FR 35585, July 6, 2021: "does not exceed $2,500 in U.S. dollars".
    assert rules.usmca_low_value.limit_usd == 2500
    assert rules.usmca_low_value.effective_from == date(2021, 7, 6)
    # CBP's instructions, as opportimes.com has them: identical products "within a maximum period of 12 months".
    assert rules.usmca_elements.longest_months == 12


def test_foreign_importers_have_the_day_of_the_order() -> None:
    # Executive Order 14411 of June 3, 2026, gives 180 days for its rules.
    day = date(2026, 6, 3) + timedelta(days=180)
    assert {entry_rules().foreign_importer.effective_from, entry_rules().foreign_importer_formal.effective_from} == {
        day
    }
