"""The checks of a plan against its partners: that both can be reached, and that the broker's own file carries its facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, bindparam, func, or_, select
from sqlmodel import Session

from config.settings import Settings
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.recipients import BORDERBUDDY
from pipeline.accounts.states import PartnerState, describe_activation
from pipeline.core.db import table
from pipeline.core.errors import PartnerNotLive, PlanNotExecutable, UnknownPartner
from pipeline.core.findings import Finding, count_by_rule, top_findings
from pipeline.documents.formats.profile_checks import check_file
from pipeline.documents.schemas.profile import MessageProfile, read_own_file
from pipeline.exports.schemas.plan import Plan

#: The rule of a live export to a test partner.
FILES_NOTHING: Final = "A04"

_partners, _channels = table(Partner).c, table(PartnerChannel).c
_EMAIL: Final = "email"
_ONLY_EMAIL: Final = (
    select(and_(func.min(_channels.channel) == _EMAIL, func.max(_channels.channel) == _EMAIL))
    .where(_channels.account_id == _partners.account_id, _channels.partner_id == _partners.id)
    .scalar_subquery()
    .label("only_email")
)
_FIND_PARTNERS: Final = select(
    _partners.kind, _partners.id, _partners.state, _partners.test, _partners.path, _partners.profile, _ONLY_EMAIL
).where(
    _partners.account_id == bindparam("of_account"),
    or_(*(_partners.id == bindparam(name) for name in ("broker", "warehouse", "upstream"))),
)


@dataclass(frozen=True)
class BrokerFacts:
    """The profile of a plan's broker, None without one, and whether nobody files what it gets of a live export."""

    profile: Mapping[str, Any] | None
    files_nothing: bool


def check_partners(
    session: Session, settings: Settings, caller: Caller, plan: Plan, upstream: str | None = None
) -> BrokerFacts:
    """Return what is known of the plan's broker; `upstream` is the partner for whom it is to be executed.

    Raises UnknownPartner or PartnerNotLive if this caller cannot reach one of the partners.
    """
    required = (
        ("customs_broker", plan.broker.id, "/plan/broker/id"),
        ("warehouse", plan.warehouse.id, "/plan/warehouse/id"),
        *([] if upstream is None else [("upstream", upstream, "/upstream")]),
    )
    named = {
        "of_account": caller.account_id,
        "broker": plan.broker.id,
        "warehouse": plan.warehouse.id,
        "upstream": upstream,
    }
    partners = {(partner.kind, partner.id): partner for partner in session.execute(_FIND_PARTNERS, named)}
    for kind, partner_id, field in required:
        partner = partners.get((kind, partner_id))
        noun = kind.replace("_", " ")
        if partner is None:
            raise UnknownPartner(f"no {noun} {partner_id} is registered; register it, or name another one", field=field)
        state = PartnerState(partner.state)
        # A test key may use a test partner before the partner is live.
        tried_out = caller.mode == "test" and partner.test and state is not PartnerState.PAUSED
        if state is not PartnerState.LIVE and not tried_out:
            remedy = describe_activation(caller.account_id, partner_id, state)
            raise PartnerNotLive(f"the {noun} {partner_id} is {state}; {remedy}", field=field)
        if caller.mode == "test" and not partner.test:
            raise UnknownPartner(
                f"the {noun} {partner_id} is live, and a test export must not reach it; name a test partner",
                field=field,
            )
    broker = partners["customs_broker", plan.broker.id]
    if broker.only_email and not broker.test and settings.smtp_url is None:
        raise PartnerNotLive(
            f"only e-mail reaches the customs broker {broker.id}, and this installation has no mail server;"
            " set EXPORTS_SMTP_URL, or name another customs broker",
            field="/plan/broker/id",
        )
    # A test partner is reached by the sandbox of the path.
    if broker.path == BORDERBUDDY and not broker.test and settings.borderbuddy_url is None:
        raise PartnerNotLive(
            f"the customs broker {broker.id} takes handoffs by the BorderBuddy contract, and this installation has no"
            " endpoint of it; set EXPORTS_BORDERBUDDY_URL, or name another customs broker",
            field="/plan/broker/id",
        )
    return BrokerFacts(broker.profile, files_nothing=broker.test and caller.mode == "live")


def list_broker_findings(broker: BrokerFacts, plan: Plan) -> Sequence[Finding]:
    """Return the findings about a broker that files nothing (A04), and about the broker's own message; a table has none."""
    own = None if broker.profile is None else read_own_file(broker.profile)
    about_file = check_file(own, plan) if isinstance(own, MessageProfile) else []
    if not broker.files_nothing:
        return about_file
    sandbox = Finding.warning(
        FILES_NOTHING,
        "/broker/id",
        f"Customs broker {plan.broker.id} is a test partner: it may answer like a sandbox, and nobody files the entry.",
        "Name the customs broker who files. If this is a trial, use a test key.",
    )
    return [sandbox, *about_file]


def refuse_uncarried(found: Sequence[Finding]) -> None:
    """Raise PlanNotExecutable if the broker's own message cannot carry a number of the plan."""
    blocking = [finding for finding in found if finding.severity == "block"]
    if blocking:
        raise PlanNotExecutable(top_findings(blocking), count_by_rule(blocking))
