"""The proof, without service or database, that a bundle is complete and every format carries the plan's treatment."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from pipeline.core.errors import ExportsError
from pipeline.customs import treatment
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_broker import HandedUnit, HandoffReady
from pipeline.documents import broker_profile, bundle, registry
from pipeline.documents.bundle import CONVERSATION, MANIFEST, MESSAGE, PLAN
from pipeline.exports.plans import UNHASHED, canonical_json, hash_json
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.exports.schemas.submissions import ConversationPage
from pipeline.ops.verification.archive import Archive, open_archive
from pipeline.ops.verification.readers import READERS, attached_file, json_object, merged_lines, merged_rows
from pipeline.ops.verification.treatment import CarriedLine, UnreadableBundle, find_difference, find_merged_difference

__all__ = ["BundleReport", "MemberCheck", "UnreadableBundle", "verify_bundle"]

#: The file of each document kind, the file attached to the PDF, and the documents that every unit has.
FILES: Final = {kind.artifact_type: kind.filename for kind in registry.KINDS}
ATTACHED: Final = FILES["cci_json"]
REQUIRED: Final = frozenset({"cci_json", "cci_csv", "cci_xlsx", "cci_ubl", "cci_pdf", "packing_list"})

Proof = Literal["treatment", "digests", "bytes"]


@dataclass(frozen=True)
class MemberCheck:
    """The check of one member: how it was compared with the plan, and why it failed, as a sentence; None if it holds.

    `digest` is recomputed from the member: the digest of the unit's treatment, or of the export's.
    """

    path: str
    artifact_type: str | None
    proof: Proof
    lines: int | None = None
    digest: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class BundleReport:
    """The result of verifying a bundle; `container` says what is wrong with the zip itself."""

    batch_id: str | None
    plan_hash: str | None
    treatment_digest: str | None
    container: str | None
    checks: Sequence[MemberCheck]

    @property
    def intact(self) -> bool:
        """Whether no check failed."""
        return self.container is None and all(check.failure is None for check in self.checks)


def verify_bundle(path: Path, on_progress: Callable[[int, int], None] = lambda _, __: None) -> BundleReport:
    """Verify the bundle at `path` and return the result, member by member.

    Every member is compared with the manifest by its hash. Manifest and zip are compared with ones rebuilt from the
    members, and every format with the plan, line by line. This proves that the bundle agrees with itself, not who
    packed it: compare `plan_hash` with the approved hash. Raises UnreadableBundle if it is not a bundle or has no
    readable plan, and OSError if the file cannot be opened. `on_progress` is called after each unit, with the numbers of
    members that are checked and of all.
    """
    with open_archive(path) as archive:
        return _Verification(archive).report(on_progress)


@dataclass(frozen=True)
class _PlannedUnit:
    """A unit of the plan."""

    unit: Unit
    folder: str
    lines: Sequence[CarriedLine]
    digest: str


class _Verification:
    """The verification of one bundle."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._members = [bundle.bundle_member(path, archive.read(path)) for path in archive.paths]
        self._hashes = {member.path: member.sha256 for member in self._members}
        self._plan, self._plan_hash, plan_failure = _read_plan(archive)
        self._units = [_planned_unit(unit_no, unit) for unit_no, unit in enumerate(self._plan.units, start=1)]
        self._digest = treatment.export_digest({each.unit.unit_ref: each.digest for each in self._units})
        self._checks: dict[str, MemberCheck] = {
            PLAN: MemberCheck(PLAN, None, "treatment", _count_lines(self._units), self._digest, plan_failure)
        }
        self._message: HandoffReady | None = None

    def report(self, on_progress: Callable[[int, int], None]) -> BundleReport:
        """Check everything and return the report."""
        self._checks[MESSAGE] = self._run_check(MemberCheck(MESSAGE, None, "treatment"), self._check_message)
        for planned in self._units:
            self._check_unit(planned)
            on_progress(len(self._checks), len(self._archive.paths))
        if CONVERSATION in self._archive.paths:
            self._checks[CONVERSATION] = self._run_check(
                MemberCheck(CONVERSATION, None, "digests"), self._check_conversation
            )
        for path in self._archive.paths:
            if path not in self._checks and path != MANIFEST:
                self._checks[path] = MemberCheck(path, None, "bytes", failure="neither a unit nor the message names it")
        self._checks[MANIFEST] = self._run_check(MemberCheck(MANIFEST, None, "digests"), self._check_manifest)
        # A changed member is reported here only if no other check found it.
        listed = _manifest_hashes(self._archive)
        for path, check in self._checks.items():
            if check.failure is None and path != MANIFEST and listed.get(path) != self._hashes.get(path):
                self._checks[path] = _failed(check, "its hash is not the one in the manifest")
        return BundleReport(
            batch_id=self._plan.batch_id,
            plan_hash=self._plan_hash,
            treatment_digest=self._digest,
            container=self._container(),
            checks=sorted(self._checks.values(), key=lambda check: check.path),
        )

    def _container(self) -> str | None:
        try:
            return self._archive.find_packing_difference(sorted(self._members, key=lambda member: member.path))
        except UnreadableBundle as error:
            return str(error)

    def _run_check(self, check: MemberCheck, examine: Callable[[MemberCheck], MemberCheck]) -> MemberCheck:
        try:
            return examine(check)
        except UnreadableBundle as error:
            return _failed(check, str(error))

    def _check_conversation(self, check: MemberCheck) -> MemberCheck:
        try:
            page = ConversationPage.model_validate(json_object(self._archive.read(CONVERSATION)))
        except ValidationError as error:
            raise UnreadableBundle(f"it is not a conversation: {error.error_count()} invalid fields") from None
        for file in {each.id: each for item in page.items for each in item.attachments}.values():
            at = bundle.file_path(file.id, file.filename or "")
            found = self._hashes.get(at)
            failure = "it is missing" if found is None else "its hash is not the one in the conversation"
            self._checks[at] = MemberCheck(at, None, "digests", failure=None if found == file.sha256 else failure)
        return check

    def _check_message(self, check: MemberCheck) -> MemberCheck:
        event = json_object(self._archive.read(MESSAGE))
        if event.get("type") != MessageType.HANDOFF_READY.value:
            raise UnreadableBundle(f"its type is not {MessageType.HANDOFF_READY.value}")
        try:
            message = HandoffReady.model_validate(event.get("data"))
        except ValidationError as error:
            where = "/".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            raise UnreadableBundle(f"/data/{where} is not valid in a handoff") from None
        self._message = message
        expected = (self._plan.batch_id, self._plan_hash, self._digest, self._plan.ruleset)
        actual = (message.batch_id, message.plan_hash, message.treatment_digest, message.ruleset)
        if event.get("subject") != message.export_id:
            return _failed(check, "its subject is not its export")
        if actual != expected:
            return _failed(check, "its batch, plan hash, treatment digest or ruleset is not the plan's")
        if [unit.unit_ref for unit in message.units] != [each.unit.unit_ref for each in self._units]:
            return _failed(check, "its units are not the plan's")
        for message_unit, planned in zip(message.units, self._units, strict=True):
            failure = self._find_unit_mismatch(message_unit, planned)
            if failure is not None:
                return _failed(check, f"unit {message_unit.unit_ref}: {failure}")
        lines = [line for unit in message.units for line in unit.lines or ()]
        return MemberCheck(check.path, None, "treatment" if lines else "digests", len(lines) or None, self._digest)

    def _find_unit_mismatch(self, message_unit: HandedUnit, planned: _PlannedUnit) -> str | None:
        if message_unit.lines is not None:
            failure = find_difference(planned.lines, [_message_line(line) for line in message_unit.lines])
            if failure is not None:
                return failure
        unit = planned.unit
        if message_unit.treatment_digest != planned.digest:
            return "its treatment digest is not the plan's"
        # The message names the crew of a truck, and has no other personal data of it.
        said = (unit.entry.hide_personal_data(), unit.parties, unit.invoice)
        if (message_unit.entry, message_unit.parties, message_unit.invoice) != said:
            return "its entry, parties or invoice is not the plan's"
        if message_unit.canadian_export != unit.canadian_export:
            return "its Canadian export side is not the plan's"
        links = [*message_unit.artifacts, *([message_unit.invoice_data] if message_unit.invoice_data else [])]
        for link in links:
            if self._hashes.get(f"{planned.folder}/{bundle.safe_filename(link.filename)}") != link.sha256:
                return f"{link.filename} is not the document in the bundle"
        return None

    def _check_unit(self, planned: _PlannedUnit) -> None:
        path = f"{planned.folder}/{registry.MANIFEST[1]}"
        try:
            manifest = json_object(self._archive.read(path))
            listed = _listed_documents(manifest)
        except UnreadableBundle as error:
            self._checks[path] = MemberCheck(path, "manifest", "digests", failure=str(error))
            return
        self._checks[path] = self._run_check(MemberCheck(path, "manifest", "digests"), self._treatment_check(planned))
        missing = REQUIRED - {kind for kind, _, _ in listed}
        if missing and self._checks[path].failure is None:
            self._checks[path] = _failed(self._checks[path], f"it does not list {', '.join(sorted(missing))}")
        for kind, filename, sha256 in [*listed, *self._profile_files(planned)]:
            at = f"{planned.folder}/{bundle.safe_filename(filename)}"
            proof: Proof = "treatment" if kind in READERS or kind == "cci_pdf" else "bytes"
            check = MemberCheck(at, kind, proof)
            if at in self._checks:
                check = _failed(check, "it is listed twice")
            elif FILES.get(kind) != filename and kind != broker_profile.ARTIFACT_TYPE:
                check = _failed(check, f"it is not the file of the document kind {kind}")
            elif at not in self._hashes:
                check = _failed(check, "it is missing")
            else:
                check = self._run_check(check, self._treatment_check(planned))
                if check.failure is None and self._hashes[at] != sha256:
                    check = _failed(check, "its hash is not the one in the unit's manifest")
            self._checks[at] = check

    def _profile_files(self, planned: _PlannedUnit) -> Iterator[tuple[str, str, str]]:
        """Yield the files of the broker's profile, which only the message names: they are rendered for the handoff."""
        for message_unit in () if self._message is None else self._message.units:
            if message_unit.unit_ref == planned.unit.unit_ref:
                for link in message_unit.artifacts:
                    if link.artifact_type == broker_profile.ARTIFACT_TYPE:
                        yield link.artifact_type, link.filename, link.sha256

    def _treatment_check(self, planned: _PlannedUnit) -> Callable[[MemberCheck], MemberCheck]:
        def examine(check: MemberCheck) -> MemberCheck:
            body = self._archive.read(check.path)
            kind = check.artifact_type
            if kind == "cci_pdf":
                body, kind = attached_file(body, ATTACHED), "cci_json"
                if hashlib.sha256(body).hexdigest() != self._hashes.get(f"{planned.folder}/{ATTACHED}"):
                    inside = find_difference(planned.lines, READERS[kind](body))
                    return _failed(check, inside or f"the {ATTACHED} inside differs from the one beside it")
            reader = READERS.get(kind or "")
            if reader is None:
                return check
            found = list(reader(body))
            failure = find_difference(planned.lines, found)
            if reader is merged_lines:
                failure = failure or find_merged_difference(planned.lines, merged_rows(body))
            digests = {line.line_ref: line.recomputed or line.stated or "" for line in found}
            recomputed = reader is merged_lines or any(line.recomputed for line in found)
            return MemberCheck(
                check.path,
                check.artifact_type,
                "treatment" if recomputed else "digests",
                len(found),
                treatment.unit_digest(digests),
                failure,
            )

        return examine

    def _check_manifest(self, check: MemberCheck) -> MemberCheck:
        if self._message is None:
            raise UnreadableBundle(f"it cannot be rebuilt without {MESSAGE}")
        info = bundle.BundleInfo(
            export_id=self._message.export_id,
            account_id=self._plan.account_id,
            batch_id=self._plan.batch_id,
            revision=self._message.revision,
            test=self._message.test,
            plan_hash=self._plan_hash,
            treatment_digest=self._digest,
            ruleset_id=self._plan.ruleset.id,
            ruleset_as_of=self._plan.ruleset.as_of,
            units=[bundle.BundledUnit(each.unit.unit_ref, each.folder, each.digest) for each in self._units],
        )
        expected = bundle.bundle_manifest(info, [member for member in self._members if member.path != MANIFEST])
        if self._archive.read(MANIFEST) != expected:
            return _failed(check, "it differs from the manifest built from plan, message and documents")
        return MemberCheck(check.path, None, "digests", None, self._digest)


