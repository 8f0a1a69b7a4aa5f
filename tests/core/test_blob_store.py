"""Tests of the document store: stored documents survive a power cut, and changes of them are found."""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from config.network import LOOPBACK
from config.settings import Settings
from pipeline.core import blob_store
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.errors import ArtifactConflict, StoreUnavailable
from tests.support.bucket import VARIABLES, Bucket, open_bucket, serve_bucket
from tests.support.command_line import ROOT
from tests.support.servers import poll

BODY = b"an invoice" * 1000


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file:{tmp_path / 'artifacts'}")


@pytest.mark.timeout(60)
def test_has_on_silent_store_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller holds a transaction open. By default the library retries for three minutes."""
    monkeypatch.setattr(blob_store, "LOOK_SECONDS", 0.2)
    with socket.create_server((LOOPBACK, 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{silent.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "of-a-test")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        store = ArtifactStore("s3://bucket/exports")
        with pytest.raises(StoreUnavailable, match="cannot be looked for"):
            store.has("0" * 64)


def find_file(tmp_path: Path) -> Path:
    (path,) = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    return path


def test_put_over_damaged_file_rewrites_it(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.put(BODY)
    path = find_file(tmp_path)
    for left in (b"", BODY[:-1], bytes(len(BODY))):
        path.write_bytes(left)
        with pytest.raises(ArtifactConflict):
            store.get(sha256)
        assert store.put(BODY) == sha256
        assert store.get(sha256) == BODY
    assert find_file(tmp_path) == path


def test_put_of_existing_document_syncs_it_to_disk(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writer may have been killed between the rename and the sync, after its row was written."""
    flushed = record_fsyncs(monkeypatch)
    store.put(BODY)
    path = find_file(tmp_path)
    inode, *folders = [path.stat().st_ino, *list_folders(tmp_path, path)]
    assert flushed[0] == inode, "the content must be on the disk before the file gets its name"
    assert set(flushed[1:]) == set(folders), "every folder up to the store's folder must be synced: any may be new"
    flushed.clear()
    store.put(BODY)
    assert set(flushed) == {inode, *folders}


def test_documents_stored_together_sync_each_folder_once(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = record_fsyncs(monkeypatch)
    bodies = [f"document {number}".encode() for number in range(20)]
    hashes = store.put_all([*bodies, bodies[0]])
    assert hashes == [hashlib.sha256(body).hexdigest() for body in [*bodies, bodies[0]]]
    assert [store.get(sha256) for sha256 in hashes] == [*bodies, bodies[0]]
    files = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    folders = {inode for path in files for inode in list_folders(tmp_path, path)}
    assert sorted(flushed) == sorted({path.stat().st_ino for path in files} | folders)
    assert store.put_all([]) == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_failed_put_leaves_no_file_without_its_name(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(StoreUnavailable):
        store.put_all([BODY, b"another"])
    left = {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
    assert left <= {hashlib.sha256(body).hexdigest() for body in (BODY, b"another")}


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
def test_killed_writer_leaves_no_file(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", die)
        patched.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            store.put(BODY)
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
    assert store.get(store.put(BODY)) == BODY


@pytest.mark.parametrize("unable", ["O_TMPFILE", "link", ""])
def test_document_is_stored_for_its_owner_on_every_file_system(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unable: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("not supported")

    if unable == "link":
        monkeypatch.setattr(os, "link", refuse)
    elif unable:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    before = os.umask(0o022)
    try:
        assert store.get(store.put(BODY)) == BODY
    finally:
        os.umask(before)
    assert find_file(tmp_path).name == hashlib.sha256(BODY).hexdigest()
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in [tmp_path / "artifacts", *tmp_path.rglob("*")]}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_damaged_file_among_documents_stored_together_is_rewritten(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.put(BODY)
    find_file(tmp_path).write_bytes(bytes(len(BODY)))
    assert store.put_all([b"another", BODY])[1] == sha256
    assert store.get(sha256) == BODY


def record_fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each fsync appends the inode of its file."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    return flushed


def list_folders(tmp_path: Path, path: Path) -> list[int]:
    """Return the inodes of the folders above a file of the store, up to the store's own."""
    return [folder.stat().st_ino for folder in path.parents if folder.is_relative_to(tmp_path / "artifacts")]


def test_bucket_with_provider_variables_stores_documents() -> None:
    """The variables are read although the service sets its own timeouts: the bucket needs `AWS_ALLOW_HTTP`."""
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert all(f"{name}=" in page for name in (*VARIABLES, "AWS_ENDPOINT_URL"))
    with serve_bucket() as store:
        sha256 = store.put(BODY)
        assert (store.put(BODY), store.get(sha256), store.has(sha256)) == (sha256, BODY, True)
        store.delete(sha256)
        assert not store.has(sha256)


def test_bucket_is_asked_only_for_objects_that_exist() -> None:
    with serve_bucket() as store:
        first, second = store.put_all([BODY, b"another"])
        assert Bucket.requests == ["PUT", "PUT"]
        (place,) = [path for path in Bucket.stored if path.endswith(first)]
        Bucket.stored[place] = bytes(len(BODY))
        Bucket.requests.clear()
        assert store.put_all([BODY, b"another"]) == [first, second]
        assert store.get(first) == BODY, "the damaged object was not written again"
        assert sorted(Bucket.requests) == ["GET", "GET", "GET", "HEAD", "HEAD", "PUT", "PUT", "PUT"]


def test_bucket_without_conditions_stores_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "knows_conditions", False)
    with serve_bucket() as store:
        hashes = store.put_all([BODY, b"another"])
        Bucket.requests.clear()
        assert store.put_all([BODY, b"another", b"third"])[:2] == hashes
        assert sorted(Bucket.requests) == ["GET", "GET", "HEAD", "HEAD", "HEAD", "PUT"]
        assert len(Bucket.stored) == 3


@contextmanager
def listen_silently() -> Iterator[tuple[int, list[socket.socket]]]:
    """Listen on a port, accept every connection, and send nothing."""
    taken: list[socket.socket] = []
    with socket.create_server((LOOPBACK, 0)) as listener:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1], taken
        listener.shutdown(socket.SHUT_RDWR)
    for each in taken:
        each.close()


def test_request_to_silent_bucket_raises_store_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_store, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(blob_store, "RETRY_SECONDS", 0.3)
    for ask in ("delete", "has", "get"):
        with listen_silently() as (port, taken), open_bucket(port) as store:
            with pytest.raises(StoreUnavailable):
                getattr(store, ask)("0" * 64)
            poll(partial(bool, taken), 20, "no connection was made")
            assert len(taken) <= 1 + blob_store.RETRIES


def test_delete_timeouts_stay_below_idle_transaction_timeout() -> None:
    """PostgreSQL ends a transaction, and its locks, if it idles for three times the database's timeout."""
    idle = 3 * Settings.model_fields["database_timeout_seconds"].default
    assert idle > blob_store.RETRY_SECONDS + blob_store.ANSWER_SECONDS
