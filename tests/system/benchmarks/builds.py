"""The builds to compare: the normal chain, one task per step, and either without documents.

An environment variable selects the build, for workers and publishers alike. A build changes the table of steps only in
its own process: it runs the same `run_step` over the same tables. Run as a module, this is the `exports` command of the
build.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from celery import chain

from pipeline.exports.events import NewEvent
from pipeline.interfaces.cli import main
from pipeline.workflow import dispatch, steps

__all__ = ["HOPS", "VARIABLE", "WITHOUT_DOCUMENTS", "publish_export"]

VARIABLE: Final = "BENCHMARK_BUILD"
HOPS: Final = "hops"
WITHOUT_DOCUMENTS: Final = "without-documents"


def publish_export(export_id: str) -> None:
    """Publish the chain of an export of one unit."""
    if HOPS in _BUILD:
        # In this build no worker continues into the handoff, so the chain includes it.
        chain(dispatch.unit_chain(export_id, 1), dispatch.handoff_chain(export_id)).apply_async()
    else:
        dispatch.publish_export(export_id, 1)


def _no_documents(*_: Any) -> Sequence[NewEvent]:
    return ()


_BUILD: Final = os.environ.get(VARIABLE, "").split()

for _name, _spec in steps.STEPS_BY_NAME.items():
    if HOPS in _BUILD:
        _spec = replace(_spec, continues_inline=False)
    if WITHOUT_DOCUMENTS in _BUILD and _name == "render_documents":
        _spec = replace(_spec, prepare=None, write=_no_documents)
    steps.STEPS_BY_NAME[_name] = _spec

if __name__ == "__main__":
    main.main()
