"""The whole handoff of an export as one zip, made while it is sent: the same documents, the same bytes."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session, col, select
from typing_extensions import Buffer

from pipeline.artifacts import ArtifactStore
from pipeline.errors import InvalidState
from pipeline.models import Artifact, Export, ExportUnit

#: The earliest moment that a zip can name: the bytes tell nothing of when they were packed.
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)
_READABLE_BY_ALL: Final = 0o100644 << 16
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Member:
    """One document and its place in the zip."""

    path: str
    sha256: str


def members(session: Session, export: Export) -> list[Member]:
    """Return the documents of the export, a folder for each unit, by name.

    Raises InvalidState until every customs package is closed.
    """
    if export.units_closed < export.units_total:
        raise InvalidState(
            f"{export.units_closed} of {export.units_total} customs packages are closed; the bundle is whole when all are"
        )
    rows = session.execute(
        select(Artifact.unit_no, ExportUnit.unit_ref, Artifact.filename, Artifact.sha256)
        .join(
            ExportUnit,
            (col(ExportUnit.export_id) == col(Artifact.export_id)) & (col(ExportUnit.unit_no) == col(Artifact.unit_no)),
        )
        .where(col(Artifact.export_id) == export.id)
    ).all()
    return sorted(
        (
            Member(f"{unit_no:04d}-{safe(unit_ref)}/{safe(filename)}", sha256)
            for unit_no, unit_ref, filename, sha256 in rows
        ),
        key=lambda member: member.path,
    )


def digest(packed: Sequence[Member]) -> str:
    """Return what tells one bundle from another, in hex."""
    return hashlib.sha256("\n".join(f"{m.sha256} {m.path}" for m in packed).encode()).hexdigest()


def stream(store: ArtifactStore, packed: Sequence[Member]) -> Iterator[bytes]:
    """Yield the zip, one document in memory at a time.

    Documents are stored as they are: what a deflater makes of them depends on the library of the machine.
    """
    out = _Outlet()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for member in packed:
            info = zipfile.ZipInfo(member.path, _MOMENT)
            info.create_system = 3
            info.external_attr = _READABLE_BY_ALL
            archive.writestr(info, store.get(member.sha256))
            yield out.taken()
    yield out.taken()


def safe(name: str) -> str:
    """Return `name` as a file name that no system misreads."""
    return _UNSAFE.sub("-", name).strip(".-") or "unnamed"


class _Outlet(io.RawIOBase):
    """A file that can only be written; what was written is taken away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Buffer, /) -> int:
        self._parts.append(bytes(part))
        return len(self._parts[-1])

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole
