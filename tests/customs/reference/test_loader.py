"""An error in the rules rejects all of them; the message names the file, the row and the remedy."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.core.errors import RulesInvalid
from pipeline.customs.reference.base import ReferenceRow
from pipeline.customs.reference.bundle import REFERENCE, load_rules
from pipeline.customs.reference.catalog import all_rows
from pipeline.customs.reference.content import RULES, read_folder
from pipeline.customs.reference.ruleset import ruleset
from tests.support.rules_id import read_id

METALS = "headings/section232-metals.yaml"
CANADA = "headings/section338-canada.yaml"
POLYSILICON = "headings/section232-polysilicon.yaml"
LIST = "lists/section232-metals.json"
NEEDS = "section232.yaml"


#: The content of each ruleset that a version was released with, by its id.
RELEASED = {"us-ca-2026-11-29": "sha256:6358bc4c4cf2c30bb16b46f5d52f0836ce576408cacec57714ed6d0edfa36cd6"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the rules that a test may change."""
    return Path(shutil.copytree(RULES, tmp_path / "rules"))


def edit_file(folder: Path, name: str, old: str, new: str) -> Path:
    file = folder / name
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder / "ruleset.yaml"


def list_errors(manifest: Path) -> list[str]:
    with pytest.raises(RulesInvalid) as refused:
        load_rules(manifest)
    return refused.value.errors


def test_rules_load_once_and_are_immutable() -> None:
    rules = ruleset()
    assert ruleset() is rules
    assert (rules.id, rules.as_of.isoformat()) == read_id()
    with pytest.raises(AttributeError):
        rules.id = "another"  # type: ignore[misc]
    for mapping in (rules.by_heading, rules.programs_by_id, *(held.codes for held in rules.resolved_lists)):
        with pytest.raises(TypeError):
            mapping["9903.82.09"] = ()  # type: ignore[index]


def test_rules_that_changed_since_a_release_have_another_id() -> None:
    rules = ruleset()
    assert RELEASED.get(rules.id, rules.content_hash) == rules.content_hash, "give the changed rules a new id"
    assert {rules.id, *rules.predecessors} >= RELEASED.keys()


def test_every_row_has_source_confidence_status_and_first_day() -> None:
    rules = ruleset()
    rows = [*rules.rows, *rules.bans, *rules.open_duties, *rules.questions, *rules.families, *rules.exclusive]
    rows += [*rules.companions, *rules.metals.metals, *(held.version for held in rules.resolved_lists)]
    assert len(rows) > 250
    for row in rows:
        assert row.source
        assert row.effective_from is not None


def test_every_entry_rule_has_source_and_confidence() -> None:
    entry = load_rules()[1]["entry.yaml"]
    for name in type(entry).model_fields.keys() - {"schema_version", "as_of", "destination"}:
        held = getattr(entry, name)
        for row in held if isinstance(held, tuple) else (held,):
            assert isinstance(row, ReferenceRow), name
    assert {name for name, data in load_rules()[1].items() if isinstance(data, ReferenceRow)} == {
        "mid.yaml", "descriptions.yaml", "pga_records.yaml", "units.yaml",
    }  # fmt: skip
    assert all(isinstance(group, ReferenceRow) for group in ruleset().country_groups)


def test_catalog_lists_every_row_with_source_and_status() -> None:
    rows = all_rows()
    assert len(rows) > 480
    for row in rows:
        assert row.source or row.says, row
        assert row.confidence in {"high", "medium", "low"}, row
        assert row.status in {"confirmed", "probable", "check"}, row
    assert len({(row.kind, row.name, row.effective_from) for row in rows}) == len(rows)


def test_every_heading_is_in_family_of_its_program() -> None:
    rules = ruleset()
    for row in rules.rows:
        family = rules.find_family(row.heading)
        assert family is not None, row.heading
        assert family.program == row.program, row.heading


def test_content_hash_of_a_copy_is_the_same(folder: Path) -> None:
    assert read_folder(folder).content_hash == ruleset().content_hash


@pytest.mark.parametrize("name", sorted(
    file.relative_to(RULES).as_posix() for file in RULES.rglob("*.*") if file.suffix in {".yaml", ".json"}
))  # fmt: skip
def test_content_hash_covers_every_file(folder: Path, name: str) -> None:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert read_folder(folder).content_hash != ruleset().content_hash


class Slip(NamedTuple):
    """An edit of a file of rules, and the expected error: its beginning, or a part of it."""

    file: str
    old: str
    new: str
    message: str


