"""The documents of a unit are stored together, but no more of them than a few megabytes."""

from collections.abc import Iterator, Sequence
from datetime import date
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.core import shutdown
from pipeline.core.blob_store import ArtifactStore
from pipeline.core.errors import Stopped
from pipeline.core.runtime import Runtime
from pipeline.documents.registry import Document
from pipeline.documents.repository import TOGETHER_BYTES, store_documents
from pipeline.exports.step_context import StepContext
from tests.documents.samples import digest

CONTEXT = StepContext(
    export_id="exp_1",
    account_id="acc_123",
    batch_id="batch_1",
    plan_hash=digest("plan"),
    revision=1,
    test=False,
    broker_id="broker",
    warehouse_id="warehouse",
    ruleset_id="rules",
    ruleset_as_of=date(2026, 11, 24),
    treatment_digest=digest("treatment"),
    units=2,
    unit_no=2,
    step="render_documents",
    fence=1,
    attempt=1,
)


class RecordingStore(ArtifactStore):
    """A store in memory that records the sizes of the documents of each put."""

    def __init__(self) -> None:
        super().__init__("memory:")
        self.puts: list[list[int]] = []

    def put_all(self, bodies: Sequence[bytes]) -> list[str]:
        """Store the documents."""
        self.puts.append([len(body) for body in bodies])
        return super().put_all(bodies)


def render(*sizes: int) -> Iterator[Document]:
    for number, size in enumerate(sizes):
        yield Document("kind", f"{number}.txt", "text/plain", "1", bytes([number]) * size)


def test_small_documents_are_stored_together_and_large_ones_at_once() -> None:
    store = RecordingStore()
    large = TOGETHER_BYTES
    rows = store_documents(
        cast(Runtime, SimpleNamespace(store=store)), CONTEXT, 2, render(1, 2, large, 3, large // 2, large // 2, 4)
    )
    assert store.puts == [[1, 2, large], [3, large // 2, large // 2], [4]]
    assert [(row["filename"], row["size"]) for row in rows[:2]] == [("0.txt", 1), ("1.txt", 2)]
    assert all(len(store.get(row["sha256"])) == row["size"] for row in rows)


def test_storing_stops_between_documents() -> None:
    def interrupt() -> Iterator[Document]:
        for document in render(1, 2):
            yield document
            pytest.fail("the next document was rendered")

    store = RecordingStore()
    shutdown.request()
    try:
        with pytest.raises(Stopped):
            store_documents(cast(Runtime, SimpleNamespace(store=store)), CONTEXT, 2, interrupt())
    finally:
        shutdown.reset()
    assert store.puts == []
