"""The objects that the commands for checks and repairs print with `--json`."""

from typing import Literal

from pydantic import Field

from pipeline.interfaces.cli.output_models import CommandOutput, NamedInSnakeCase
from pipeline.ops.audit import ChainBreak
from pipeline.ops.rebuild.compare import Difference


class BadDocument(CommandOutput):
    """A recorded document that the store does not have as recorded."""

    export_id: str
    unit_no: int
    artifact_type: str
    filename: str
    sha256: str
    condition: Literal["missing", "damaged", "unreadable"]
    restored: bool
    reason: str | None


class StoreCounts(CommandOutput):
    """The counts of a check of the store; the last line."""

    documents: int
    bytes: int
    missing: int
    damaged: int
    unreadable: int
    restored: int
    left: int


class MemberResult(CommandOutput):
    """The check of one file of a bundle; `failure` is null if it holds."""

    path: str
    artifact_type: str | None
    proof: str
    lines: int | None
    digest: str | None
    failure: str | None


class BundleResult(CommandOutput):
    """The check of a bundle."""

    intact: bool
    batch_id: str | None
    plan_hash: str | None
    treatment_digest: str | None
    container: str | None = Field(description="What is wrong with the zip file itself")
    checks: list[MemberResult]


class AuditResult(CommandOutput):
    """The check of every hash chain."""

    intact: bool
    exports: int
    events: int
    acts: int
    broken: int
    faults: list[ChainBreak]
    checkpoint: str | None = Field(description="How the log differs from the given checkpoint")


class DamagedExport(CommandOutput):
    """How the tables of an export differ from its log, and with --apply what is left."""

    export_id: str
    refused: str | None
    differences: list[Difference]
    left: list[Difference] = Field(default=[], description="Only with --apply")


class RebuildOutput(CommandOutput):
    """The comparison of tables and logs."""

    exports: int
    damaged: list[DamagedExport]
    left: int


class UncopiedDocument(CommandOutput):
    """A document that is not in the backup."""

    export_id: str
    filename: str
    reason: str


class BackupOutput(CommandOutput):
    """What the backup holds."""

    folder: str
    exports: int
    documents: int
    bytes: int
    purged: int
    uncopied: list[UncopiedDocument]


class ResealedSecrets(CommandOutput):
    """How many secrets were encrypted again."""

    resealed: int


class DrillRecovery(NamedInSnakeCase):
    """The recovery from one kill."""

    at: float
    process: str
    under_way: int
    seconds: float | None


class DrillFindings(NamedInSnakeCase):
    """What the drill lost or duplicated, in words."""

    lost: list[str]
    duplicated: list[str]


class DrillOutput(NamedInSnakeCase):
    """The figures of a drill."""

    kills: int
    exports: int
    executed: int
    lost: int
    duplicated: int
    recovery_p50_s: float | None = Field(description="Seconds from a kill until all interrupted exports are done")
    recovery_p99_s: float | None
    recovery_max_s: float | None
    requests_repeated: int
    messages: int
    messages_redelivered: int
    seed: int
    stack: str
    lease_seconds: float
    seconds: float | None
    findings: DrillFindings
    recoveries: list[DrillRecovery]
