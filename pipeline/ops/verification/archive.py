"""A bundle from elsewhere: opened without trusting it, its members read one at a time."""

from __future__ import annotations

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

#: Before a member's bytes: the signature, 22 bytes of what the directory says too, and the lengths of name and extra.
_HEADER: Final = struct.Struct("<4s22xHH")


class Archive:
    """The members of an opened bundle, by path."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self._file = file
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise UnreadableBundle(f"it has {len(infos)} members, more than any bundle")
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise UnreadableBundle("two members have one name")
        # Members are stored as they are, side by side, which bounds what is read of them by the file.
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise UnreadableBundle("a member is compressed or encrypted, which no bundle's is")
        if any(info.header_offset < 0 for info in infos):
            raise UnreadableBundle("a member claims to lie before the file")
        if sum(info.file_size for info in infos) > file.seek(0, os.SEEK_END):
            raise UnreadableBundle("its members claim to be larger than the file")
        self.paths: tuple[str, ...] = tuple(self._infos)

    def read(self, path: str) -> bytes:
        """Return the member's bytes as they are, whatever their checksum says: what changed in them is for readers to tell.

        Raises UnreadableBundle where there are none.
        """
        info = self._infos.get(path)
        if info is None:
            raise UnreadableBundle("it is missing")
        self._file.seek(info.header_offset)
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
            raise UnreadableBundle("it does not lie where the zip says")
        _, name, extra = _HEADER.unpack(header)
        self._file.seek(name + extra, os.SEEK_CUR)
        return self._file.read(info.file_size)

    def find_packing_difference(self, members: Sequence[BundleMember]) -> str | None:
        """Return in what the file is not the zip that its own members give, as a sentence; None where it is that zip.

        Whatever lies between, behind or around the members, or is said of them in the zip, is thus noticed.
        """
        at = 0
        for part in zip_members(members, lambda member: self.read(member.path)):
            self._file.seek(at)
            found = self._file.read(len(part))
            if found != part:
                equal_bytes = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(found, part, strict=False)))
                return f"the zip is not as it was packed from byte {at + equal_bytes} on"
            at += len(part)
        return f"the zip goes on behind byte {at}, where the bundle ends" if self._file.read(1) else None


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the bundle at `path`.

    Raises UnreadableBundle where it is no bundle, and OSError where there is no such file.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except _ZIP_ERRORS as error:
            raise UnreadableBundle(f"it is no zip file: {error}") from error
        with archive:
            bundle = Archive(file, archive)
            if MANIFEST not in bundle.paths:
                raise UnreadableBundle(f"it has no {MANIFEST}, as every bundle has")
            yield bundle
