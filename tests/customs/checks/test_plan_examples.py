"""The bundled example plans are valid and complete, and have no findings."""

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.customs.checks.flags import check_flags
from pipeline.customs.checks.mid import derive_mid
from pipeline.customs.checks.plan import check_plan
from pipeline.customs.models import NumberFlag, TariffEdition
from pipeline.customs.pga.answers import flag_answers
from pipeline.customs.pga.forms import build_forms
from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.tariff.flags import FlagsOnDay
from pipeline.exports import packages, sscc
from pipeline.exports.examples import COMMENTED_PLAN
from pipeline.exports.schemas.plan import Plan, as_json
from pipeline.interfaces.cli.plans import strip_comments

FOLDER = Path(__file__).parents[3] / "examples" / "plans"
#: The rows of the examples' numbers; a number that an example uses must be added from the same report.
TABLE = Path(__file__).with_name("hts_pga_report_2026_02_21.csv")
REPORTED, ENTERED = date(2026, 2, 21), date(2026, 11, 26)
ENTRIES = (
    "assists-canadian-dollars", "cleaner-tsca", "export-permit", "food-prior-notice", "foreign-importer",
    "informal-statement", "multi-consignee-truck", "oak-lacey", "returned-goods", "softwood-duty-cases", "toy-full-certificate",
    "truck-trip", "vehicle-part", "warehouse-for-mexico",
)  # fmt: skip
NAMES = ("cookware", "consolidated-truck", "three-units", *ENTRIES)


def document(name: str) -> dict[str, Any]:
    folder = FOLDER / "entries" if name in ENTRIES else FOLDER
    loaded: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def example(name: str) -> Plan:
    return Plan.model_validate(document(name))


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.rglob("*.json")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example_has_no_finding(name: str) -> None:
    plan = example(name)
    found = check_plan(plan, on=date(2026, 11, 24)) + packages.check_plan(plan)
    assert [(one.rule, one.severity, one.pointer) for one in found] == []


@pytest.mark.parametrize("name", NAMES)
def test_example_has_every_field_so_hash_matches_server(name: str) -> None:
    assert as_json(example(name)) == document(name)


@pytest.mark.parametrize("name", NAMES)
def test_example_names_demo_account_and_sandbox_broker(name: str) -> None:
    plan = example(name)
    assert (plan.account_id, plan.broker.id, plan.warehouse.id) == ("acc_demo", "br_sandbox", "wh_demo")
    assert plan.approval is not None
    assert plan.approval.expires_at is None
    assert all(unit.invoice.number.startswith("A-") for unit in plan.units)


@pytest.mark.parametrize("name", NAMES)
def test_example_mids_follow_regulation(name: str) -> None:
    for unit in example(name).units:
        for manufacturer in unit.parties.manufacturers:
            assert manufacturer.mid == derive_mid(manufacturer.name, manufacturer.address)


