"""A bundle from an untrusted source: safely opened, its members read one at a time."""

import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.documents.bundle import MANIFEST, BundleMember, zip_members
from pipeline.ops.verification.treatment import UnreadableBundle

MAX_MEMBERS: Final = 100_000
_ZIP_ERRORS: Final = (zipfile.BadZipFile, EOFError, NotImplementedError, KeyError, ValueError, RuntimeError, OSError)

#: The header before a member's bytes: signature, 22 bytes that the directory repeats, lengths of name and extra field.
_HEADER: Final = struct.Struct("<4s22xHH")


class Archive:
    """The members of an opened bundle, by path."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self._file = file
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise UnreadableBundle(f"it has {len(infos)} members; a bundle has at most {MAX_MEMBERS}")
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise UnreadableBundle("two members have the same name")
        # Members are stored uncompressed and side by side, so the size of the file limits what is read.
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise UnreadableBundle("a member is compressed or encrypted; members of a bundle are neither")
        if any(info.header_offset < 0 for info in infos):
            raise UnreadableBundle("the offset of a member is before the start of the file")
        if sum(info.file_size for info in infos) > file.seek(0, os.SEEK_END):
            raise UnreadableBundle("its members are larger than the file")
        self.paths: tuple[str, ...] = tuple(self._infos)

    def read(self, path: str) -> bytes:
        """Return the member's bytes without checking their checksum; the readers report what changed.

        Raises UnreadableBundle if the member is missing or damaged.
        """
        info = self._infos.get(path)
        if info is None:
            raise UnreadableBundle("it is missing")
        self._file.seek(info.header_offset)
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
            raise UnreadableBundle("it is not at the offset that the zip states")
        _, name, extra = _HEADER.unpack(header)
        self._file.seek(name + extra, os.SEEK_CUR)
        return self._file.read(info.file_size)

    def find_packing_difference(self, members: Sequence[BundleMember]) -> str | None:
        """Return how the file differs from the zip built from its own members, as a sentence; None if they are equal.

        This detects data between, behind or before the members, and changed zip metadata.
        """
        at = 0
        for part in zip_members(members, lambda member: self.read(member.path)):
            self._file.seek(at)
            found = self._file.read(len(part))
            if found != part:
                equal_bytes = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(found, part, strict=False)))
                return f"the zip differs from the packed bundle from byte {at + equal_bytes} on"
            at += len(part)
        return f"the zip has data after byte {at}, the end of the bundle" if self._file.read(1) else None


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the bundle at `path`.

    Raises UnreadableBundle if it is not a bundle, and OSError if the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except _ZIP_ERRORS as error:
            raise UnreadableBundle(f"it is not a zip file: {error}") from error
        with archive:
            bundle = Archive(file, archive)
            if MANIFEST not in bundle.paths:
                raise UnreadableBundle(f"it has no {MANIFEST}")
            yield bundle
