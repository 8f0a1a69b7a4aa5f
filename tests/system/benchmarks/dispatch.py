"""The side of the service: exports are published as the API publishes them, and workers execute them."""

import os
import sys

from sqlmodel import col, select

from config.logs import configure_logs
from config.queues import STEPS
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.documents.registry import render_documents
from pipeline.exports.models import Artifact
from pipeline.workflow.dispatch import publish_export
from pipeline.workflow.publisher import EmbeddedWorker
from tests.interfaces.contracts.sent import check_notifications
from tests.system.benchmarks import builds
from tests.system.benchmarks.documents import build_invoices
from tests.system.benchmarks.exports import LINES, accept_exports, wait_until_delivered
from tests.system.benchmarks.interleave import run_rounds

__all__ = ["builds", "start_runtime"]


def start_runtime() -> Runtime:
    """Return the runtime of this process; on the embedded default, its workers have started."""
    runtime = process_runtime()
    configure_logs(runtime.settings)
    if runtime.settings.embedded:
        EmbeddedWorker(runtime.settings.delivery_senders).start()
    return runtime


def main(count: int) -> None:
    """Publish `count` exports a round."""
    runtime = start_runtime()
    exports: list[str] = []

    def prepare() -> None:
        exports[:] = accept_exports(runtime, count)

    def run() -> None:
        for export_id in exports:
            publish_export(export_id, [STEPS])
        wait_until_delivered(runtime, exports)

    run_rounds(prepare, run)
    check_notifications(runtime)
    if builds.VARIABLE not in os.environ:
        _check_documents(runtime, exports[0])


def _check_documents(runtime: Runtime, export_id: str) -> None:
    """Raise unless the sides that only make documents, and the peers, make those of the export."""
    (invoice,) = build_invoices(1, LINES)
    with runtime.db.read() as session:
        made = session.scalars(select(col(Artifact.artifact_type)).where(col(Artifact.export_id) == export_id)).all()
    alone = [each.artifact_type for each in render_documents(invoice)]
    if sorted(made) != sorted(alone):
        raise RuntimeError(f"the service makes {sorted(made)}, the other sides {sorted(alone)}; change peers/work.py")


if __name__ == "__main__":
    main(int(sys.argv[1]))
