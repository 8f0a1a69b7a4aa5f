"""A changed bundle with corrected hashes: only the contents of the formats reveal the change."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.ops.verification.bundles import Bundle, list_failures
from tests.ops.verification.conftest import Verify

UNIT = "0001-U1"
CSV = f"{UNIT}/commercial_customs_invoice.csv"
UNIT_MANIFEST, MESSAGE, MANIFEST = f"{UNIT}/manifest.json", "broker_message.json", "manifest.json"

Change = Callable[[bytes], bytes]


def forge_bundle(bundle: Bundle, changes: Mapping[str, bytes]) -> bytes:
    """Return the zip with these changed members, and with their new hashes wherever another member names them.

    A change keeps the size of its member; if the manifest states the size, the new size is written there.
    """
    bodies = {**bundle.members, **changes}
    for path in [*sorted(changes), UNIT_MANIFEST, MESSAGE]:
        if bodies[path] != bundle[path]:
            was, now = (hashlib.sha256(body).hexdigest().encode() for body in (bundle[path], bodies[path]))
            size, resized = (
                f'"path": "{path}",\n   "size": {len(body)},'.encode() for body in (bundle[path], bodies[path])
            )
            for other in (UNIT_MANIFEST, MESSAGE, MANIFEST):
                bodies[other] = bodies[other].replace(was, now).replace(size, resized)
    return bundle.with_(bodies)


def heading(body: bytes) -> bytes:
    assert b"9903.82.09" in body
    return body.replace(b"9903.82.09", b"9903.82.10", 1)


def heading_of_workbook(body: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            part = archive.read(name)
            changed.writestr(name, heading(part) if name == "xl/sharedStrings.xml" else part)
    return out.getvalue()


def test_forge_bundle_without_change_gives_an_intact_bundle(bundle: Bundle, verify_bytes: Verify) -> None:
    assert verify_bytes(forge_bundle(bundle, {})).intact


@pytest.mark.parametrize(
    ("filename", "change"),
    [
        ("commercial_customs_invoice.csv", heading),
        ("commercial_customs_invoice.json", heading),
        ("commercial_customs_invoice.xml", heading),
        ("commercial_customs_invoice.xlsx", heading_of_workbook),
        ("commercial_customs_invoice_consolidated.json", heading),
    ],
)
def test_forged_document_is_revealed_only_by_its_line(
    bundle: Bundle, verify_bytes: Verify, filename: str, change: Change
) -> None:
    path = f"{UNIT}/{filename}"
    report = verify_bytes(forge_bundle(bundle, {path: change(bundle[path])}))
    says = "line L1: /treatment/chapter99/1/heading is 9903.82.10, the plan says 9903.82.09"
    expected = {path: says}
    if "consolidated" in filename:
        expected = {path: says.replace("L1:", "L1, merged:")}
    elif filename.endswith(".json"):
        pdf = path.replace(".json", ".pdf")
        expected[pdf] = "the commercial_customs_invoice.json inside differs from the one beside it"
    assert (report.container, list_failures(report)) == (None, expected)


def test_merged_lines_are_compared_with_their_lines(bundle: Bundle, verify_bytes: Verify) -> None:
    path = f"{UNIT}/commercial_customs_invoice_consolidated.json"
    rows = json.loads(bundle[path])["consolidation"]["lines"]
    assert [row["lineRefs"] for row in rows] == [["L1", "L4"], ["L2"], ["L3"]]
    forgeries: dict[str, Callable[[dict[str, Any]], None]] = {
        "line L1, merged: /treatment/section232/0/metalWeightKg is 6.401, the plan says 6.400": lambda content: content[
            "consolidation"
        ]["lines"][0]["treatment"]["section232"][0].update(metalWeightKg="6.401"),
        "line L2, merged: /countryOfOrigin is CN, the plan says CA": lambda content: content["consolidation"]["lines"][
            1
        ].update(countryOfOrigin="CN"),
        "line L2, merged: /htsCode is 7323930045, the plan says 6105100010": merge_different_lines,
        "/consolidation/lines/2/treatment/pga is not valid in a treatment": lambda content: content["consolidation"][
            "lines"
        ][2]["treatment"].update(pga=7),
    }
    for says, forge in forgeries.items():
        content = json.loads(bundle[path])
        forge(content)
        changed = json.dumps(content, ensure_ascii=False).encode()
        assert list_failures(verify_bytes(forge_bundle(bundle, {path: changed}))) == {path: says}


def merge_different_lines(content: dict[str, Any]) -> None:
    """Merge the second line into the row of the first and fourth, as if all were declared alike."""
    first, second, _ = content["consolidation"]["lines"]
    for name in ("lineNumbers", "lineRefs", "treatmentDigests"):
        first[name] += second[name]
    content["consolidation"]["lines"].remove(second)


def test_forged_message_with_another_treatment_is_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    found = list_failures(verify_bytes(forge_bundle(bundle, {MESSAGE: heading(bundle[MESSAGE])})))
    assert found == {
        MESSAGE: "unit U1: line L1: /treatment/chapter99/1/heading is 9903.82.10, the plan says 9903.82.09"
    }


def test_document_listed_as_another_kind_is_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    listed = json.loads(bundle[UNIT_MANIFEST])
    for entry in listed["documents"]:
        if entry["artifactType"] == "cci_csv":
            entry["artifactType"] = "cci_human_readable"
    changes = {UNIT_MANIFEST: json.dumps(listed).encode(), CSV: heading(bundle[CSV])}
    found = list_failures(verify_bytes(forge_bundle(bundle, changes)))
    assert found[UNIT_MANIFEST] == "it does not list cci_csv"
    assert found[CSV] == "it is not the file of the document kind cci_human_readable"


def test_document_listed_as_profile_document_too_is_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    content = json.loads(bundle[MESSAGE])
    (link,) = (each for each in content["data"]["units"][0]["artifacts"] if each["artifactType"] == "cci_csv")
    content["data"]["units"][0]["artifacts"].append(link | {"artifactType": "broker_profile"})
    changes = {MESSAGE: json.dumps(content).encode(), CSV: heading(bundle[CSV])}
    assert list_failures(verify_bytes(forge_bundle(bundle, changes)))[CSV] == "it is listed twice"
