"""The side of the service: exports are published as the API publishes them, and workers execute them."""

from __future__ import annotations

import sys

from config.logs import configure_logs
from pipeline.core.runtime import Runtime, process_runtime
from pipeline.workflow.dispatch import publish_export
from pipeline.workflow.publisher import EmbeddedWorker
from tests.interfaces.contracts.sent import check_notifications
from tests.system.benchmarks import builds
from tests.system.benchmarks.exports import accept_exports, wait_until_delivered
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
            publish_export(export_id, 1)
        wait_until_delivered(runtime, exports)

    run_rounds(prepare, run)
    check_notifications(runtime)


if __name__ == "__main__":
    main(int(sys.argv[1]))
