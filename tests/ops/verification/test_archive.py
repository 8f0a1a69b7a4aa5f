"""The zip itself: changes, hidden data and other packing are reported."""

import io
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.documents import bundle as document_bundle
from pipeline.ops.verification.archive import open_archive
from pipeline.ops.verification.verifier import UnreadableBundle
from tests.ops.verification.bundles import (
    Bundle,
    execute_to_handoff,
    list_failures,
    open_runtime_with_partners,
    pack_bundle,
)
from tests.ops.verification.conftest import Verify
from tests.support import factories

CSV = "0001-U1/commercial_customs_invoice.csv"
PDF = "0001-U1/commercial_customs_invoice.pdf"
PLAN = "plan.json"


def list_infos(raw: bytes) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return archive.infolist()


def find_offset(raw: bytes, path: str) -> range:
    """Return the offsets of the member's bytes in the zip."""
    (info,) = (info for info in list_infos(raw) if info.filename == path)
    start = info.header_offset + 30 + len(path)
    return range(start, start + info.file_size)


def flip_bits(raw: bytes, at: int, bits: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ bits]) + raw[at + 1 :]


def test_change_of_any_byte_of_a_zip_is_reported(tmp_path: Path) -> None:
    """In headers, directory, ends and bodies: either other contents are read, or the zip differs from the packed one."""
    bodies = {"0001-U1/a.json": b"{}\n", "broker_message.json": b"[]", "manifest.json": b"{}", PLAN: b"{}"}
    members = [document_bundle.bundle_member(path, body) for path, body in bodies.items()]
    raw = b"".join(document_bundle.zip_members(members, lambda member: bodies[member.path]))
    path = tmp_path / "bundle.zip"

    def is_reported(changed: bytes) -> bool:
        path.write_bytes(changed)
        try:
            with open_archive(path) as archive:
                found = sorted(
                    (document_bundle.bundle_member(each, archive.read(each)) for each in archive.paths),
                    key=lambda each: each.path,
                )
                return found != members or archive.find_packing_difference(found) is not None
        except UnreadableBundle:
            return True

    assert not is_reported(raw)
    assert [
        at for at in range(len(raw)) for bits in (1, 0x20, 0x80, 0xFF) if not is_reported(flip_bits(raw, at, bits))
    ] == []
    assert [at for at in range(len(raw)) if not is_reported(raw[:at])] == []
    assert [at for at in range(len(raw) + 1) if not is_reported(raw[:at] + b"\0" + raw[at:])] == []


@pytest.mark.system
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_changed_byte_is_reported_for_its_member(raw_bundle: bytes, verify_bytes: Verify, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([info.filename for info in list_infos(raw_bundle)]))
    at = data.draw(st.sampled_from(find_offset(raw_bundle, path)))
    changed = flip_bits(raw_bundle, at, data.draw(st.integers(1, 255)))
    try:
        report = verify_bytes(changed)
    except UnreadableBundle as error:
        # Without a readable plan, no other member can be compared.
        assert str(error).startswith(PLAN)  # noqa: PT017 - not every change makes a plan unreadable
        assert path == PLAN
        return
    assert path in list_failures(report)
    assert (report.container or "").startswith("the zip differs from the packed bundle from byte")


def test_changed_line_is_named_despite_old_checksum(raw_bundle: bytes, verify_bytes: Verify) -> None:
    within = find_offset(raw_bundle, CSV)
    at = raw_bundle.index(b"9903.82.09", within.start, within.stop) + 9
    report = verify_bytes(flip_bits(raw_bundle, at, ord("9") ^ ord("8")))
    says = "line L1: /treatment/chapter99/1/heading is 9903.82.08, the plan says 9903.82.09"
    assert list_failures(report)[CSV] == says
    header = within.start - 30 - len(CSV)
    assert report.container == f"the zip differs from the packed bundle from byte {header + 14} on"


