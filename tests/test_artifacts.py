"""The document store: what was put is there after a power cut, and is what was put."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.artifacts import ArtifactStore
from pipeline.errors import ArtifactConflict

BODY = b"an invoice" * 1000


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file:{tmp_path / 'artifacts'}")


def file_of(tmp_path: Path) -> Path:
    (path,) = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    return path


def test_file_that_a_power_cut_left_without_its_bytes_is_written_anew(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.put(BODY)
    path = file_of(tmp_path)
    for left in (b"", BODY[:-1], bytes(len(BODY))):
        path.write_bytes(left)
        with pytest.raises(ArtifactConflict):
            store.get(sha256)
        assert store.put(BODY) == sha256
        assert store.get(sha256) == BODY
    assert file_of(tmp_path) == path


def test_whoever_finds_a_document_there_makes_it_last_all_the_same(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever put it may have been killed between the rename and the flush, and the row says that it is there."""
    opened: dict[int, Path] = {}
    flushed: list[Path] = []
    really_open = os.open

    def noted(place: Path, flags: int) -> int:
        handle = really_open(place, flags)
        opened[handle] = place
        return handle

    monkeypatch.setattr(os, "open", noted)
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(opened[handle]))
    store.put(BODY)
    path = file_of(tmp_path)
    expected = [path, *path.parents][: len(path.relative_to(tmp_path).parts)]
    assert flushed == expected, "the file, and every folder up to the store's own, any of which may be new"
    flushed.clear()
    store.put(BODY)
    assert flushed == expected
