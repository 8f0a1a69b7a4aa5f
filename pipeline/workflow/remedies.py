"""Applies the remedies of the inbox, one item at a time."""

from dataclasses import dataclass
from typing import Final

from pipeline.accounts import partners
from pipeline.accounts.api_keys import ADMIN, OPERATE, Caller
from pipeline.core.errors import ValidationFailed
from pipeline.core.runtime import Runtime
from pipeline.deliveries import resend
from pipeline.deliveries.streams import recovery
from pipeline.exports.schemas.inbox import Remedy
from pipeline.workflow.acknowledgements import acknowledge_export, acknowledge_letter, reopen_export, reopen_letter
from pipeline.workflow.amendments import AMENDING_ROLES
from pipeline.workflow.interventions import cancel_export, find_for_change, release_export, retry_export
from pipeline.workflow.steps import TaskMessage, stream_tasks

#: The remedies of partners; the others are of exports and deliveries.
_OF_PARTNERS: Final = frozenset({Remedy.RESUME, Remedy.PAUSE, Remedy.TEST})


@dataclass(frozen=True)
class RemedyTarget:
    """What a remedy is applied to, as far as it needs it; `seen_seq` is the newest event that the person saw."""

    export_id: str = ""
    delivery_id: str = ""
    partner_id: str = ""
    seen_seq: int | None = None

    def id_for(self, remedy: Remedy) -> str:
        """Return the id that the remedy acts on."""
        if remedy in _OF_PARTNERS:
            return self.partner_id
        # Without an export, a dead letter is about a registered plan.
        return self.delivery_id if remedy is Remedy.RESEND or not self.export_id else self.export_id


def required_roles(remedy: Remedy) -> tuple[str, ...]:
    """Return the roles that may apply the remedy; one is enough."""
    if remedy is Remedy.AMEND:
        return AMENDING_ROLES
    return (ADMIN,) if remedy in _OF_PARTNERS else (OPERATE,)


def apply_remedy(
    runtime: Runtime, caller: Caller, remedy: Remedy, target: RemedyTarget, note: str | None = None
) -> list[TaskMessage]:
    """Apply the remedy to its target and return the task messages; the `note` is that of an acknowledgement.

    Raises NotFound, InvalidState, PreconditionFailed and Purged; ValidationFailed if the remedy is not for this target;
    and InsufficientRole for a missing role, or for a live export and a test key.
    """
    caller.require(*required_roles(remedy))
    account_id, wanted = caller.account_id, target.id_for(remedy)
    if not wanted:
        raise ValidationFailed(f"{remedy.value} cannot be applied to this item; choose another remedy")
    match remedy:
        case Remedy.RESEND:
            _, stream = resend.resend_delivery(runtime, account_id, wanted, caller.actor, test_only=caller.test)
            return stream_tasks([stream])
        case Remedy.RESUME:
            recovery.resume_partner(runtime, account_id, wanted, test_only=caller.test, actor=caller.actor)
            return []
        case Remedy.PAUSE:
            partners.pause_partner(runtime, account_id, wanted, test_only=caller.test, actor=caller.actor)
            return []
        case Remedy.ACKNOWLEDGE if not target.export_id:
            acknowledge_letter(runtime, account_id, wanted, caller.actor, note, test_only=caller.test)
            return []
        case Remedy.REOPEN if not target.export_id:
            reopen_letter(runtime, account_id, wanted, caller.actor, test_only=caller.test)
            return []
        case _ if not target.export_id:
            raise ValidationFailed(f"{remedy.value} cannot be applied to this item; choose another remedy")
        case _:
            return _apply_to_export(runtime, caller, remedy, find_for_change(runtime, caller, wanted), target, note)


def _apply_to_export(
    runtime: Runtime, caller: Caller, remedy: Remedy, export_id: str, target: RemedyTarget, note: str | None
) -> list[TaskMessage]:
    who = (caller.account_id, export_id, caller.actor)
    match remedy:
        case Remedy.RETRY:
            return retry_export(runtime, *who)
        case Remedy.CANCEL:
            return cancel_export(runtime, *who)
        case Remedy.RELEASE:
            return release_export(runtime, *who)
        case Remedy.ACKNOWLEDGE:
            acknowledge_export(runtime, *who, note, seen_seq=target.seen_seq)
        case Remedy.REOPEN:
            reopen_export(runtime, *who)
        case _:
            raise ValidationFailed(f"{remedy.value} is not applied to many at once; open the item")
    return []