def repack(raw: bytes, change: Callable[[zipfile.ZipInfo], None], **options: int) -> bytes:
    """Return the zip with the same members, packed by another program."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive, zipfile.ZipFile(out, "w") as again:
        for info in archive.infolist():
            body = archive.read(info)
            change(info)
            again.writestr(info, body, **options)
    return out.getvalue()


def keep_member(info: zipfile.ZipInfo) -> None:
    """Leave the member unchanged."""


def test_zip_packed_the_same_by_another_program_is_equal(raw_bundle: bytes) -> None:
    assert repack(raw_bundle, keep_member) == raw_bundle


def test_members_can_be_unpacked_as_a_stream(raw_bundle: bytes, bundle: Bundle) -> None:
    """Stream readers have no directory, so size and checksum come before the bytes."""
    at = 0
    for path, body in bundle.members.items():
        flags, method = struct.unpack_from("<HH", raw_bundle, at + 6)
        checksum, size, full, name, extra = struct.unpack_from("<IIIHH", raw_bundle, at + 14)
        at += 30
        assert raw_bundle[at : at + name] == path.encode()
        assert (flags, method, checksum, size, full, extra) == (0, 0, zlib.crc32(body), len(body), len(body), 0)
        at += name + size
    assert raw_bundle[at:].startswith(b"PK\1\2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("date_time", (2026, 11, 24, 0, 0, 0)),
        ("external_attr", 0o100755 << 16),
        ("internal_attr", 1),
        ("create_system", 0),
        ("create_version", 63),
        ("extract_version", 45),
        ("comment", b"see elsewhere"),
        ("extra", b"\xfe\xca\0\0"),
    ],
)
def test_changed_zip_metadata_of_a_member_is_reported(
    raw_bundle: bytes, verify_bytes: Verify, name: str, value: object
) -> None:
    report = verify_bytes(repack(raw_bundle, lambda info: setattr(info, name, value)))
    assert list_failures(report) == {}
    assert (report.container or "").startswith("the zip differs from the packed bundle from byte")


def test_compressed_member_is_refused(raw_bundle: bytes, verify_bytes: Verify) -> None:
    with pytest.raises(UnreadableBundle, match="a member is compressed"):
        verify_bytes(repack(raw_bundle, keep_member, compress_type=zipfile.ZIP_DEFLATED))


def test_data_before_after_or_between_members_is_reported(raw_bundle: bytes, verify_bytes: Verify) -> None:
    end = len(raw_bundle)
    assert verify_bytes(raw_bundle + b"\0").container == f"the zip has data after byte {end}, the end of the bundle"
    assert verify_bytes(b"#!" + raw_bundle).container == "the zip differs from the packed bundle from byte 0 on"
    commented = raw_bundle[:-2] + (4).to_bytes(2, "little") + b"note"
    assert verify_bytes(commented).container == f"the zip differs from the packed bundle from byte {end - 2} on"
    # Bytes after the first member that the directory does not name; all later offsets are corrected.
    first, *others = list_infos(raw_bundle)
    at = others[0].header_offset
    hidden = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw_bundle)) as archive, zipfile.ZipFile(hidden, "w") as again:
        again.writestr(first, archive.read(first))
        hidden.seek(again.start_dir)
        hidden.write(b"hidden")
        again.start_dir = hidden.tell()
        for info in others:
            again.writestr(info, archive.read(info.filename))
    report = verify_bytes(hidden.getvalue())
    assert (list_failures(report), report.container) == (
        {},
        f"the zip differs from the packed bundle from byte {at} on",
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("last", [True, False])
def test_two_members_with_one_name_are_refused(bundle: Bundle, verify_bytes: Verify, last: bool) -> None:  # noqa: FBT001
    out = io.BytesIO()
    added = (CSV, b"line_ref\r\n")
    with zipfile.ZipFile(out, "w") as archive:
        for path, body in [*([] if last else [added]), *bundle.members.items(), *([added] if last else [])]:
            archive.writestr(zipfile.ZipInfo(path), body)
    with pytest.raises(UnreadableBundle, match="two members have the same name"):
        verify_bytes(out.getvalue())


def test_members_in_another_order_are_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    members = [document_bundle.bundle_member(path, body) for path, body in [*bundle.members.items()][::-1]]
    report = verify_bytes(b"".join(document_bundle.zip_members(members, lambda member: bundle[member.path])))
    assert list_failures(report) == {}
    assert (report.container or "").startswith("the zip differs from the packed bundle from byte")


@pytest.mark.parametrize(
    "name", ["../evil.sh", "/etc/passwd", "0001-U1/", "0003-U3/plan.json", "manifest.json.bak", "C:x"]
)
def test_extra_member_is_reported(bundle: Bundle, verify_bytes: Verify, name: str) -> None:
    assert list_failures(verify_bytes(bundle.with_({name: b"x"})))[name] == "neither a unit nor the message names it"


def test_renamed_member_is_reported_by_both_names(raw_bundle: bytes, verify_bytes: Verify) -> None:
    other = CSV.replace("invoice", "Invoice")
    found = list_failures(verify_bytes(raw_bundle.replace(CSV.encode(), other.encode())))
    assert (found[CSV], found[other]) == ("it is missing", "neither a unit nor the message names it")


@pytest.mark.system
def test_swapped_documents_of_two_units_are_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    for path in [path for path in bundle.members if path.startswith("0001-U1/")]:
        other = path.replace("0001-U1", "0002-U2")
        if bundle[path] == bundle[other]:
            continue
        found = list_failures(verify_bytes(bundle.with_({path: bundle[other], other: bundle[path]})))
        assert {path, other} <= found.keys(), path


def test_pdf_with_json_of_another_unit_is_reported(bundle: Bundle, verify_bytes: Verify) -> None:
    found = list_failures(verify_bytes(bundle.with_({PDF: bundle[PDF.replace("0001-U1", "0002-U2")]})))
    assert found[PDF] == "the commercial_customs_invoice.json inside differs from the one beside it"


@pytest.fixture(scope="module")
def other(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """Yield the bundle of another batch of the same goods."""
    folder = tmp_path_factory.mktemp("other")
    runtime = open_runtime_with_partners(f"sqlite:///{shutil.copy(sqlite_template, folder / 'exports.db')}", folder)
    plan = factories.plan(units=2, lines=4, batch="batch_other", invoice="B")
    with closing(runtime):
        yield Bundle.from_zip(pack_bundle(runtime, execute_to_handoff(runtime, plan)))


@pytest.mark.system
def test_members_of_another_bundle_are_reported(bundle: Bundle, other: Bundle, verify_bytes: Verify) -> None:
    assert bundle.members.keys() == other.members.keys()
    for path in bundle.members:
        assert path in list_failures(verify_bytes(bundle.with_({path: other[path]}))), path
    # A whole unit of the other bundle, then everything about the unit except the plan.
    unit = {path: other[path] for path in bundle.members if path.startswith("0001-U1/")}
    assert {"broker_message.json", "manifest.json"} <= list_failures(verify_bytes(bundle.with_(unit))).keys()
    swapped = bundle.with_({**unit, **{path: other[path] for path in ("broker_message.json", "manifest.json")}})
    assert {"broker_message.json", "manifest.json"} <= list_failures(verify_bytes(swapped)).keys()


def test_changed_bundle_with_corrected_checksums_is_reported(raw_bundle: bytes, verify_bytes: Verify) -> None:
    within = find_offset(raw_bundle, CSV)
    changed = flip_bits(raw_bundle, within.stop - 3, 1)
    before, after = (zlib.crc32(raw[within.start : within.stop]).to_bytes(4, "little") for raw in (raw_bundle, changed))
    report = verify_bytes(changed.replace(before, after))
    assert report.container is None
    assert CSV in list_failures(report)
