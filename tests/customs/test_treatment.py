"""The digest of a treatment (which changes it depends on), and the step that stores the treatment."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from sqlalchemy import event
from sqlmodel import col, select

from pipeline.core.db import Database
from pipeline.core.errors import StepFailed
from pipeline.customs.treatment import (
    attach_treatment,
    digest_treatment,
    export_digest,
    line_digest,
    line_digests,
    unit_digest,
)
from pipeline.exports.models import ExportUnit, LineTreatment
from pipeline.exports.schemas.plan import Chapter99, Line, Pga, Plan, Section232, Treatment, Unit, as_json
from tests.exports.accepted import accept, open_account
from tests.support.factories import ACCOUNT, Json, change_plan, plan, read_pointer

PAN = "/units/0/lines/0"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.dispose()


def line(changed: Json) -> Line:
    return Line.model_validate(read_pointer(changed, PAN))


#: One row of each kind with all of its fields, and rows with empty fields.
DIGESTED_CHANGES: Json = {
    "chapter99": [{"heading": "9903.82.09", "program": "S232_METALS", "ratePercent": "25", "basis": "full_value"}],
    "section232": [
        {
            "metal": "aluminum", "metalWeightKg": "3.200", "countryOfMeltAndPour": None, "primaryCountryOfSmelt": "CA",
            "secondaryCountryOfSmelt": "CA", "countryOfCast": "CA", "usMetalPercent": "12.50",
        },
    ],
    "pga": [
        {
            "flag": "FD2", "agency": "FDA", "program": "FOO", "processing": "CCW", "disclaimer": None,
            "intendedUse": "081.001", "data": {"fdaProductCode": "52BYY05", "lots": ["A", "B"], "none": []},
        },
        {"flag": "FD1", "agency": "FDA", "program": "FOO", "disclaimer": "A", "data": {}},
    ],
    "undetermined": None,
}  # fmt: skip


def test_digest_is_stable() -> None:
    # A fixed value, so that a change of the canonical form fails here: documents and messages repeat the digest.
    digest = digest_treatment("7323930045", "CA", Treatment.model_validate(DIGESTED_CHANGES))
    assert digest == "sha256:138235fa5b513520443e754dee8307959e88a43865cae2f84e5eee130b73dd27"


class LaterHeading(Chapter99):
    """A heading with a field that a later version might add."""

    quota: str | None = None


class LaterTreatment(Treatment):
    """A treatment with fields that a later version might add, of each kind that is allowed to be optional."""

    chapter99: list[LaterHeading] = Field(default_factory=list)  # type: ignore[assignment]
    entry_note: str | None = None
    rulings: list[str] = Field(default_factory=list)
    quotas: dict[str, str] = Field(default_factory=dict)


def test_later_field_keeps_digest_of_plan_without_it() -> None:
    pan = line(plan())
    content = read_pointer(plan(), f"{PAN}/treatment")
    later = LaterTreatment.model_validate(content)
    assert as_json(later) != as_json(pan.treatment)
    assert digest_treatment(pan.hts_code, pan.country_of_origin, later) == line_digest(pan)
    used = LaterTreatment.model_validate(content | {"rulings": ["N301234"]})
    assert digest_treatment(pan.hts_code, pan.country_of_origin, used) != line_digest(pan)


EMPTY: tuple[object, ...] = (None, [], {})


@pytest.mark.parametrize("model", [Treatment, Chapter99, Section232, Pga])
def test_optional_treatment_fields_default_to_null_or_empty(model: type[BaseModel]) -> None:
    """Any other default, such as false, would enter the digest of every plan from the version that adds the field."""
    optional = {name: field for name, field in model.model_fields.items() if not field.is_required()}
    assert optional
    assert {
        name for name, each in optional.items() if each.get_default(call_default_factory=True) not in EMPTY
    } == set()


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "treatment-digest.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_documented_example_is_correct() -> None:
    (canonical,), lists = (block.splitlines() for block in blocks("json"))
    texts = [canonical, *lists]
    stated = [digest for block in blocks("text") for digest in block.splitlines()]
    assert stated == ["sha256:" + sha256(text.encode()).hexdigest() for text in texts]
    content = json.loads(canonical)
    treatment = Treatment.model_validate(content["treatment"])
    by_line = {"L1": digest_treatment(content["htsCode"], content["countryOfOrigin"], treatment)}
    unit = unit_digest(by_line)
    assert stated == [by_line["L1"], unit, export_digest({"U1": unit})]


def test_documented_program_gives_digests_of_plan(tmp_path: Path) -> None:
    changed = change_plan(
        plan(2, 4), f"{PAN}/treatment/pga/0/data", {"text": "Émail, \u756a \U0001f373", "none": [], "two": ["a"]}
    )
    program = (ROOT / "examples" / "partners" / "treatment_digest.py").read_text(encoding="utf-8")
    (tmp_path / "plan.json").write_text(json.dumps(changed), encoding="utf-8")
    (tmp_path / "digests.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "digests.py", "plan.json"],
        cwd=tmp_path, check=True, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    expected: list[str] = []
    units = {}
    for unit in Plan.model_validate(changed).units:
        by_line = line_digests(unit)
        units[unit.unit_ref] = unit_digest(by_line)
        expected += [f"line {unit.unit_ref} {line_ref} {digest}" for line_ref, digest in by_line.items()]
        expected += [f"unit {unit.unit_ref} {units[unit.unit_ref]}"]
    assert done.stdout.splitlines() == [*expected, f"export {export_digest(units)}"]


PRINTABLE = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), min_size=1, max_size=20).map(
    lambda text: "x" + text.replace("\x7f", "").replace("\ufffe", "").replace("\uffff", "") + "x"
)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,9}", fullmatch=True), PRINTABLE, max_size=8))
def test_canonical_form_matches_rfc_8785_for_any_data(data: dict[str, str]) -> None:
    changed = change_plan(plan(), f"{PAN}/treatment/pga/0/data", data)
    content = {name: read_pointer(changed, f"{PAN}/{name}") for name in ("htsCode", "countryOfOrigin", "treatment")}
    content["treatment"] = {name: rows for name, rows in content["treatment"].items() if rows}
    for rows in ("chapter99", "section232", "pga"):
        content["treatment"][rows] = [
            {name: value for name, value in row.items() if value not in (None, {})}
            for row in content["treatment"][rows]
        ]
    assert line_digest(line(changed)) == "sha256:" + sha256(rfc8785.dumps(content)).hexdigest()


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("htsCode", "7323930060"),
        ("countryOfOrigin", "US"),
        ("treatment/chapter99/1/ratePercent", "25.0"),
        ("treatment/section232/0/metalWeightKg", "3.20"),
        ("treatment/section232/0/countryOfMeltAndPour", "OTH"),
        ("treatment/pga/0/disclaimer", "B"),
        ("treatment/undetermined", "Ask the maker."),
    ],
)
def test_customs_fact_changes_digest(pointer: str, value: str) -> None:
    assert line_digest(line(change_plan(plan(), f"{PAN}/{pointer}", value))) != line_digest(line(plan()))


@pytest.mark.parametrize(
    ("pointer", "value"), [("sku", "PAN-24"), ("unitPrice", "99.00"), ("orderId", None), ("spi", "S")]
)
def test_other_fact_keeps_digest(pointer: str, value: str | None) -> None:
    assert line_digest(line(change_plan(plan(), f"{PAN}/{pointer}", value))) == line_digest(line(plan()))


def test_order_of_fields_keeps_digest() -> None:
    changed = plan()
    backwards = dict(reversed(read_pointer(changed, f"{PAN}/treatment").items()))
    assert line_digest(line(change_plan(changed, f"{PAN}/treatment", backwards))) == line_digest(line(changed))


def test_lines_units_and_their_order_change_digest() -> None:
    by_line = line_digests(Unit.model_validate(plan()["units"][0]))
    assert list(by_line) == ["L1", "L2", "L3"]
    backwards = dict(reversed(by_line.items()))
    renamed = {"X1": by_line["L1"], "L2": by_line["L2"], "L3": by_line["L3"]}
    assert len({unit_digest(digests) for digests in (by_line, backwards, renamed)}) == 3
    one, two = unit_digest(by_line), unit_digest(backwards)
    assert len({export_digest(units) for units in ({"U1": one}, {"U1": two}, {"U2": one}, {"U1": one, "U2": two})}) == 4


def test_step_stores_treatment_and_digest_of_every_line(database: Database) -> None:
    open_account(database, ACCOUNT)
    changed = plan(2, 3, 2)
    _, context = accept(database, changed)
    with database.write() as session:
        (happened,) = attach_treatment(session, context)
    digests = line_digests(Unit.model_validate(changed["units"][1]))
    assert happened.type == "TREATMENT_ATTACHED"
    assert happened.data == {"unitNo": 2, "unitRef": "U2", "lines": 3, "digest": unit_digest(digests)}
    with database.read() as session:
        kept = session.exec(select(LineTreatment).order_by(col(LineTreatment.position))).all()
    carried = [line["treatment"] for line in changed["units"][1]["lines"]]
    assert [(row.unit_no, row.line_ref, row.position, row.digest) for row in kept] == [
        (2, f"L{n}", n, digests[f"L{n}"]) for n in (1, 2, 3)
    ]
    assert [row.chapter99 for row in kept] == [treatment["chapter99"] for treatment in carried]
    assert [row.section232 for row in kept] == [treatment["section232"] for treatment in carried]
    assert [row.pga for row in kept] == [treatment["pga"] for treatment in carried]
    assert [(row.hts_code, row.country_of_origin) for row in kept] == [
        ("7323930045", "CA"),
        ("6105100010", "CA"),
        ("4202923120", "CN"),
    ]


def test_step_fails_for_changed_treatment_and_writes_nothing(database: Database) -> None:
    open_account(database, ACCOUNT)
    (context,) = accept(database, plan())
    with database.write() as session:
        session.get_one(ExportUnit, (context.export_id, 1)).treatment_digest = "sha256:" + "0" * 64
    with pytest.raises(StepFailed, match="was accepted with sha256:0000"), database.write() as session:
        attach_treatment(session, replace(context, step="attach_customs"))
    with database.read() as session:
        assert session.exec(select(LineTreatment)).all() == []


def test_number_of_statements_is_independent_of_lines(database: Database) -> None:
    open_account(database, ACCOUNT)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
    counts = []
    for lines in (3, 2_000):
        (context,) = accept(database, plan(1, lines, 2, batch=f"batch_{lines}"))
        statements.clear()
        with database.write() as session:
            attach_treatment(session, context)
        counts.append(len(statements))
    assert counts[0] == counts[1]
