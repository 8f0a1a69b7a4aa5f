"""The document store: bytes under their own SHA-256, in a local folder, S3 or another store by URL."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
import structlog
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, from_url

from config.settings import read_variables
from pipeline.core.errors import ArtifactConflict, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

log = structlog.get_logger(__name__)

#: How long one request to a store may take, how many more are made, and how long after the first the last may begin. All of
#: them together stay below the half minute for which PostgreSQL lets a transaction idle: a purge deletes under its lock.
ANSWER_SECONDS: Final = 15.0
RETRIES: Final = 2
RETRY_SECONDS: Final = 5.0
#: How long of that it may take to look whether a document is there: whoever looks holds a transaction open, on SQLite the only
#: one.
LOOK_SECONDS: Final = 3

#: What the providers' variables are called by, and those of them that say how a store is reached. Options that are given here
#: would have the library leave all of them unread.
_VARIABLES: Final = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_CONNECTION_OPTIONS: Final = (
    "allow_http",
    "allow_invalid_certificates",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
)


class BlobCondition(StrEnum):
    """How the bytes of a document are in the store: there and proven by their hash, gone, or other bytes."""

    INTACT = "intact"
    MISSING = "missing"
    DAMAGED = "damaged"


class ArtifactStore:
    """A content-addressed store: what was put once is never changed, and putting it twice is harmless.

    A local folder is made when the first document is put. `may_create_folder` is asked whether it is the first: a folder that
    is missing although it had documents may be a disk that is not mounted, and must not be made again.
    """

    def __init__(self, url: str, *, may_create_folder: Callable[[], bool] = lambda: True) -> None:
        self.url = url
        self._folder: Path | None = None
        self._may_create_folder = may_create_folder
        self._backend: ObjectStore | None = None
        if url.startswith("file:"):
            # Relative to the working directory unless it begins with a slash: file:var/artifacts, file:///srv/artifacts.
            self._folder = Path(url.removeprefix("file:").replace("//", "", 1) if "//" in url else url[5:]).resolve()
        elif url.startswith("memory:"):
            self._backend = MemoryStore()
        else:
            self._backend = _open_backend(url)

    @property
    def _store(self) -> ObjectStore:
        """The store to ask; raises StoreUnavailable where its folder is missing."""
        # Looked for each time: a write would make every folder on its way, also that of a disk that was just unmounted.
        if self._folder is not None and not self._folder.is_dir():
            raise StoreUnavailable(
                f"the artifact store's folder {self._folder} is missing; mount its disk, or put it back from a backup, or"
                " make it empty and run `exports artifacts restore`"
            )
        if self._backend is None:
            self._backend = LocalStore(self._folder)
        return self._backend

    def _create_folder(self) -> None:
        """Make the folder of a store that has no document yet; raises OSError."""
        if self._folder is not None and not self._folder.is_dir() and self._may_create_folder():
            self._folder.mkdir(parents=True, exist_ok=True)

    def put(self, body: bytes) -> str:
        """Keep `body` and return its SHA-256 in hex.

        What is there already is believed once its bytes are the same: a power cut may have left a file of the right size
        and name without them. Raises StoreUnavailable where the store does not take it.
        """
        sha256 = hashlib.sha256(body).hexdigest()
        path = _path(sha256)
        try:
            self._create_folder()
            if not self._has_bytes(path, body):
                obstore.put(self._store, path, body)
            if self._folder is not None:
                # Also what was there: whoever put it may have been killed before this.
                _sync_to_disk(self._folder / path, self._folder)
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"the artifact store did not take a document: {type(error).__name__}") from error
        return sha256

    def get(self, sha256: str) -> bytes:
        """Return the bytes whose SHA-256 is `sha256`.

        Raises StoreUnavailable where they are missing or the store does not answer, ArtifactConflict where they were
        changed behind our back.
        """
        try:
            body = bytes(obstore.get(self._store, _path(sha256)).bytes())
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be read: {type(error).__name__}") from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise ArtifactConflict(f"document {sha256} is not what was stored")
        return body

    def condition(self, sha256: str) -> BlobCondition:
        """Return how the bytes whose SHA-256 is `sha256` are, read in pieces; raises StoreUnavailable where none can tell."""
        found = hashlib.sha256()
        try:
            for piece in obstore.get(self._store, _path(sha256)):
                found.update(piece)
        except (NotFoundError, FileNotFoundError):
            return BlobCondition.MISSING
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be read: {type(error).__name__}") from error
        return BlobCondition.INTACT if found.hexdigest() == sha256 else BlobCondition.DAMAGED

    def has(self, sha256: str) -> bool:
        """Tell whether the bytes whose SHA-256 is `sha256` are there, without reading them.

        Raises StoreUnavailable, also where the store does not say so within LOOK_SECONDS.
        """
        try:
            asyncio.run(self._head(_path(sha256)))
        except (NotFoundError, FileNotFoundError):
            return False
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be looked for: {type(error).__name__}") from error
        return True

    def delete(self, sha256: str) -> None:
        """Let go of the bytes whose SHA-256 is `sha256`; harmless where they are gone. Raises StoreUnavailable."""
        try:
            obstore.delete(self._store, _path(sha256))
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be deleted: {type(error).__name__}") from error

    def check(self) -> None:
        """Write, read and delete a small object; raises StoreUnavailable where one of them fails."""
        try:
            self._create_folder()
            obstore.put(self._store, ".check", b"check")
            obstore.get(self._store, ".check").bytes()
            obstore.delete(self._store, ".check")
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error

    def _has_bytes(self, path: str, body: bytes) -> bool:
        size = self._size(path)
        if size == len(body) and bytes(obstore.get(self._store, path).bytes()) == body:
            return True
        if size is not None:
            log.error("document_rewritten", path=path, size=size, expected=len(body))
        return False

    async def _head(self, path: str) -> None:
        await asyncio.wait_for(obstore.head_async(self._store, path), LOOK_SECONDS)

    def _size(self, path: str) -> int | None:
        try:
            return obstore.head(self._store, path)["size"]
        except (NotFoundError, FileNotFoundError):
            return None


def _open_backend(url: str) -> ObjectStore:
    given: dict[str, Any] = read_variables(_VARIABLES[url.partition(":")[0]], _CONNECTION_OPTIONS)
    times = {"timeout": timedelta(seconds=ANSWER_SECONDS), "connect_timeout": timedelta(seconds=ANSWER_SECONDS / 3)}
    return from_url(
        url,
        client_options=cast("ClientConfig", given | times),
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    )


def _path(sha256: str) -> str:
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def _sync_to_disk(path: Path, root: Path) -> None:
    # The store renames a finished file into place; only an fsync of it and of every folder on the way, which may be as new
    # as the file, makes that survive a power cut. Of a folder that has not changed it costs next to nothing.
    for place in (path, *path.parents):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if place == root:
            return
