"""The manifest of a unit: its documents with their digests and sizes. It is made last."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.documents.schemas.invoice import Invoice

VERSION = "1"


@dataclass(frozen=True)
class ManifestEntry:
    """The entry of one document in the manifest."""

    artifact_type: str
    filename: str
    media_type: str
    template_version: str
    size: int
    digest: str


def unit_manifest(invoice: Invoice, entries: Sequence[ManifestEntry]) -> bytes:
    """Return the manifest of `entries` as UTF-8 JSON."""
    content = {
        "schemaVersion": "1",
        "test": invoice.test,
        "provenance": invoice.provenance.model_dump(mode="json", by_alias=True),
        "lines": [{"lineRef": line.line_ref, "treatmentDigest": line.treatment_digest} for line in invoice.lines],
        "documents": [
            {
                "artifactType": entry.artifact_type,
                "filename": entry.filename,
                "mediaType": entry.media_type,
                "templateVersion": entry.template_version,
                "size": entry.size,
                "sha256": entry.digest.removeprefix("sha256:"),
            }
            for entry in entries
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"