def test_examples_have_different_batches() -> None:
    assert len({example(name).batch_id for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example_packages_are_not_heavier_than_water(name: str) -> None:
    for unit in example(name).units:
        for package in unit.packages:
            litres = package.length_cm * package.width_cm * package.height_cm / 1_000
            assert package.gross_weight_kg < litres, package.package_ref


@pytest.mark.parametrize("name", NAMES)
def test_example_certifications_are_of_the_makers_of_their_goods(name: str) -> None:
    for unit in example(name).units:
        makers = {maker.ref: maker.name for maker in unit.parties.manufacturers}
        for certificate in unit.usmca_certificates:
            made_by = {
                makers[line.manufacturer_ref] for line in unit.lines if line.usmca_certificate_ref == certificate.ref
            }
            assert made_by == {certificate.certifier_name}


def list_plans() -> dict[str, Plan]:
    """Return each example plan by its name, and the commented one."""
    commented = json.loads(strip_comments(COMMENTED_PLAN.read_text(encoding="utf-8")))
    return {name: example(name) for name in NAMES} | {"plan": Plan.model_validate(commented)}


@pytest.mark.parametrize("name", [*NAMES, "plan"])
def test_example_agrees_with_the_table_of_customs(name: str) -> None:
    text = [line for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]
    table = {row["number"]: row for row in csv.DictReader(text)}
    edition = TariffEdition(
        id="ted_1", kind="agency-flags", name="hts_pga_report", source="CBP", effective_from=date(2026, 11, 1),
        content_hash=f"sha256:{'a' * 64}", rows=len(table), numbers=len(table), chapters=[],
    )  # fmt: skip
    for unit in list_plans()[name].units:
        for line in unit.lines:
            row = table[line.hts_code]
            stated = [each.unit for each in line.entry_quantities] or [line.unit]
            assert stated == row["units"].split(), line.line_ref
            flags = [
                NumberFlag(
                    edition_id=edition.id,
                    position=position,
                    number=line.hts_code,
                    flag=code,
                    requirement="",
                    agency=pga_rules().flag_rows(code)[0].agency,
                )
                for position, code in enumerate(row["flags"].split())
            ]
            found = check_flags(line, "", FlagsOnDay(edition, {line.hts_code: flags}), ENTERED, unit.entry.type)
            asked = {each.flag for each in line.treatment.pga} - {each.flag for each in flags}
            assert [each.rule for each in found] == ["H21"] * len(asked), line.line_ref
            # The report is older than the flags of the CPSC.
            assert all((pga_rules().flag_rows(code)[0].effective_from or REPORTED) > REPORTED for code in asked)


def test_cookware_has_melt_and_pour_and_fda_data() -> None:
    (unit,) = example("cookware").units
    assert unit.entry.type == "01"
    for line in unit.lines:
        assert line.hts_code == "7323930045"
        assert [row.heading for row in line.treatment.chapter99] == ["9903.05.90", "9903.82.09"]
        assert [(row.metal, row.country_of_melt_and_pour) for row in line.treatment.section232] == [("steel", "CA")]
        assert [(row.flag, row.processing, row.disclaimer) for row in line.treatment.pga] == [("FD2", "CCW", None)]


def test_truck_has_forty_orders_in_45_cartons_on_three_pallets() -> None:
    (unit,) = example("consolidated-truck").units
    pallets = [package for package in unit.packages if package.type == "PLT"]
    cartons = [package for package in unit.packages if package.type == "CTN"]
    assert (len({line.order_id for line in unit.lines}), len(unit.lines)) == (40, 60)
    assert (len(cartons), len(pallets)) == (45, 3)
    assert all(sscc.is_sscc(pallet.sscc or "") for pallet in pallets)
    assert {carton.parent_ref for carton in cartons} == {pallet.package_ref for pallet in pallets}


def test_truck_mixes_claims_agencies_metals_and_origins() -> None:
    (unit,) = example("consolidated-truck").units
    claimed = [line for line in unit.lines if line.spi == "S"]
    cosmetics = [line for line in unit.lines if line.treatment.pga and line.treatment.pga[0].program == "COS"]
    (aluminum,) = {line.hts_code for line in unit.lines if line.treatment.section232}
    chinese = [line for line in unit.lines if line.country_of_origin == "CN"]
    assert claimed
    assert {line.usmca_certificate_ref for line in claimed} == {"C1", "C2", "C3"}
    assert cosmetics
    assert aluminum == "7615107180"
    assert chinese
    # Goods that are only shipped from Ontario keep their origin and its duties.
    assert {line.country_of_export for line in chinese} == {"CA"}
    assert {row.heading for line in chinese for row in line.treatment.chapter99} == {"9903.88.03", "9903.05.31"}


def test_three_units_differ_in_entry_type_agency_and_currency() -> None:
    store, toys, dollars = example("three-units").units
    assert [unit.entry.type for unit in (store, toys, dollars)] == ["01", "11", "11"]
    assert {tuple(row.processing for row in line.treatment.pga) for line in toys.lines} == {("REF", None)}
    assert [(unit.invoice.currency, str(unit.invoice.exchange_rate)) for unit in (store, toys, dollars)] == [
        ("USD", "None"),
        ("USD", "None"),
        ("CAD", "0.7150"),
    ]
    # Informal entry is only for importers in the United States; an IRS number shows this.
    assert all("-" in unit.parties.importer_of_record.importer_number[:3] for unit in (toys, dollars))


def test_vehicle_part_is_declared_on_form_hs7() -> None:
    (unit,) = example("vehicle-part").units
    answers = [list(flag_answers(unit, line, date(2026, 11, 26))) for line in unit.lines]
    (form,) = build_forms(unit, answers, date(2026, 11, 26))
    (line,) = form.lines
    assert (form.form, line.boxes[1].value) == (
        "HS-7",
        "2A: Conforms, and bears the manufacturer's certification label (591.5(b))",
    )
    assert line.rows == (("Maple Glass", "Windshield 0123", "", "", "2026-10"),)


def test_restricted_goods_have_their_export_permit_and_no_code_of_unrestricted_goods() -> None:
    (unit,) = example("export-permit").units
    side = unit.canadian_export
    assert side is not None
    assert (side.declaration, side.no_declaration_code) == ("not_required", None)
    (permit,) = side.permits
    assert permit.number in (side.statement or "")
    assert permit.expires_on is not None
    assert permit.expires_on >= unit.entry.export_date


def test_goods_for_another_country_are_declared_to_canada() -> None:
    (unit,) = example("warehouse-for-mexico").units
    side = unit.canadian_export
    assert side is not None
    # Goods for consumption in the United States need no declaration; a warehouse entry is not for consumption.
    assert (unit.entry.type, side.declaration, side.no_declaration_code) == ("21", "cers", None)
    assert side.proof_of_report is not None
