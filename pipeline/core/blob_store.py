"""The document store: each document under its SHA-256, in a local folder, S3 or another store given by URL."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, from_url

from config.settings import read_variables
from pipeline.core.errors import ArtifactConflict, DocumentMissing, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

log = structlog.get_logger(__name__)

#: The timeout of one request to a store, the number of retries, and how long after the first request a retry may begin.
#: Their sum stays below the 30 seconds that PostgreSQL lets a transaction idle: a purge deletes while it holds its lock.
ANSWER_SECONDS: Final = 15.0
RETRIES: Final = 2
RETRY_SECONDS: Final = 5.0
#: The timeout of a check whether a document exists. The caller holds a transaction open, on SQLite the only one.
LOOK_SECONDS: Final = 3

#: The largest document that is sent in one request; a larger one is sent in parts, which cannot ask whether it exists.
ONE_REQUEST_BYTES = 5 * 1024**2
#: Only the owner may read a new document: it holds addresses and prices.
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
#: The threads that sync files at the same time: the disk then writes them together.
_SYNC_THREADS: Final = 4

#: The prefixes of the providers' variables, and the names of those that configure the connection. The library ignores these
#: variables if it gets options as arguments, so they are read here.
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
    """The condition of a stored document: its hash fits, it is missing, or its bytes have changed."""

    INTACT = "intact"
    MISSING = "missing"
    DAMAGED = "damaged"


class ArtifactStore:
    """A content-addressed store: a stored document never changes, and storing it twice is harmless.

    A local folder is created with the first document, if `may_create_folder` returns True. A missing folder that had
    documents may be a disk that is not mounted, and must not be created again.
    """

    def __init__(self, url: str, *, may_create_folder: Callable[[], bool] = lambda: True) -> None:
        self.url = url
        self._folder: Path | None = None
        self._may_create_folder = may_create_folder
        self._backend: ObjectStore | None = None
        self._creates_only = True  # whether the store can refuse to replace an object
        if url.startswith("file:"):
            # The path is relative to the working directory unless it begins with a slash:
            # file:var/artifacts, file:///srv/artifacts.
            self._folder = Path(url.removeprefix("file:").replace("//", "", 1) if "//" in url else url[5:]).resolve()
        elif url.startswith("memory:"):
            self._backend = MemoryStore()
        else:
            self._backend = _open_backend(url)

    @property
    def folder(self) -> Path | None:
        """The folder of a local store; None for another store."""
        return self._folder

    @property
    def _store(self) -> ObjectStore:
        """The store's backend. Raises StoreUnavailable if its folder is missing."""
        # Checked each time: a write creates all missing folders of its path, even if the disk was just unmounted.
        if self._folder is not None and not self._folder.is_dir():
            raise StoreUnavailable(
                f"the artifact store's folder {self._folder} is missing; mount its disk, or restore it from a backup, or"
                " create it empty and run `exports artifacts restore`"
            )
        if self._backend is None:
            self._backend = LocalStore(self._folder)
        return self._backend

    def _create_folder(self) -> None:
        """Create the folder of a store that has no document yet. Raises OSError."""
        if self._folder is not None and not self._folder.is_dir() and self._may_create_folder():
            self._folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)

    def put(self, body: bytes) -> str:
        """Store `body` and return its SHA-256 in hex; raise StoreUnavailable if the store does not accept it."""
        return self.put_all([body])[0]

    def put_all(self, bodies: Sequence[bytes]) -> list[str]:
        """Store the documents together and return their SHA-256 in hex, in the same order.

        A document that exists is compared byte by byte: a power cut can leave a file with the right name and size but
        wrong content. Raises StoreUnavailable if the store does not accept a document; it may have accepted others.
        """
        hashes = [hashlib.sha256(body).hexdigest() for body in bodies]
        documents = dict(zip(map(_path, hashes), bodies, strict=True))
        try:
            self._create_folder()
            if self._folder is None:
                asyncio.run(self._put_objects(documents))
            else:
                _ = self._store  # the disk may be unmounted
                _write_files(self._folder, documents)
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"the artifact store did not accept a document: {type(error).__name__}") from error
        return hashes

    def get(self, sha256: str) -> bytes:
        """Return the bytes whose SHA-256 is `sha256`.

        Raises DocumentMissing, StoreUnavailable if the store does not answer, ArtifactConflict if they have changed.
        """
        try:
            body = bytes(obstore.get(self._store, _path(sha256)).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise DocumentMissing(f"document {sha256} is missing in the artifact store") from error
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be read: {type(error).__name__}") from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise ArtifactConflict(f"document {sha256} has changed in the store; its hash does not fit")
        return body

    def condition(self, sha256: str) -> BlobCondition:
        """Return the condition of the document `sha256`, read in pieces. Raises StoreUnavailable."""
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
        """Return whether the store has the document `sha256`, without reading it.

        Raises StoreUnavailable, also if the store does not answer within LOOK_SECONDS.
        """
        try:
            asyncio.run(self._head(_path(sha256)))
        except (NotFoundError, FileNotFoundError):
            return False
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be looked for: {type(error).__name__}") from error
        return True

    def delete(self, sha256: str) -> None:
        """Delete the document `sha256`, if it exists. Raises StoreUnavailable."""
        try:
            obstore.delete(self._store, _path(sha256))
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"document {sha256} cannot be deleted: {type(error).__name__}") from error

    def check(self) -> None:
        """Write, read and delete a small object. Raises StoreUnavailable if one of them fails."""
        try:
            self._create_folder()
            obstore.put(self._store, ".check", b"check")
            obstore.get(self._store, ".check").bytes()
            obstore.delete(self._store, ".check")
        except (BaseError, OSError) as error:
            raise StoreUnavailable(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error

    async def _head(self, path: str) -> None:
        await asyncio.wait_for(obstore.head_async(self._store, path), LOOK_SECONDS)

    async def _put_objects(self, documents: Mapping[str, bytes]) -> None:
        await asyncio.gather(*(self._put_object(path, body) for path, body in documents.items()))

    async def _put_object(self, path: str, body: bytes) -> None:
        if len(body) <= ONE_REQUEST_BYTES and self._creates_only:
            try:
                await obstore.put_async(self._store, path, body, mode="create")
            except AlreadyExistsError:
                pass
            except BaseError as error:
                if "501" not in str(error):
                    raise
                # Some stores with the interface of S3 do not implement conditions.
                self._creates_only = False
            else:
                return
        if not await self._has_bytes(path, body):
            await obstore.put_async(self._store, path, body)

    async def _has_bytes(self, path: str, body: bytes) -> bool:
        try:
            size = (await obstore.head_async(self._store, path))["size"]
            if size == len(body) and bytes(await (await obstore.get_async(self._store, path)).bytes_async()) == body:
                return True
        except (NotFoundError, FileNotFoundError):
            return False
        log.error("document_rewritten", path=path, size=size, expected=len(body))
        return False


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


def _write_files(root: Path, documents: Mapping[str, bytes]) -> None:
    """Write the documents to their paths under `root`; they survive a power cut when this returns. Raises OSError."""
    for path, body in documents.items():
        if not _has_content(root / path, body):
            _write_file(root / path, body)
    # Also if a file existed: its writer may have been killed before this line.
    _sync([root / path for path in documents])
    # A file's name survives a power cut only after an fsync of every folder above it, which may be new as well. The fsync of
    # an unchanged folder costs almost nothing.
    _sync({folder for path in documents for folder in (root / path).parents if folder.is_relative_to(root)})


def _has_content(path: Path, body: bytes) -> bool:
    try:
        if path.stat().st_size == len(body) and path.read_bytes() == body:
            return True
    except FileNotFoundError:
        return False
    log.error("document_rewritten", path=str(path), expected=len(body))
    return False


def _write_file(target: Path, body: bytes) -> None:
    # Of the folders above, only the store's own must not be created: it may be a disk that was just unmounted.
    for folder in reversed(target.parents[:3]):
        with suppress(FileExistsError):
            folder.mkdir(_FOLDER_MODE)
    try:
        _link_file(target, body)
    except FileExistsError:
        if _has_content(target, body):
            return  # another process was faster
    except OSError:
        pass  # not every file system, and no other system than Linux, has files without a name
    else:
        return
    # A process that is killed before the rename leaves a file that nobody deletes.
    source = target.with_name(f"{target.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as file:
            file.write(body)
        source.rename(target)
    except OSError:
        source.unlink(missing_ok=True)
        raise


def _link_file(target: Path, body: bytes) -> None:
    """Write a file without a name, then give it its name: of a process that is killed before, nothing is left.

    Raises OSError, and FileExistsError if `target` exists.
    """
    if not hasattr(os, "O_TMPFILE"):
        raise OSError("the system has no files without a name")
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.fdopen(os.open(target.parent, os.O_WRONLY | os.O_TMPFILE, _FILE_MODE), "wb") as file:
            file.write(body)
            file.flush()
            # With a folder Python follows the link to the open file; without one it would link the link.
            os.link(f"/proc/self/fd/{file.fileno()}", target.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _sync(places: Iterable[Path]) -> None:
    try:
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:
            for _ in pool.map(_sync_one, places):
                pass
    except RuntimeError as error:  # this process may have no more threads
        raise OSError(str(error)) from error


def _sync_one(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
