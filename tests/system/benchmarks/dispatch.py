"""The side with the chain: exports are published as the API publishes them, and workers execute them."""

from __future__ import annotations

import sys

from config.logs import configure_logs
from pipeline.core.runtime import process_runtime
from pipeline.workflow.publisher import EmbeddedWorker
from tests.interfaces.contracts.sent import check_notifications
from tests.system.benchmarks.builds import publish_export
from tests.system.benchmarks.exports import accept_exports, wait_until_delivered
from tests.system.benchmarks.interleave import run_rounds


def main(count: int) -> None:
    """Publish `count` exports a round; on the embedded default the worker runs in this process."""
    runtime = process_runtime()
    configure_logs(runtime.settings)
    if runtime.settings.embedded:
        EmbeddedWorker(runtime.settings.delivery_senders).start()
    exports: list[str] = []

    def prepare() -> None:
        exports[:] = accept_exports(runtime, count)

    def run() -> None:
        for export_id in exports:
            publish_export(export_id)
        wait_until_delivered(runtime, exports)

    run_rounds(prepare, run)
    check_notifications(runtime)


if __name__ == "__main__":
    main(int(sys.argv[1]))
