"""The bundle as bytes: its members, its manifest, and a zip whose bytes depend only on the members."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

#: The members outside the folders of the units.
PLAN, MESSAGE, CONVERSATION, MANIFEST = "plan.json", "broker_message.json", "conversation.json", "manifest.json"

#: The folder of the conversation's files.
FILES: Final = "conversation"

#: The earliest time that a zip can hold; a fixed time keeps the bytes independent of the time of packing.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_READABLE_BY_ALL: Final = 0o100644 << 16
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class BundleMember:
    """One file of the bundle: its path, its size, and its SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BundledUnit:
    """A unit of the plan, the folder of its documents, and its treatment digest."""

    unit_ref: str
    folder: str
    treatment_digest: str


@dataclass(frozen=True)
class BundleInfo:
    """The facts of the export in the manifest; the plan or the message to the broker also has each of them."""

    export_id: str
    account_id: str
    batch_id: str
    revision: int
    test: bool
    plan_hash: str
    treatment_digest: str
    ruleset_id: str
    ruleset_as_of: date
    units: Sequence[BundledUnit]


def bundle_member(path: str, body: bytes) -> BundleMember:
    """Return the member at `path` with the content `body`."""
    return BundleMember(path, len(body), hashlib.sha256(body).hexdigest())


def unit_folder(unit_no: int, unit_ref: str) -> str:
    """Return the name of the folder of a unit's documents."""
    return f"{unit_no:04d}-{safe_filename(unit_ref)}"


def file_path(file_id: str, filename: str) -> str:
    """Return the path of a file of the conversation."""
    return f"{FILES}/{file_id}/{safe_filename(filename)}"


def bundle_manifest(info: BundleInfo, members: Iterable[BundleMember]) -> bytes:
    """Return the manifest of the bundle as UTF-8 JSON: the export's facts, and every other member with size and SHA-256."""
    content = {
        "schemaVersion": "1",
        "exportId": info.export_id,
        "accountId": info.account_id,
        "batchId": info.batch_id,
        "revision": info.revision,
        "test": info.test,
        "planHash": info.plan_hash,
        "treatmentDigest": info.treatment_digest,
        "ruleset": {"id": info.ruleset_id, "asOf": info.ruleset_as_of.isoformat()},
        "units": [
            {"unitRef": unit.unit_ref, "folder": unit.folder, "treatmentDigest": unit.treatment_digest}
            for unit in info.units
        ],
        "members": [
            {"path": each.path, "size": each.size, "sha256": each.sha256}
            for each in sorted(members, key=lambda each: each.path)
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"


def zip_members(members: Iterable[BundleMember], read: Callable[[BundleMember], bytes]) -> Iterator[bytes]:
    """Yield the zip of `members` in their order, with only one of them in memory at a time.

    Members are stored uncompressed: compressed bytes would depend on the library of the machine.
    """
    out = _StreamBuffer()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for each in members:
            info = zipfile.ZipInfo(each.path, _EPOCH)
            info.create_system = 3
            info.external_attr = _READABLE_BY_ALL
            archive.writestr(info, read(each))
            yield out.take()
    yield out.take()


def safe_filename(name: str) -> str:
    """Return `name` as a file name that is safe on every system."""
    return _UNSAFE.sub("-", name).strip(".-") or "unnamed"


class _StreamBuffer(io.BytesIO):
    """An output file whose finished bytes are taken out as a stream; offsets count from the start of the whole file.

    The zip writer can seek back in bytes that are not yet taken. So it writes size and checksum of a member before it.
    Otherwise they would follow the member, and a streaming reader could not find the end of an uncompressed member.
    """

    def __init__(self) -> None:
        super().__init__()
        self._taken_bytes = 0

    def tell(self) -> int:
        return self._taken_bytes + super().tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._taken_bytes + super().seek(offset - self._taken_bytes if whence == io.SEEK_SET else offset, whence)

    def take(self) -> bytes:
        """Return the bytes that were written since the last call."""
        whole = self.getvalue()
        self._taken_bytes += len(whole)
        super().seek(0)
        self.truncate()
        return whole
