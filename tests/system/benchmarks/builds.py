"""The builds to compare: the service as it is, and one without documents.

An environment variable selects the build, for workers and publishers alike. A build changes the table of steps only in
its own process: it runs the same `run_step` over the same tables. Run as a module, this is the `exports` command of the
build.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from pipeline.exports.events import NewEvent
from pipeline.interfaces.cli import main
from pipeline.workflow import steps

VARIABLE: Final = "BENCHMARK_BUILD"
WITHOUT_DOCUMENTS: Final = "without-documents"
_RENDER: Final = "render_documents"


def _no_documents(*_: Any) -> Sequence[NewEvent]:
    return ()


if os.environ.get(VARIABLE) == WITHOUT_DOCUMENTS:
    steps.STEPS_BY_NAME[_RENDER] = replace(steps.STEPS_BY_NAME[_RENDER], prepare=None, write=_no_documents)

if __name__ == "__main__":
    main.main()
