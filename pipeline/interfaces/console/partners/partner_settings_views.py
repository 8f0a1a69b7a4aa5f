"""Views of a partner's set-up: kinds and channels to choose from, the steps until it is live, and what each does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from config.settings import Settings
from pipeline.accounts.channels import CHANNEL_KINDS, ChannelKind, Endpoint, QueueEndpoint
from pipeline.accounts.schemas import CreatedPartner, PartnerView
from pipeline.accounts.states import PartnerState
from pipeline.interfaces.pages.filters import format_address
from pipeline.interfaces.pages.instants import format_instant

#: What each kind of partner is for, in one sentence.
KIND_TEXTS: Final = {
    "customs_broker": "Files entries with customs. It gets one handoff for each export, with all data and documents, and answers it.",
    "warehouse": "Packs and ships the goods. It gets one message for each package, without prices.",
    "operator": "Looks after the exports. It is notified when an export is executed or fails, or a broker does not answer.",
    "upstream": "Asks for exports. It is notified of those whose request names it, and of each of their entries.",
}

#: The states in which messages reach the partner, or are kept for it.
REACHED: Final = frozenset({PartnerState.LIVE, PartnerState.PAUSED})


@dataclass(frozen=True)
class SetupStep:
    """A step of the set-up. `mark` is done, next or later; `action` is the address of its form, empty if it has none."""

    title: str
    mark: str
    texts: Sequence[str]
    link: str = ""
    link_text: str = ""
    action: str = ""
    button: str = ""


def describe_lack(channel: ChannelKind, settings: Settings) -> str:
    """Return what the installation lacks for the channel, empty if nothing."""
    if channel.needs is None:
        return ""
    setting, lack = channel.needs
    return lack if getattr(settings, setting) is None else ""


def describe_left_out(kind: str) -> str:
    """Return why channels are not in the list, empty if all are."""
    name = kind.replace("_", " ")
    return " ".join(
        f"A {name} cannot be reached by {each.title.lower()}: it gets {each.why_not}."
        for each in CHANNEL_KINDS.values()
        if each.why_not and kind not in each.partner_kinds
    )


def describe_secret(partner: CreatedPartner) -> str:
    """Return what the partner does with its signing secret."""
    signed = next((kind for each in partner.channels if (kind := CHANNEL_KINDS[each.channel]).signed), None)
    if signed is not None:
        return f"The partner checks the signature of each {signed.title.lower()} with it, and signs its own answers."
    return "The partner signs the answers that it posts with it. Its channel needs no secret to receive."


def describe_change(partner: PartnerView) -> list[str]:
    """Return what a change of the settings does, one sentence each, before it is saved."""
    effects = [
        "Pending messages go to the new address or server from their next attempt on.",
        "Pending messages of a channel that you remove are refused at their next attempt, and become dead letters.",
        "A changed name, choice of documents or mark “test” takes effect with the next export.",
    ]
    if partner.state is PartnerState.VERIFIED:
        effects.append("After a change of its channels the partner must pass its connection test again.")
    if partner.state in REACHED:
        effects.append(f"The partner stays {partner.state}. Run its connection test after you change its channels.")
    return effects


def list_setup_steps(partner: PartnerView) -> list[SetupStep]:
    """Return the steps of the partner's set-up."""
    link = f"/console/partners/{quote(partner.id)}"
    reached = partner.state in REACHED
    passed = reached or partner.state is PartnerState.VERIFIED
    by = ", ".join(f"{each.channel} {_short_address(partner, each)}".strip() for each in partner.channels)
    settings = SetupStep(
        "Kind, channel and settings",
        "done",
        [f"A {partner.kind.replace('_', ' ')}, {f'reached by {by}' if by else 'without a channel'}."],
        f"{link}/settings",
        "Change the settings",
    )
    example = SetupStep(
        "Example dossier",
        "done" if passed else "next",
        ["The messages and documents that the partner will get, for an example plan. Show them to the partner."],
        f"{link}/example",
        "Look at the example",
    )
    return [
        settings,
        _build_test_step(partner, link, passed=passed),
        example,
        _build_live_step(partner, link, passed=passed),
    ]


def _build_test_step(partner: PartnerView, link: str, *, passed: bool) -> SetupStep:
    texts = ["The test contacts each channel stage by stage, and sends one test event. The partner ignores it."]
    test = partner.last_test
    if test is None and passed:
        texts.append("It was never tested: it was registered as live.")
    if test is not None:
        result = f"The last test {'passed' if test.passed else 'did not pass'}, "
        outdated = ". The channels were changed after it." if test.outdated else "."
        texts.append(format_instant(test.tested_at, result, outdated))
        failed = [
            f"{endpoint.channel}, {stage.name}: {stage.found}; {stage.remedy or 'test again'}."
            for endpoint in test.endpoints
            for stage in endpoint.stages
            if not stage.passed
        ]
        texts += failed
    button = "Run the connection test" if test is None else "Run the connection test again"
    return SetupStep(
        "Connection test",
        "done" if passed and test is not None else "next",
        texts,
        action=f"{link}/test",
        button=button,
    )


def _build_live_step(partner: PartnerView, link: str, *, passed: bool) -> SetupStep:
    if partner.state in REACHED:
        return SetupStep("Go live", "done", [f"The partner is {partner.state}."], link, "Open the partner")
    if not passed:
        return SetupStep("Go live", "later", ["Possible when the connection test has passed."])
    return SetupStep("Go live", "next", _describe_live(partner), action=f"{link}/activate", button="Go live")


def _describe_live(partner: PartnerView) -> list[str]:
    """Return what happens when the partner goes live, one sentence each."""
    first = partner.channels[0]
    by = f"{first.channel} {_short_address(partner, first)}".strip()
    happens = {
        "customs_broker": f"From then on, live plans may name {partner.id}. Their handoffs go to it by {by}.",
        "warehouse": f"From then on, live plans may name {partner.id}. It gets a message for each package by {by}.",
        "upstream": f"From then on, requests may name {partner.id}. It is notified of their exports by {by}.",
        "operator": f"From then on, it is notified of every export of this account by {by}.",
    }[partner.kind]
    return [
        happens,
        "Plans that were refused because it was not live are not sent by themselves: execute them again.",
        "You can pause it at any time. Then nothing is sent to it, and its messages are kept.",
    ]


def _short_address(partner: PartnerView, endpoint: Endpoint) -> str:
    return "" if isinstance(endpoint, QueueEndpoint) else format_address(endpoint, partner)
