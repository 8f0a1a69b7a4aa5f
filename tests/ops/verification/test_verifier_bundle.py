"""A bundle proves itself: an unchanged one passes, a changed byte fails, and the first different line is named."""

import hashlib
import io
import json
import shutil
import zipfile
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from sqlmodel import col, select
from typer.testing import CliRunner, Result

from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.schemas.answers import AcknowledgementBody, NewMessage
from pipeline.deliveries.submissions import broker_answers
from pipeline.documents import bundle
from pipeline.interfaces.cli.main import app
from pipeline.ops.verification.verifier import UnreadableBundle
from pipeline.workflow.conversation import write_message
from tests.customs.transport_cases import canadian_export, trip
from tests.ops.verification.bundles import (
    Bundle,
    execute_to_handoff,
    list_failures,
    open_runtime_with_partners,
    pack_bundle,
)
from tests.ops.verification.conftest import Verify
from tests.support import factories

UNIT = "0001-U1"
JSON = f"{UNIT}/commercial_customs_invoice.json"
CSV = f"{UNIT}/commercial_customs_invoice.csv"
XLSX = f"{UNIT}/commercial_customs_invoice.xlsx"
UBL = f"{UNIT}/commercial_customs_invoice.xml"
PDF = f"{UNIT}/commercial_customs_invoice.pdf"
MERGED = f"{UNIT}/commercial_customs_invoice_consolidated.json"
LIST = f"{UNIT}/packing_list.json"
UNIT_MANIFEST = f"{UNIT}/manifest.json"
MESSAGE, PLAN, MANIFEST = "broker_message.json", "plan.json", "manifest.json"
CONVERSATION = "conversation.json"