SLIPS = {
    "a heading of another form": Slip(
        METALS, 'heading: "9903.82.09"', 'heading: "9903.82.9"',
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.9].heading: "
        "'9903.82.9' is not a heading of chapter 99 such as 9903.82.09. Correct it."),
    "a program that is not defined": Slip(
        METALS, "program: S232_METALS,", "program: S999,",
        f"{METALS}: heading 9903.82.01 from 2026-04-06 names program S999, which is not defined. "
        "Define it, or correct the name."),
    "a list that is not defined": Slip(
        METALS, '{lists: ["16(c)(i)",', '{lists: ["16(z)",',
        f"{METALS}: heading 9903.85.67 from 2023-03-10 names list 16(z), which is not defined. "
        "Define it, or correct the name."),
    "a group of countries that is not defined": Slip(
        METALS, "origins: [RU]", "origins: [RUSSIA]",
        f"{METALS}: heading 9903.82.15 from 2026-04-06 names country group RUSSIA, which is not defined. "
        "Define it, or correct the name."),
    "windows that overlap": Slip(
        METALS, "      effective_to: 2026-06-07\n", "      effective_to: 2026-06-08\n",
        f"{METALS}: heading 9903.82.15 has rows whose periods overlap, from 2026-04-06 and 2026-06-08. "
        "End the older row on the day before the newer row begins."),
    "a heading twice": Slip(
        METALS, 'heading: "9903.82.09"', 'heading: "9903.82.02"',
        f"{METALS}: heading 9903.82.02 has rows whose periods overlap, from 2026-04-06 and 2026-04-06. "
        "End the older row on the day before the newer row begins."),
    "a group of countries of another time": Slip(
        "ruleset.yaml", "effective_from: 2022-04-09", "effective_from: 2026-04-07",
        f"{METALS}: heading 9903.82.07 from 2026-04-06 names country group COLUMN_2 in its period, "
        "which is not defined. Define it, or correct the name."),
    "a group of countries twice": Slip(
        "ruleset.yaml", "name: COLUMN_2", "name: EU",
        "ruleset.yaml: group EU has rows whose periods overlap. End the older row on the day before the newer row begins."),
    "a window that runs backwards": Slip(
        METALS, "effective_to: 2027-12-31", "effective_to: 2025-12-31",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.17]: effective_to 2025-12-31 is before effective_from 2026-04-06. "
        "Correct its dates."),
    "a field that is not known": Slip(
        METALS, "countries: [RU]", "countrys: [RU]",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.67 from 2023-03-10].when.metal_from.countrys: "
        "Extra inputs are not permitted. Remove it, or correct its name."),
    "a field that is missing": Slip(
        METALS, '      source: "HTSUS 2026 Revision 6, U.S. note 16(c)"\n', "",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.03].source: Field required. Add it."),
    "an empty source": Slip(
        METALS, 'source: "HTSUS 2026 Revision 6, U.S. note 16(c)"', 'source: ""',
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.03].source: String should have at least 1 character. Correct it."),
    "a word that is none of those allowed": Slip(
        METALS, "share: any", "share: half",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.67 from 2023-03-10].when.metal_from.share: "
        "Input should be 'any', 'most' or 'all'. Use one of these values."),
    "a status that is none": Slip(
        METALS, "      status: probable", "      status: sure",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.68 from 2023-03-10].status: "
        "Input should be 'confirmed', 'probable' or 'check'. Use one of these values."),
    "a rate on nothing known": Slip(
        METALS, "basis: non_us_content", "basis: the_rest",
        "Input should be 'full_value', 'total_with_column_1', "),
    "a rate that is not a number": Slip(
        METALS, 'rate_percent: "200"', 'rate_percent: "two hundred"',
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.67 from 2023-03-10].rate_percent: "),
    "a rate that lost its digits": Slip(
        METALS, 'rate_percent: "200"', "rate_percent: 200.1",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.67 from 2023-03-10].rate_percent: "
        '200.1 is not a number in quotes. Write a number in quotes, such as "12.5".'),
    "a word for a day": Slip(
        METALS, "effective_from: 2023-03-10", "effective_from: spring",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.67 from spring].effective_from: 'spring' is not a date. "
        "Write a date such as 2026-11-24."),
    "a number for a day": Slip(
        METALS, "effective_from: 2023-03-10", "effective_from: 20230310",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.85.67 from 20230310].effective_from: 20230310 is not a date. "
        "Write a date such as 2026-11-24."),
    "a day that the month does not have": Slip(
        METALS, "effective_from: 2023-03-10", "effective_from: 2023-02-30",
        f"{METALS}: line 19: 2023-02-30 is not a date. Correct the line."),
    "a country in small letters": Slip(
        METALS, "origins: [RU]", "origins: [ru]",
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.15].when.origins[number 1]: "
        "'ru' is neither a country code nor the name of a group. Correct it."),
    "a condition on a chapter that no goods have": Slip(
        METALS, 'chapters: ["84", "85", "87"]', 'chapters: ["84", "77", "87"]',
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.13].when.chapters[number 2]: '77' is not a chapter of goods; chapters are 01 to 97 without 77. Correct it."),
    "a key twice": Slip(
        METALS, "      confidence: medium\n", "      confidence: medium\n      confidence: high\n",
        f"{METALS}: line 28: key 'confidence' is there twice. Correct the line."),
    "an open duty of a group that is not defined": Slip(
        POLYSILICON, "origins: [EU, CH,", "origins: [EEC, CH,",
        "Switzerland and Taiwan: 15 % in all names country group EEC, which is not defined. Define it, or correct the name."),
    "an open duty with a rate and a floor": Slip(
        POLYSILICON, 'description: "solar cells",', 'description: "solar cells", rate_percent: "15",',
        "a duty without a heading has either rate_percent or floor. Correct it."),
    "an open duty on goods of chapter 99": Slip(
        POLYSILICON, '["2804.61.0000"]', '["9903.45.30"]',
        "'9903.45.30' is not a chapter or an HTS provision such as 85, 8541, 8541.43.00 or 8541.43.0010. Correct it."),
    "two questions of one id": Slip(
        "headings/questions.yaml", "id: softwood-parts", "id: cranes-9903.92.10",
        "headings/questions.yaml: question cranes-9903.92.10 has rows whose periods overlap. "),
    "two open duties of one name": Slip(
        POLYSILICON, 'description: "solar modules"', 'description: "solar cells"',
        "open duty Section 232, price floor of polysilicon, solar cells has rows whose periods overlap. "),
    "a brace too few": Slip(
        METALS, "below_weight_test: true}", "below_weight_test: true", f"{METALS}: line 14: "),
    "a ban of a list that is not defined": Slip(
        CANADA, "list: ban-dairy", "list: ban-cheese",
        f"{CANADA}: a ban names list ban-cheese, which is not defined. Define it, or correct the name."),
    "a ban twice": Slip(
        CANADA, "    - {list: ban-motorcycles,", "    - {list: ban-dairy,",
        f"{CANADA}: ban ban-dairy has rows whose periods overlap, from 2026-09-29 and 2026-09-29. "
        "End the older row on the day before the newer row begins."),
    "a rule of headings twice": Slip(
        "ruleset.yaml", '["9903.03.12-9903.03.14"]\n    effective_from: 2026-08-22', '["9903.82.02-9903.82.26"]\n    effective_from: 2026-08-22',
        "ruleset.yaml: exclusive 9903.82.02-9903.82.26 has rows whose periods overlap. "
        "End the older row on the day before the newer row begins."),
    "unreportable goods twice": Slip(
        NEEDS, "unreportable:\n", "unreportable:\n  - {metals: [steel], origins: [GU], effective_from: 2026-08-01, source: a, "
        "confidence: low, status: check}\n",
        f"{NEEDS}: unreportable has rows for GU whose periods overlap. End the older row on the day before the newer row begins."),
    "certified parts of a list that is not defined": Slip(
        "headings/section232-other.yaml", 'not_lists: ["33(g)", "38(i)"]', 'not_lists: ["33(z)", "38(i)"]',
        "headings/section232-other.yaml: heading 9903.94.06 from 2025-05-03 names list 33(z), which is not defined. "
        "Define it, or correct the name."),
    "excepted goods of a list that is not defined": Slip(
        "headings/section232-other.yaml", 'origins: [GB], lists: ["33(j)"]}]', 'origins: [GB], lists: ["33(z)"]}]',
        "headings/section232-other.yaml: heading 9903.94.05 from 2025-06-30 names list 33(z), which is not defined. "
        "Define it, or correct the name."),
    "a row without a first day": Slip(
        CANADA, "      effective_from: 2026-08-22\n", "",
        f"{CANADA}: heading 9903.03.16 has no first day. Add effective_from."),
    "a family of a program that is not defined": Slip(
        "ruleset.yaml", "program: S122, name", "program: S123, name",
        "ruleset.yaml: family Section 122 import surcharge names program S123, which is not defined. "
        "Define it, or correct the name."),
    "a family that ends before its rows": Slip(
        "ruleset.yaml", "effective_to: 2026-07-23", "effective_to: 2026-07-22",
        "headings/ended.yaml: heading 9903.03.01 from 2026-02-24 is outside the period of Section 122 import surcharge, "
        "2026-02-24 to 2026-07-22. Correct one of them."),
    "a family of the headings of another": Slip(
        "ruleset.yaml", '["9903.05.01-9903.05.09"]', '["9903.05.01-9903.05.20"]',
        "ruleset.yaml: families Section 301, Brazil and Section 301, forced labor both have 9903.05.20-9903.06.99. "
        "Keep it in only one of them."),
    "a program twice": Slip(
        "ruleset.yaml", "{id: S301_CN_REVIEW,", "{id: S301_CN,",
        "ruleset.yaml: program S301_CN is defined twice. Keep one of them."),
    "a range that runs backwards": Slip(
        "ruleset.yaml", '"9903.82.02-9903.82.26"', '"9903.82.26-9903.82.02"',
        "ruleset.yaml: exclusive[9903.82.26-9903.82.02 from 2026-04-06].headings[number 1]: "
        "'9903.82.26-9903.82.02' is not a range of headings such as 9903.82.04-9903.82.26. Correct it."),
    "a rate below zero": Slip(
        METALS, 'rate_percent: "25"', 'rate_percent: "-25"',
        f"{METALS}: [S232_METALS from 2026-04-06].rows[9903.82.16].rate_percent: -25 is less than zero. Correct it."),
    "an id that no command could take": Slip(
        "ruleset.yaml", "id: us-ca", "id: us ca",
        "ruleset.yaml: id: 'us ca-"),
    "a file that is not there": Slip(
        "ruleset.yaml", LIST, "lists/none.json",
        "lists/none.json: the file does not exist. Add it, or remove its name from ruleset.yaml."),
    "a file that nothing names": Slip(
        "ruleset.yaml", "  - headings/ended.yaml\n", "",
        "headings/ended.yaml: ruleset.yaml does not name this file. Name it there, or delete it."),
    "a file of rules that nothing reads": Slip(
        "ruleset.yaml", "  - mid.yaml\n", "  - README.md\n",
        "ruleset.yaml: the service does not read README.md. Remove it from `reference`."),
    "a code of a chapter that its list does not have": Slip(
        "lists/section338-canada.json", '"8711.50.00"', '"9811.50.00"',
        "lists/section338-canada.json: lists[51(b)(3)]: "
        "list 51(b)(3) has 9811.50.00, which is not in one of its chapters. Correct it."),
    "a list under another name": Slip(
        "lists/section338-canada.json", '"lists"', '"list"', "lists/section338-canada.json: lists: Field required. Add it."),
    "a kind of list that is none": Slip(
        LIST, '"kind": "articles"', '"kind": "article"',
        f"{LIST}: lists[16(c)(i)].kind: Input should be 'articles' or 'derivative'. Use one of these values."),
    "a list with a key twice": Slip(
        LIST, '"metal": "aluminum"', '"metal": "aluminum", "metal": "steel"',
        f"{LIST}: key 'metal' is there twice in 16(c)(i). Correct the file."),
    "a list without its brace": Slip(LIST, "{", "", f"{LIST}: "),
    "tests by weight that overlap": Slip(
        NEEDS, "weight_tests:\n", 'weight_tests:\n  - {heading: "9903.82.03", least_percent: "20", exempt_chapters: '
        '["72"], duty_headings: ["9903.82.09"], effective_from: 2027-01-01, source: a, confidence: low, status: check}\n',
        f"{NEEDS}: the weight tests have periods that overlap. End the older row on the day before the newer row begins."),
    "data that a plan does not have": Slip(
        NEEDS, "needs: [country_of_melt_and_pour]", "needs: [country_of_melting]",
        f"{NEEDS}: metals[steel from 2025-03-12].needs[number 1]: Input should be "),
    "a window that runs backwards beside chapter 99's": Slip(
        "entry.yaml", "effective_from: 2026-06-24", "effective_from: 2026-06-24\n    effective_to: 2026-06-23",
        "entry.yaml: ended_entry_types[86 from 2026-06-24]: effective_to 2026-06-23 is before effective_from 2026-06-24. "
        "Correct its dates."),
    "a flag twice": Slip(
        "pga.yaml", "flags:\n", "flags:\n  - {flag: FD1, agency: FDA, required: true, disclaimers: [], source: fda_food}\n",
        "pga.yaml: flag FD1 has two rows for 0001-01-01. Correct it."),
    "a file beside chapter 99's": Slip(
        "entry.yaml", "status: confirmed", "status: certain", "entry.yaml: "),
    "a key twice beside chapter 99's": Slip(
        "mid.yaml", "longest:", "longest: 15\nlongest:", "mid.yaml: line "),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_error_names_file_row_and_remedy(folder: Path, slip: str) -> None:
    file, old, new, expected = SLIPS[slip]
    errors = list_errors(edit_file(folder, file, old, new))
    assert any(expected in message for message in errors), errors
    assert all(message.endswith(".") for message in errors)


def test_errors_of_all_files_are_reported_together(folder: Path) -> None:
    edit_file(folder, METALS, "share: any", "share: half")
    edit_file(folder, "pga.yaml", "status: probable", "status: sure")
    errors = list_errors(edit_file(folder, CANADA, "list: ban-dairy", "list: ban-cheese"))
    assert list(dict.fromkeys(error.split(":")[0] for error in errors)) == [METALS, CANADA, "pga.yaml"]


def test_reference_names_exactly_the_files_read() -> None:
    assert load_rules()[1].keys() == REFERENCE.keys()
