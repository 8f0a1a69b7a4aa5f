"""How an entry is filed: each breach gives a finding at its place, and entry numbers agree with an independent library."""

from calendar import isleap
from datetime import date, timedelta
from string import ascii_uppercase

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stdnum import luhn

from pipeline.core.findings import Finding
from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules
from pipeline.customs.reference.ports import port_rules
from pipeline.exports.schemas.entry_filing import entry_check_digit, format_entry_number
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import IMPORTER, UNIT, enter_on, findings, list_findings, with_changes
from tests.customs.filing_cases import ACCEPTED, AGENT, CONSIGNEES, FILING, FILINGS, GOOD, consignee, filed, reside
from tests.customs.foreign_importer import RESIDENT_AGENT
from tests.support.tables import table


@table("breach", FILINGS)
def test_breach_gives_finding_at_its_place(breach: str) -> None:
    changes, expected = FILINGS[breach]
    assert list_findings(with_changes(*changes)) == expected


@table("case", ACCEPTED)
def test_accepted_filing_has_no_finding(case: str) -> None:
    assert list_findings(with_changes(*ACCEPTED[case])) == []


def test_line_for_two_consignees_is_named() -> None:
    changed = with_changes(
        (f"{UNIT}/packages/1/contents", [{"lineRef": "L2", "quantity": "2"}, {"lineRef": "L1", "quantity": "2"}]),
        (CONSIGNEES, [consignee(packageRefs=["P1"]), consignee(packageRefs=["P2"])]),
    )
    found = [each for each in findings(changed) if each.rule == "F02"]
    assert [(each.severity, each.pointer) for each in found] == [("warn", f"{UNIT}/lines/0")]
    assert "line L1 go to several consignees" in found[0].message


def test_number_is_never_repeated() -> None:
    changed = with_changes(
        (CONSIGNEES, [consignee(number="123-45-6789"), consignee(number="123-45-678")]),
        (AGENT, RESIDENT_AGENT[1] | {"number": "987-65-4321"}),
    )
    found = [each for each in findings(changed) if each.rule.startswith("F")]
    assert {each.rule for each in found} == {"F01", "F01-SSN", "F02"}
    # The remedy has an example of each form.
    assert "6789" not in "".join(each.message for each in found)
    assert "4321" not in "".join(each.message + each.remedy for each in found)


def test_finding_names_state_of_port_for_agent_in_another() -> None:
    (finding,) = findings(with_changes(reside(region="WA")))
    assert finding.message == "Resident agent Demo Agents LLC is in WA, but port 0901 is Buffalo-Niagara Falls NY."
    assert "an agent who resides in NY" in finding.remedy
    assert all(source in (finding.source or "") for source in ("141.18", "Schedule D"))


def test_agent_may_be_in_any_state_of_a_port() -> None:
    for region, rules in (("MN", []), ("WI", []), ("NY", ["F07"])):
        port = [(f"{UNIT}/entry/portOfEntry", "3510"), (f"{UNIT}/entry/modeOfTransport", "air")]
        found = findings(with_changes(reside(region=region), *port))
        assert [each.rule for each in found if each.rule == "F07"] == rules


def test_every_port_names_its_states() -> None:
    ports = port_rules().ports
    assert {state for code in ports.ports for state in ports.find_states(code)} <= entry_rules().consignee.regions


def foreign(on: str) -> list[Finding]:
    # The plan's headings depend on the day too; only the rules of the filing matter here.
    changed = with_changes(
        *enter_on(on), (f"{IMPORTER}/importerNumber", "261127-12345"), RESIDENT_AGENT, *filed(payment=None)
    )
    return [each for each in findings(changed) if each.rule.startswith("F")]


def test_foreign_importer_needs_permission_for_continuous_bond_from_its_day() -> None:
    assert foreign("2026-11-29") == []
    (finding,) = foreign("2026-11-30")
    assert (finding.rule, finding.severity, finding.pointer) == ("F03", "warn", f"{FILING}/bond/type")
    assert "2026-11-30" in finding.message
    assert "Executive Order 14411" in (finding.source or "")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("filerCode", "AB"),
        ("entryNumber", "ABC-123456-7"),
        ("entryNumber", "abc-1234567-6"),
        ("firmsCode", "H12"),
        ("teamNumber", "4"),
        ("bond", {"type": "8", "suretyCode": "36"}),
        ("bond", {"type": "single"}),
        ("bond", {"type": "8", "amountUsd": "-1"}),
        ("payment", {"type": "7", "statementMonth": "13"}),
        ("payment", {"type": "7", "statementDate": "12/04/2026"}),
        ("powerOfAttorney", {"grantor": "Demo Housewares Inc"}),
        ("surety", "036"),
    ],
)
def test_malformed_member_is_refused_and_named(member: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Plan.model_validate(with_changes((FILING, GOOD | {member: value})))
    assert member in {str(part) for error in refused.value.errors() for part in error["loc"]}


LETTERS = {each: (at % 9) + 1 if each < "S" else at - 16 for at, each in enumerate(ascii_uppercase)}


@given(st.from_regex(r"[A-Z0-9]{3}[0-9]{7}", fullmatch=True))
def test_check_digit_agrees_with_independent_luhn(number: str) -> None:
    digits = "".join(str(LETTERS.get(character, character)) for character in number)
    assert entry_check_digit(number) == luhn.calc_check_digit(digits)


def test_check_digit_agrees_with_published_example() -> None:
    # The example of CATAIR AE, table 1, as a public program transcribes it.
    assert entry_check_digit("ABC1234567") == "6"
    assert entry_check_digit("9999999999") == "0"
    assert (LETTERS["A"], LETTERS["I"], LETTERS["J"], LETTERS["R"], LETTERS["S"], LETTERS["Z"]) == (1, 9, 1, 9, 2, 9)


@pytest.mark.parametrize(
    ("number", "shown"), [("ABC12345676", "ABC-1234567-6"), ("ABC-1234567-6", "ABC-1234567-6"), ("?", "?")]
)
def test_entry_number_is_shown_with_dashes(number: str, shown: str) -> None:
    assert format_entry_number(number) == shown


@pytest.mark.parametrize("year", range(2021, 2060))
def test_holidays_agree_with_independent_calendar(year: int) -> None:
    # Juneteenth is a holiday since 2021; both calendars name the days on which offices are closed.
    days = filing_rules().statement_days
    every = [date(year, 1, 1) + timedelta(days=number) for number in range(365 + isleap(year))]
    closed = {day for day in every if day.weekday() < 5 and days.describe_closed(day) is not None}
    assert closed == {
        day for day in holidays.country_holidays("US", years=(year, year + 1)) if day.year == year and day.weekday() < 5
    }


def test_observed_holiday_and_weekend_are_named() -> None:
    days = filing_rules().statement_days
    assert days.describe_closed(date(2021, 12, 31)) == "New Year's Day"
    assert days.describe_closed(date(2027, 7, 5)) == "Independence Day"
    assert days.describe_closed(date(2026, 11, 26)) == "Thanksgiving Day"
    assert days.describe_closed(date(2026, 11, 28)) == "a weekend"
    assert days.describe_closed(date(2026, 11, 27)) is None
