"""A bundle from elsewhere: opened without trusting it, its members read one at a time."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipeline.documents.bundled import MANIFEST, Member, zipped
from pipeline.verification.carried import Unreadable

MAX_MEMBERS: Final = 100_000
_CHUNK: Final = 1024 * 1024
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, ValueError, RuntimeError)


class Archive:
    """The members of an opened bundle, by path."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise Unreadable(f"it has {len(infos)} members, more than any bundle")
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise Unreadable("two members have one name")
        # Members are stored as they are, side by side: together they cannot be larger than the file.
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise Unreadable("a member is compressed or encrypted, which no bundle's is")
        if sum(info.file_size for info in infos) > path.stat().st_size:
            raise Unreadable("its members claim to be larger than the file")
        self.paths: tuple[str, ...] = tuple(self._infos)

    def read(self, path: str) -> bytes:
        """Return the member's bytes; raises Unreadable."""
        info = self._infos.get(path)
        if info is None:
            raise Unreadable("it is missing")
        try:
            return self._archive.read(info)
        except _BROKEN as error:
            raise Unreadable(f"it cannot be read: {error}") from error

    def unlike_packed(self, members: list[Member]) -> str | None:
        """Return in what the file is not the zip that its own members give, as a sentence; None where it is that zip.

        Whatever lies between, behind or around the members, or is said of them in the zip, is thus noticed.
        """
        at = 0
        with self._path.open("rb") as file:
            for part in zipped(members, lambda member: self.read(member.path)):
                for first in range(0, len(part), _CHUNK):
                    expected = part[first : first + _CHUNK]
                    if file.read(len(expected)) != expected:
                        return f"the zip differs from what was packed between byte {at} and byte {at + len(expected)}"
                    at += len(expected)
            return f"the zip goes on behind byte {at}, where the bundle ends" if file.read(1) else None


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open the bundle at `path`.

    Raises Unreadable where it is no bundle, and OSError where there is no such file.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except (*_BROKEN, OSError) as error:
            raise Unreadable(f"it is no zip file: {error}") from error
        with archive:
            made = Archive(path, archive)
            if MANIFEST not in made.paths:
                raise Unreadable(f"it has no {MANIFEST}, as every bundle has")
            yield made
