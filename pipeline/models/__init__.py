"""The tables and their constraints, nothing else."""

from __future__ import annotations

from pipeline.models.deliveries import (
    Acknowledgement,
    Attempt,
    BrokerSubmission,
    Delivery,
    Notification,
    SandboxHandoff,
)
from pipeline.models.exports import (
    Artifact,
    Event,
    Export,
    ExportUnit,
    IdempotencyRecord,
    LegalHold,
    LineTreatment,
    Package,
    PlanSnapshot,
    Step,
)
from pipeline.models.heartbeats import Heartbeat
from pipeline.models.parties import (
    Account,
    ApiKey,
    ConnectionTest,
    Partner,
    PartnerChannel,
    PartnerSecret,
    UsedSignature,
    Waiver,
)

__all__ = [
    "Account",
    "Acknowledgement",
    "ApiKey",
    "Artifact",
    "Attempt",
    "BrokerSubmission",
    "ConnectionTest",
    "Delivery",
    "Event",
    "Export",
    "ExportUnit",
    "Heartbeat",
    "IdempotencyRecord",
    "LegalHold",
    "LineTreatment",
    "Notification",
    "Package",
    "Partner",
    "PartnerChannel",
    "PartnerSecret",
    "PlanSnapshot",
    "SandboxHandoff",
    "Step",
    "UsedSignature",
    "Waiver",
]