def _read_plan(archive: Archive) -> tuple[Plan, str, str | None]:
    try:
        body = archive.read(PLAN)
        raw = json_object(body)
        plan = Plan.model_validate_json(body)
    except ValidationError as error:
        where = "/".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise UnreadableBundle(f"{PLAN}: /{where} is not valid in a plan") from None
    except (UnreadableBundle, ExportsError) as error:
        reason = str(error) if isinstance(error, UnreadableBundle) else "it does not fit the schema of a plan"
        raise UnreadableBundle(f"{PLAN}: {reason}") from error
    plan_hash = hash_json({name: value for name, value in raw.items() if name not in UNHASHED})
    failure = None
    if plan.plan_hash not in (None, plan_hash):
        failure = f"its planHash says {plan.plan_hash}, but its hash is {plan_hash}"
    elif canonical_json(raw).encode() != body:
        failure = "it is not canonical JSON"
    return plan, plan_hash, failure


def _planned_unit(unit_no: int, unit: Unit) -> _PlannedUnit:
    digests = treatment.line_digests(unit)
    lines = [
        CarriedLine(line.line_ref, digests[line.line_ref], line.hts_code, line.country_of_origin, line.treatment)
        for line in unit.lines
    ]
    return _PlannedUnit(unit, bundle.unit_folder(unit_no, unit.unit_ref), lines, treatment.unit_digest(digests))


def _message_line(line: Any) -> CarriedLine:
    return CarriedLine(line.line_ref, line.treatment_digest, line.hts_code, line.country_of_origin, line.treatment)


def _listed_documents(manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    try:
        return [
            (str(entry["artifactType"]), str(entry["filename"]), str(entry["sha256"]))
            for entry in manifest["documents"]
        ]
    except (KeyError, TypeError) as error:
        raise UnreadableBundle("it does not list the unit's documents") from error


def _manifest_hashes(archive: Archive) -> Mapping[str, str]:
    try:
        return {str(each["path"]): str(each["sha256"]) for each in json_object(archive.read(MANIFEST))["members"]}
    except (UnreadableBundle, KeyError, TypeError):
        return {}


def _failed(check: MemberCheck, failure: str) -> MemberCheck:
    return MemberCheck(check.path, check.artifact_type, check.proof, check.lines, check.digest, failure)


def _count_lines(units: Sequence[_PlannedUnit]) -> int:
    return sum(len(each.lines) for each in units)
