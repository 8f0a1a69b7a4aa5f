"""The OpenAPI document is built once a process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.interfaces.app import create_app
from pipeline.workflow.publisher import Publisher
from tests.interfaces.api.conftest import ApiHarness


def test_apps_with_the_same_routers_share_one_document(harness: ApiHarness) -> None:
    def build_document(*, docs: bool) -> dict[str, Any]:
        settings = harness.runtime.settings.model_copy(update={"docs": docs})
        return create_app(replace(harness.runtime, settings=settings), Publisher(1)).openapi()

    assert build_document(docs=True) is build_document(docs=True)
    assert build_document(docs=True) is not build_document(docs=False)