def replace_in_workbook(workbook: bytes, member: str, old: bytes, new: bytes) -> bytes:
    """Return the workbook with the first `old` in one member replaced by `new`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            body = archive.read(name)
            if name == member:
                assert old in body
                body = body.replace(old, new, 1)
            changed.writestr(name, body)
    return out.getvalue()


def replace_once(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body
    return body.replace(old, new, 1)


def test_unchanged_bundle_is_intact_in_every_format(raw_bundle: bytes, verify_bytes: Verify) -> None:
    report = verify_bytes(raw_bundle)
    assert (report.intact, report.container, list_failures(report)) == (True, None, {})
    plan = factories.plan(units=2, lines=4)
    assert (report.batch_id, report.plan_hash) == (factories.BATCH, factories.plan_hash(plan))
    checks = {check.path: check for check in report.checks}
    assert {path: checks[path].proof for path in (JSON, CSV, XLSX, UBL, PDF, MESSAGE, PLAN)} == dict.fromkeys(
        (JSON, CSV, XLSX, UBL, PDF, MESSAGE, PLAN), "treatment"
    )
    assert {checks[path].lines for path in (JSON, CSV, XLSX, UBL, PDF, LIST, MERGED, UNIT_MANIFEST)} == {4}
    assert len({checks[path].digest for path in (JSON, CSV, XLSX, UBL, PDF, LIST, MERGED, UNIT_MANIFEST)}) == 1
    assert checks[MESSAGE].digest == checks[PLAN].digest == checks[MANIFEST].digest == report.treatment_digest
    assert checks[MESSAGE].lines == 8


@pytest.mark.system
def test_changed_byte_of_any_member_is_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    for path, body in bundle.members.items():
        middle = len(body) // 2
        changed = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        try:
            report = verify_bytes(bundle.with_({path: changed}))
        except UnreadableBundle:
            assert path in (PLAN, MANIFEST)
            continue
        assert path in list_failures(report), path


def test_first_different_line_is_named_in_every_format(bundle: Bundle, verify_bytes: Verify) -> None:
    heading = (b"9903.82.09", b"9903.82.10")
    says = "/treatment/chapter99/1/heading is 9903.82.10, the plan says 9903.82.09"
    pdf = bundle.with_({JSON: replace_once(bundle[JSON], *heading)})
    for path, changed in {
        JSON: replace_once(bundle[JSON], *heading),
        CSV: replace_once(bundle[CSV], *heading),
        UBL: replace_once(bundle[UBL], *heading),
        XLSX: replace_in_workbook(bundle[XLSX], "xl/sharedStrings.xml", *heading),
    }.items():
        assert list_failures(verify_bytes(bundle.with_({path: changed})))[path] == f"line L1: {says}"
    reported = list_failures(verify_bytes(bundle.with_({MESSAGE: replace_once(bundle[MESSAGE], *heading)})))
    assert reported[MESSAGE] == f"unit U1: line L1: {says}"
    # The PDF carries the original JSON: its attachment still agrees with the plan, beside the changed JSON file.
    assert (
        list_failures(verify_bytes(pdf))[PDF]
        == "the commercial_customs_invoice.json inside differs from the one beside it"
    )


def test_plan_with_another_treatment_fails_all_members(bundle: Bundle, verify_bytes: Verify) -> None:
    plan = replace_once(bundle[PLAN], b'"metalWeightKg":"3.200"', b'"metalWeightKg":"3.201"')
    report = verify_bytes(bundle.with_({PLAN: plan}))
    found = list_failures(report)
    assert {JSON, CSV, XLSX, UBL, PDF, LIST, MERGED, UNIT_MANIFEST, MESSAGE, PLAN, MANIFEST} <= found.keys()
    says = "line L1: /treatment/section232/0/metalWeightKg is 3.200, the plan says 3.201"
    assert {found[path] for path in (JSON, CSV, XLSX, UBL, PDF)} == {says}


def test_ubl_with_other_code_than_its_extension_fails(bundle: Bundle, verify_bytes: Verify) -> None:
    code = b'<cbc:ItemClassificationCode listID="HTSUS">7323930045<'
    changed = replace_once(bundle[UBL], code, code.replace(b"7323930045", b"7323930060"))
    assert list_failures(verify_bytes(bundle.with_({UBL: changed})))[UBL] == (
        "line L1: UBL says 7323930060 of CA, its extension says otherwise"
    )


@pytest.mark.parametrize("path", [LIST, UNIT_MANIFEST])
def test_stated_digest_is_compared_with_the_plan(bundle: Bundle, verify_bytes: Verify, path: str) -> None:
    digest = json.loads(bundle[path])["lines"][2]["treatmentDigest"]
    other = "sha256:" + "0" * 64
    changed = bundle[path].replace(digest.encode(), other.encode(), 1)
    assert list_failures(verify_bytes(bundle.with_({path: changed})))[path] == (
        f"line L3: its treatment digest says {other[:60]}..., the plan's is {digest}"
    )


def test_missing_or_added_line_is_named(bundle: Bundle, verify_bytes: Verify) -> None:
    invoice = json.loads(bundle[JSON])
    last = invoice["lines"].pop()
    shorter = json.dumps(invoice).encode()
    assert list_failures(verify_bytes(bundle.with_({JSON: shorter})))[JSON] == "line L4 (number 4) is missing"
    invoice["lines"] += [last, last | {"lineRef": "L5"}]
    longer = json.dumps(invoice).encode()
    assert list_failures(verify_bytes(bundle.with_({JSON: longer})))[JSON] == "line L5 (number 5) is not in the plan"


def test_missing_or_unnamed_document_is_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    assert list_failures(verify_bytes(bundle.with_({XLSX: None})))[XLSX] == "it is missing"
    assert list_failures(verify_bytes(bundle.with_({f"{UNIT}/more.txt": b"x"})))[f"{UNIT}/more.txt"] == (
        "neither a unit nor the message names it"
    )
    assert list_failures(verify_bytes(bundle.with_({MESSAGE: None})))[MESSAGE] == "it is missing"
    manifest = json.loads(bundle[UNIT_MANIFEST])
    manifest["documents"] = [each for each in manifest["documents"] if each["artifactType"] != "cci_csv"]
    found = list_failures(verify_bytes(bundle.with_({UNIT_MANIFEST: json.dumps(manifest).encode(), CSV: None})))
    assert found[UNIT_MANIFEST] == "it does not list cci_csv"


def test_changed_manifest_is_reported_even_if_its_list_is_right(bundle: Bundle, verify_bytes: Verify) -> None:
    changed = replace_once(bundle[MANIFEST], b'"revision": 1', b'"revision": 2')
    assert list_failures(verify_bytes(bundle.with_({MANIFEST: changed}))) == {
        MANIFEST: "it differs from the manifest built from plan, message and documents"
    }


@pytest.mark.system
def test_large_export_with_linked_lines_is_verified_by_documents(
    sqlite_url: str, tmp_path: Path, verify_bytes: Verify
) -> None:
    with closing(open_runtime_with_partners(sqlite_url, tmp_path)) as runtime:
        report = verify_bytes(pack_bundle(runtime, execute_to_handoff(runtime, factories.plan(lines=501, packages=4))))
    assert (report.container, list_failures(report)) == (None, {})
    checks = {check.path: check for check in report.checks}
    assert (checks[MESSAGE].proof, checks[XLSX].lines, checks[PDF].lines) == ("digests", 501, 501)


def test_same_plan_gives_same_bytes_except_export_ids_and_conversation(
    sqlite_template: Path, tmp_path: Path, raw_bundle: bytes, verify_bytes: Verify
) -> None:
    url = f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'exports.db')}"
    with closing(open_runtime_with_partners(url, tmp_path)) as runtime:
        export_id = execute_to_handoff(runtime, factories.plan(units=2, lines=4))
        first, second = pack_bundle(runtime, export_id), pack_bundle(runtime, export_id)
        with runtime.db.read() as session:
            submission_id = session.scalars(select(col(BrokerSubmission.id))).one()
        question = AcknowledgementBody(id="a-1", status="query", message="Of what?")
        broker_answers.receive_answer(runtime, submission_id, question, "partner:br")
        write_message(runtime, factories.ACCOUNT, export_id, NewMessage(id="m-1", text="Steel."), "key_1")
        told = Bundle.from_zip(pack_bundle(runtime, export_id))
    assert first == second
    # The export's ids are in the message, and the message's hash is in the manifest; all else comes from the plan.
    one, other = Bundle.from_zip(first).members, Bundle.from_zip(raw_bundle).members
    assert {path for path in one if one[path] != other[path]} == {MESSAGE, MANIFEST}
    assert [each["text"] for each in json.loads(told[CONVERSATION])["items"]] == ["Of what?", "Steel."]
    assert list_failures(verify_bytes(told.with_({}))) == {}
    changed = replace_once(told[CONVERSATION], b"Steel.", b"Iron..")
    assert list_failures(verify_bytes(told.with_({CONVERSATION: changed}))).keys() == {CONVERSATION, MANIFEST}
    assert list_failures(verify_bytes(told.with_({CONVERSATION: b"[]"}))).keys() >= {CONVERSATION}


#: SHA-256 of a bundle with fixed members, the same with every Python and every zlib.
GOLDEN = "2ca7d34d65dfa2a7de201c943e2025203e74ad2b51d6aa741fb13ad07c64afd6"


def test_zip_members_gives_the_golden_bytes() -> None:
    bodies = {"0001-U1/a.json": b"{}\n", "broker_message.json": b"[]", "plan.json": "{é}".encode()}
    members = [bundle.bundle_member(path, body) for path, body in bodies.items()]
    about = bundle.BundleInfo(
        export_id="exp_1", account_id="acc_1", batch_id="batch_1", revision=1, test=False, plan_hash="sha256:1",
        treatment_digest="sha256:2", ruleset_id="us-1", ruleset_as_of=date(2026, 11, 24),
        units=[bundle.BundledUnit("U1", bundle.unit_folder(1, "U1"), "sha256:3")],
    )  # fmt: skip
    bodies["manifest.json"] = bundle.bundle_manifest(about, members)
    members.insert(2, bundle.bundle_member("manifest.json", bodies["manifest.json"]))
    raw = b"".join(bundle.zip_members(members, lambda member: bodies[member.path]))
    assert hashlib.sha256(raw).hexdigest() == GOLDEN


def test_bundle_of_a_truck_with_crew_is_intact(sqlite_template: Path, tmp_path: Path, verify_bytes: Verify) -> None:
    plan = factories.plan()
    plan["units"][0]["entry"]["trip"] = trip()
    plan["units"][0]["canadianExport"] = canadian_export()
    runtime = open_runtime_with_partners(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'exports.db')}", tmp_path)
    with closing(runtime):
        raw = pack_bundle(runtime, execute_to_handoff(runtime, plan))
    assert list_failures(verify_bytes(raw)) == {}
    members = Bundle.from_zip(raw).members
    personal = {path for path, body in members.items() if b"1961-02-03" in body}
    assert {path.rpartition("/")[2] for path in personal} == {"plan.json", "truck_manifest.zip"}


@pytest.fixture
def scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder without service or database; the settings name a server that does not exist."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/none")
    monkeypatch.setenv("EXPORTS_API_URL", "http://127.0.0.1:9")
    return tmp_path


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["verify", str(path), *options], catch_exceptions=False)


def test_verify_prints_intact_bundle_file_by_file(scratch_folder: Path, raw_bundle: bytes) -> None:
    path = scratch_folder / "bundle.zip"
    path.write_bytes(raw_bundle)
    result = run(path)
    assert result.exit_code == 0, result.output
    assert f"✓ the bundle is intact: batch {factories.BATCH}" in result.stdout
    assert "✗" not in result.stdout
    for name in ("plan.json", "broker_message.json", "manifest.json", "0002-U2/commercial_customs_invoice.pdf"):
        assert name in result.stdout
    report = json.loads(run(path, "--json").stdout)
    assert report["intact"] is True
    assert {check["failure"] for check in report["checks"]} == {None}
    assert report["planHash"] == factories.plan_hash(factories.plan(units=2, lines=4))


def test_verify_names_the_change_and_exits_with_an_error(scratch_folder: Path, bundle: Bundle) -> None:
    path = scratch_folder / "bundle.zip"
    name = "0001-U1/commercial_customs_invoice.csv"
    path.write_bytes(bundle.with_({name: bundle[name].replace(b",CA,", b",MX,", 1)}))
    result = run(path)
    assert result.exit_code == 1
    assert "line L1: /countryOfOrigin is MX, the plan says CA" in result.stdout
    report = json.loads(run(path, "--json").stdout)
    assert [check["path"] for check in report["checks"] if check["failure"]] == [
        name,
        "broker_message.json",
        "manifest.json",
    ]
    assert report["intact"] is False


def test_verify_exit_codes_for_invalid_and_missing_file(scratch_folder: Path) -> None:
    path = scratch_folder / "bundle.zip"
    assert run(path).exit_code == 3
    path.write_bytes(b"not a zip")
    result = run(path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["message"].startswith(f"{path} is not a bundle: it is not a zip file")


PROFILE = json.loads((Path(__file__).resolve().parents[3] / "examples" / "profiles" / "entry-import.json").read_text())
FILE = "0001-U1/entry_import.csv"


def test_changed_profile_document_is_reported(sqlite_url: str, tmp_path: Path, verify_bytes: Verify) -> None:
    # The broker receives no other document; its profile says that it wants this one.
    broker = {"profile": PROFILE, "artifactTypes": ["cci_pdf"]}
    with closing(open_runtime_with_partners(sqlite_url, tmp_path, broker)) as runtime:
        raw = pack_bundle(runtime, execute_to_handoff(runtime, factories.plan()))
    report = verify_bytes(raw)
    assert report.intact, report
    kinds = {check.path: check.artifact_type for check in report.checks}
    assert kinds[FILE] == "broker_profile"
    bundle = Bundle.from_zip(raw)
    artifacts = json.loads(bundle["broker_message.json"])["data"]["units"][0]["artifacts"]
    assert [link["artifactType"] for link in artifacts] == ["cci_pdf", "broker_profile"]
    changed = verify_bytes(bundle.with_({FILE: bundle[FILE].replace(b"PCS", b"DOZ", 1)}))
    assert {check.path for check in changed.checks if check.failure} == {FILE, "broker_message.json", "manifest.json"}
