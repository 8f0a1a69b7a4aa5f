"""The pro forma invoice of a plan that is not executed: the page of the commercial invoice, and what is still missing."""

from datetime import date
from typing import Final, Literal

from pipeline.accounts.api_keys import Caller
from pipeline.accounts.print_settings import PrintSettings, find_logo, find_print_settings
from pipeline.core.cache import BuildCache
from pipeline.core.errors import (
    InvalidRequest,
    InvalidState,
    NotFound,
    NotReady,
    RendererCrashed,
    RendererUnavailable,
    StepFailed,
)
from pipeline.core.findings import SEVERITY_ORDER, top_findings
from pipeline.core.runtime import Runtime
from pipeline.customs import rulesets
from pipeline.customs.reference.content import use_rules
from pipeline.documents.formats import invoice, invoice_pdf
from pipeline.documents.pdf.pictures import PICTURES, WIDTH
from pipeline.documents.registry import Document
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.examples import load_plan
from pipeline.exports.models import PlanSnapshot
from pipeline.exports.plans import HashedPlan, hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow.preflight import find_executed_export, load_snapshot, preflight
from pipeline.workflow.render_documents import build_plan_invoice

ProformaFormat = Literal["pdf", "html"]

_FORMATS: Final = {
    "pdf": ("application/pdf", invoice_pdf.VERSION, invoice_pdf.invoice_pdf),
    "html": ("text/html; charset=utf-8", invoice.HTML_VERSION, invoice.invoice_html),
}

#: The most lines of a unit: a request waits for the page, which takes about a second for each five hundred.
MAX_LINES: Final = 2_000

#: Pages are made one at a time, and few requests wait. None is kept: findings depend on what the account does meanwhile.
_rendered: Final[BuildCache[tuple[str, str, int, str], Document]] = BuildCache("pro forma invoices", most_kept=0)

#: The example plan that shows print settings; it is of no account.
_EXAMPLE: Final = "cookware"
_examples: Final[BuildCache[tuple[PrintSettings, date], bytes]] = BuildCache("examples of printed pages", most_kept=16)


def load_registered_plan(runtime: Runtime, caller: Caller, plan_id: str) -> HashedPlan:
    """Return a registered plan of the caller's account. Raises NotFound, and InvalidState if it was purged."""
    with runtime.db.read() as session:
        stored = session.get(PlanSnapshot, plan_id)
        if stored is None or (stored.account_id, stored.test) != (caller.account_id, caller.test):
            raise NotFound(f"there is no plan {plan_id} in this account; register it, or send the plan itself")
        return load_snapshot(stored)


def render_proforma(
    runtime: Runtime,
    caller: Caller,
    hashed: HashedPlan,
    *,
    unit_ref: str | None = None,
    file_format: ProformaFormat = "pdf",
    may_replace: bool = False,
) -> Document:
    """Return the pro forma invoice of a plan's unit; nothing is stored or sent. A plan of one unit needs no `unit_ref`.

    With `may_replace`, the plan may replace the executed one of its batch.

    Raises InvalidAccountScope, NotFound and InvalidRequest for a wrong unit, InvalidState if the plan was executed, and
    NotReady if the renderer does not work now, or if too many requests wait for it.
    """
    number = _find_unit(hashed, unit_ref)
    findings = preflight(runtime, caller, hashed, may_replace=may_replace)
    with runtime.db.read() as session:
        executed = find_executed_export(session, caller, hashed.plan.batch_id)
        if executed is not None and executed.plan_hash == hashed.plan_hash:
            raise InvalidState(
                f"the plan was executed as export {executed.id}, so it has a commercial invoice; read that export's documents"
            )
        french = find_print_settings(session, caller.account_id).french
        logo = find_logo(session, caller.account_id)
        rules = rulesets.read_active(session)
    unwaived = [finding for finding in findings if finding.waived_by is None]
    with use_rules(rules):
        made = build_plan_invoice(
            hashed,
            number,
            package_number="not executed",
            revision=0,
            test=caller.test,
            findings=sorted(top_findings(unwaived), key=lambda finding: SEVERITY_ORDER[finding.severity]),
            kind="proforma",
            french=french,
            logo=None if logo is None else logo.picture,
        )
    return _rendered.get((caller.account_id, hashed.plan_hash, number, file_format), lambda: _render(made, file_format))


def draw_print_example(runtime: Runtime, account_id: str) -> bytes:
    """Return the first page of an example invoice as new exports of the account print it, as a PNG.

    Raises NotFound, and NotReady as `render_proforma` does.
    """
    with runtime.db.read() as session:
        settings, logo = find_print_settings(session, account_id), find_logo(session, account_id)
    today = runtime.clock().date()
    picture = None if logo is None else logo.picture
    return _examples.get((settings, today), lambda: _draw_example(today, french=settings.french, logo=picture))


def _draw_example(today: date, *, french: bool, logo: bytes | None) -> bytes:
    raw = load_plan(_EXAMPLE, today)
    made = build_plan_invoice(
        hash_plan(Plan.model_validate(raw), raw),
        1,
        package_number="CP-EXAMPLE",
        revision=1,
        test=True,
        findings=(),
        french=french,
        logo=logo,
    )
    try:
        return PICTURES.draw_first_page(invoice_pdf.invoice_pdf(made), WIDTH)
    except (RendererCrashed, RendererUnavailable, StepFailed) as error:
        raise NotReady(f"the example cannot be drawn now: {error}; load the page again in a moment") from error


def _find_unit(hashed: HashedPlan, unit_ref: str | None) -> int:
    """Return the number of the unit, from 1. Raises NotFound and InvalidRequest."""
    refs = [unit.unit_ref for unit in hashed.plan.units]
    if unit_ref is None and len(refs) > 1:
        raise InvalidRequest(
            f"the plan has {len(refs)} units; name one of them, such as unit={refs[0]}", field="/query/unit"
        )
    if unit_ref is not None and unit_ref not in refs:
        raise NotFound(f"the plan has no unit {unit_ref}; its first one is {refs[0]}", field="/query/unit")
    at = 0 if unit_ref is None else refs.index(unit_ref)
    lines = len(hashed.plan.units[at].lines)
    if lines > MAX_LINES:
        raise InvalidRequest(
            f"unit {refs[at]} has {lines} lines, and a pro forma invoice at most {MAX_LINES}; divide the unit, or execute"
            " the plan"
        )
    return at + 1


def _render(made: Invoice, file_format: ProformaFormat) -> Document:
    media_type, version, make = _FORMATS[file_format]
    try:
        body = make(made)
    except (RendererCrashed, RendererUnavailable, StepFailed) as error:
        raise NotReady(
            f"the pro forma invoice cannot be rendered now: {error}; try again in a moment",
            headers={"Retry-After": "5"},
        ) from error
    return Document("proforma", f"proforma_{made.provenance.unit_ref}.{file_format}", media_type, version, body)
